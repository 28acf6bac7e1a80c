"""Conversations as chat completions requests, and answers of such servers as generations. Pure functions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.generation.budget import PictureGrid, check_shape, share_tokens
from visrag_integrations.generation.chat import merged_parts
from visrag_integrations.generation.streaming import mean
from visrag_integrations.generation.strict_schema import response_format
from visrag_integrations.images import open_picture, sniff_format, to_rgb
from visrag_integrations.images.sending import encoded_file, load, unchanged, upright_size
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Usage

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.images import PictureSource

_STARTS = {b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}  # first bytes of the files we make, PNG apart


def to_openai_messages(conversation: Conversation, pictures: Sequence[bytes]) -> list[dict[str, Any]]:
    """The messages of a request; each picture stands where the conversation shows one, as a data URI.

    >>> from visrag_integrations.types import Message
    >>> to_openai_messages((Message(("How many?",)),), [])
    [{'role': 'user', 'content': [{'type': 'text', 'text': 'How many?'}]}]
    """
    left = iter(pictures)
    messages = []
    for message, parts in zip(conversation, merged_parts(conversation), strict=True):
        content: list[dict[str, Any]] = []
        for part in parts:
            if part is None:
                content.append({"type": "image_url", "image_url": {"url": data_uri(next(left))}})
            else:
                content.append({"type": "text", "text": part})
        messages.append({"role": message.role, "content": content})
    return messages


def data_uri(encoded: bytes) -> str:
    """The bytes of a picture file as a URI.

    >>> data_uri(b"GIF8")
    'data:image/png;base64,R0lGOA=='
    """
    media_type = "image/png"
    for start, other in _STARTS.items():
        if encoded.startswith(start):
            media_type = other
    return f"data:{media_type};base64,{base64.b64encode(encoded).decode('ascii')}"


def encoded_pictures(sources: Sequence[PictureSource], budget: int | None, format: str) -> list[bytes]:
    """The pictures as files, scaled down where they take more than `budget` tokens together.

    A JPEG, PNG or WebP file that need not be scaled goes as it is: encoding it again would make it larger or worse.

    Raises:
        GenerationError: Not even small ones fit.
    """
    grid = PictureGrid()  # a server does not say how its model counts: as Qwen2-VL
    loaded = list(map(load, sources))
    shares: list[int | None] = [None] * len(loaded)
    if budget is not None and loaded:
        sizes = [upright_size(picture) for picture in loaded]
        for size in sizes:
            check_shape(*size)
        wanted = [grid.tokens(*size) for size in sizes]
        for place, share in enumerate(share_tokens(wanted, budget)):
            if share < wanted[place]:
                shares[place] = share
    return [_file(picture, grid, share, format) for picture, share in zip(loaded, shares, strict=True)]


def _file(loaded: Image | bytes, grid: PictureGrid, share: int | None, format: str) -> bytes:
    """One picture as a file, scaled down to `share` tokens where that is given."""
    if share is None and isinstance(loaded, bytes):
        file = _as_it_is(loaded, format)
        if file is not None:
            return file
    image = to_rgb(open_picture(loaded))
    if share is not None:
        image = grid.fit(image, share)
    # 95, for JPEG and WebP: at Pillow's own 75 small print is blurred; PNG is exact and ignores it.
    return encoded_file(image, format, quality=95).data


def _as_it_is(data: bytes, format: str) -> bytes | None:
    """The file without its metadata; None where it has to be encoded."""
    # Who asks for JPEG or WebP wants small requests, and PNG files are large.
    if format.upper() != "PNG" and sniff_format(data) == "PNG":
        return None
    file = unchanged(data)
    if file is None:
        return None
    return file.data


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
        request["response_format"] = response_format(settings.json_schema)
    if vllm and settings.repetition_penalty is not None:
        request["extra_body"] = {"repetition_penalty": settings.repetition_penalty}
    return request


class ChatTotals:
    """Adds up what a server says while it writes: log-probabilities, usage, how it ended."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self._logprobs: list[float] = []
        self._before: Usage | None = None

    def begin(self) -> None:
        """Another request writes on; the first one's prompt is the one that counts."""
        self._before = self.usage
        self.finish_reason = None

    def read(self, answer: Mapping[str, Any]) -> str:
        """The new text of one answer or chunk."""
        if used := answer.get("usage"):
            self._use(used)
        text = ""
        for choice in answer.get("choices") or ():
            # "message" in a whole answer, "delta" in a chunk; servers write null for what they leave out.
            said = choice.get("message") or choice.get("delta") or {}
            text += said.get("content") or said.get("refusal") or ""
            for token in (choice.get("logprobs") or {}).get("content") or ():
                self._logprobs.append(float(token["logprob"]))
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return text

    def _use(self, used: Mapping[str, Any]) -> None:
        read = int(used.get("prompt_tokens") or 0)
        wrote = int(used.get("completion_tokens") or 0)
        if self._before is not None:
            read = self._before.input_tokens
            wrote += self._before.output_tokens
        self.usage = Usage(read, wrote)

    def last_piece(self) -> Generation:
        """An empty piece with what is known at the end."""
        reason = "length" if self.finish_reason == "length" else "stop"
        return Generation("", mean(self._logprobs), self.usage, reason)
