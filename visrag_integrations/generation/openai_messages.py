"""Conversations as chat completions requests, and answers of such servers as generations. Pure functions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.generation.budget import PictureGrid, share_tokens
from visrag_integrations.generation.chat import check_image_count, merged_parts
from visrag_integrations.images import encode, open_picture, to_rgb
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page, Usage

if TYPE_CHECKING:
    from PIL.Image import Image

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


def to_openai_messages(conversation: Conversation, pictures: Sequence[bytes]) -> list[dict[str, Any]]:
    """The messages of a request; each picture stands where the conversation shows one, as a data URI.

    >>> from visrag_integrations.types import Message
    >>> to_openai_messages((Message(("How many?",)),), [])
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'How many?'}]}]
    """
    left = iter(pictures)
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part}
                if part is not None
                else {"type": "image_url", "image_url": {"url": data_uri(next(left))}}
                for part in parts
            ],
        }
        for message, parts in zip(conversation, merged_parts(conversation), strict=True)
    ]


def data_uri(encoded: bytes) -> str:
    """The bytes of a picture file as a URI.

    >>> data_uri(b"GIF8")
    'data:image/png;base64,R0lGOA=='
    """
    kinds = {b"\xff\xd8\xff": "JPEG", b"RIFF": "WEBP"}
    kind = next((kind for start, kind in kinds.items() if encoded.startswith(start)), "PNG")
    return f"data:{MEDIA_TYPES[kind]};base64,{base64.b64encode(encoded).decode('ascii')}"


def shown_pictures(conversation: Conversation, max_images: int | None) -> list[Image]:
    """The pictures a conversation shows, in order.

    Raises:
        GenerationError: They are more than `max_images`.
    """
    sources = [
        part.picture if isinstance(part, Page) else part
        for message in conversation
        for part in message.content
        if not isinstance(part, str) and not (isinstance(part, Page) and part.picture is None)
    ]
    if max_images is not None:
        check_image_count(len(sources), max_images)
    return [to_rgb(open_picture(source)) for source in sources if source is not None]


def encoded_pictures(pictures: Sequence[Image], budget: int | None, format: str) -> list[bytes]:
    """The pictures as files, scaled down where they take more than `budget` tokens together.

    Raises:
        GenerationError: Not even small ones fit.
    """
    grid = PictureGrid()
    if budget is not None and pictures:
        shares = share_tokens([grid.tokens(*picture.size) for picture in pictures], budget)
        pictures = [grid.fit(picture, share) for picture, share in zip(pictures, shares, strict=True)]
    return [encode(picture, format, quality=95) for picture in pictures]


def to_request(settings: GenerationSettings, *, vllm: bool, logprobs: bool, token_limit: str) -> dict[str, Any]:
    """The settings in the words of a request; what only vLLM knows goes into `extra_body`.

    >>> settings = GenerationSettings(temperature=0.0, max_tokens=9)
    >>> to_request(settings, vllm=False, logprobs=False, token_limit="max_tokens")
    {'max_tokens': 9, 'temperature': 0.0}
    """
    named: dict[str, Any] = {
        token_limit: settings.max_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed,
        "stop": list(settings.stop) or None,
        "logprobs": logprobs or None,
    }
    request = {name: value for name, value in named.items() if value is not None}
    if settings.json_schema is not None:
        schema = {"name": "answer", "schema": dict(settings.json_schema), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    if vllm and settings.repetition_penalty is not None:
        request["extra_body"] = {"repetition_penalty": settings.repetition_penalty}
    return request


class Tally:
    """Adds up what a server says while it writes: log-probabilities, usage, how it ended."""

    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self._before: Usage | None = None

    def begin(self) -> None:
        """Another request writes on; the first one's prompt is the one that counts."""
        self._before, self.finish_reason = self.usage, None

    def read(self, answer: Mapping[str, Any]) -> str:
        """The new text of one answer or chunk."""
        if used := answer.get("usage"):
            read, wrote = int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)
            before = self._before
            self.usage = Usage(before.input_tokens, before.output_tokens + wrote) if before else Usage(read, wrote)
        text = ""
        for choice in answer.get("choices") or ():
            said = choice.get("message") or choice.get("delta") or {}
            text += said.get("content") or said.get("refusal") or ""
            for token in (choice.get("logprobs") or {}).get("content") or ():
                self.sum, self.count = self.sum + float(token["logprob"]), self.count + 1
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return text

    def last_piece(self, text: str = "") -> Generation:
        """What is known at the end."""
        reason = "length" if self.finish_reason == "length" else "stop"
        return Generation(text, self.sum / self.count if self.count else None, self.usage, reason)
