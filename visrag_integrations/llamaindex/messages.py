"""LlamaIndex chat messages as core conversations, and generations as chat responses: pure, tested without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, MessageRole, TextBlock

from visrag_integrations import images
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.inert import inert
from visrag_integrations.llamaindex.pictures import picture_of, picture_of_node
from visrag_integrations.types import Conversation, Generation, Message, Page, Part

Role = Literal["system", "user", "assistant"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("assistant", "chatbot", "model"), "assistant"),
}
_SILENT = frozenset({"thinking", "cache", "tool_call"})
"""Blocks of earlier turns that say nothing to this model."""


def to_conversation(messages: Sequence[ChatMessage], *, fetch_urls: bool = False) -> Conversation:
    """The messages as the core takes them; neighbours of one role become one turn.

    >>> to_conversation([ChatMessage("Hello"), ChatMessage("you")])
    (Message(content=('Hello', 'you'), role='user'),)

    Raises:
        SettingError: A block that is neither text nor image.
        PictureError: An image that cannot be used.
    """
    turns: list[Message] = []
    for message in messages:
        role = _ROLES.get(message.role.value, "user")
        parts = tuple(part for block in message.blocks for part in _parts(block, fetch_urls))
        if turns and turns[-1].role == role:
            turns[-1] = Message(turns[-1].content + parts, role)
        else:
            turns.append(Message(parts, role))
    return tuple(turns)


def to_chat_messages(conversation: Conversation) -> list[ChatMessage]:
    """The conversation as LlamaIndex's messages; pages become image blocks, or text where they have no picture.

    >>> to_chat_messages((Message(("How many?", Page("d", 1, text="12 boxes"))),))[0].content
    'How many?\\n12 boxes'
    """
    return [
        ChatMessage(role=MessageRole(turn.role), blocks=[_block(part) for part in turn.content])
        for turn in conversation
    ]


def spoken(conversation: Conversation) -> list[ChatMessage]:
    """The conversation for those who only watch: its texts, and a note where a page is shown.

    >>> spoken((Message(("How many?", Page("d", 2, source="a.pdf"))),))[0].content
    'How many?\\n[a.pdf, page 2]'
    """
    return [
        ChatMessage(role=MessageRole(turn.role), blocks=[TextBlock(text=_said(part)) for part in turn.content])
        for turn in conversation
    ]


def to_response(written: Generation, model: str, *, delta: str | None = None) -> ChatResponse:
    """What was written as a chat response; usage, log-probability and finish reason are in `raw`.

    >>> to_response(Generation("12", finish_reason="stop"), "m").raw
    {'model': 'm', 'finish_reason': 'stop', 'logprob': None, 'usage': None}
    """
    usage = None
    if written.usage is not None:
        into, out = written.usage.input_tokens, written.usage.output_tokens
        usage = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
    raw = {"model": model, "finish_reason": written.finish_reason, "logprob": written.logprob, "usage": usage}
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=written.text),
        raw=raw,
        delta=delta,
        additional_kwargs=dict(usage or {}),
    )


def with_images(prompt: str, documents: Iterable[Any]) -> ChatMessage:
    """A prompt with the pictures of image documents or nodes as one user message."""
    blocks: list[Any] = [TextBlock(text=prompt)]
    for document in documents:
        picture = picture_of_node(getattr(document, "node", document))
        if picture is not None:
            blocks.append(_image_block(Page("image", 1, picture=picture)))
    return ChatMessage(role=MessageRole.USER, blocks=blocks)


def _parts(block: Any, fetch_urls: bool) -> Iterable[Part]:
    kind = block.block_type
    if kind == "text":
        return (block.text,) if block.text else ()
    if kind == "image":
        return (_page_of(block, fetch_urls),)
    if kind in ("citable", "citation"):
        nested = block.content if kind == "citable" else [block.cited_content]
        return [part for inner in nested for part in _parts(inner, fetch_urls)]
    if kind in _SILENT:
        return ()
    raise SettingError(
        f"A message has a block of type {kind!r}; this model reads text and images. Read documents into page images "
        "first: VisRAGReader().load_data(path)."
    )


def _page_of(block: ImageBlock, fetch_urls: bool) -> Page:
    """The picture of a block as page 1 of a document of its own."""
    picture = picture_of(block.image, block.path, block.url, fetch_urls=fetch_urls)
    if picture is None:
        raise SettingError("An image block has no image. Give it image=bytes, path= or url=.")
    known = picture if isinstance(picture, bytes) else str(block.path or block.url).encode()
    return Page(hashlib.sha256(known).hexdigest(), 1, source=str(block.path or ""), picture=picture)


def _block(part: Part) -> TextBlock | ImageBlock:
    if isinstance(part, str):
        return TextBlock(text=part)
    if isinstance(part, Page):
        return TextBlock(text=inert(part.text)) if part.picture is None else _image_block(part)
    return _image_block(Page("image", 1, picture=part))


def _image_block(page: Page) -> ImageBlock:
    picture = page.picture
    if isinstance(picture, Path):
        return ImageBlock(path=picture)
    made = picture() if callable(picture) else picture
    data = made if isinstance(made, bytes) else images.encode(made, "PNG")  # type: ignore[arg-type]
    return ImageBlock(image=data)


def _said(part: Part) -> str:
    if isinstance(part, str):
        return part
    return f"[{part.source or part.doc_id}, page {part.number}]" if isinstance(part, Page) else "[image]"


def pick(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of the names that were given with a value."""
    return {name: given[name] for name in names if given.get(name) is not None}
