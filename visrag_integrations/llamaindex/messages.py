"""LlamaIndex chat messages as core conversations, and generations as chat responses: pure, tested without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, MessageRole, TextBlock

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.inert import inert
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.llamaindex.node_pictures import NO_URLS, UrlRules, encoded_picture, picture_of, picture_of_node
from visrag_integrations.types import Conversation, Generation, Message, Page, Part

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource

Role = Literal["system", "user", "assistant"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("assistant", "chatbot", "model"), "assistant"),
}
_SILENT = frozenset({"thinking", "cache", "tool_call"})
"""Blocks of earlier turns that say nothing to this model."""


def to_conversation(
    messages: Sequence[ChatMessage], *, fetch_urls: FetchUrls = False, file_urls: bool = False
) -> Conversation:
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
        parts = to_parts(message, UrlRules(fetch_urls, file_urls))
        # Chat templates expect the roles to alternate.
        if turns and turns[-1].role == role:
            turns[-1] = Message((*turns[-1].content, *parts), role)
        else:
            turns.append(Message(tuple(parts), role))
    return tuple(turns)


def to_parts(message: ChatMessage, urls: UrlRules = NO_URLS) -> list[Part]:
    """Texts and pages of one message, in order; blocks that say nothing to a model are left out."""
    parts: list[Part] = []
    for block in message.blocks:
        parts += _parts(block, urls)
    return parts


def to_chat_messages(conversation: Conversation) -> list[ChatMessage]:
    """The conversation as LlamaIndex's messages; pages become image blocks, or text where they have no picture.

    >>> to_chat_messages((Message(("How many?", Page("d", 1, text="12 boxes"))),))[0].content
    'How many?\\n12 boxes'
    """
    messages = []
    for turn in conversation:
        blocks = list(map(_block, turn.content))
        messages.append(ChatMessage(role=MessageRole(turn.role), blocks=blocks))
    return messages


def to_event_messages(conversation: Conversation) -> list[ChatMessage]:
    """The conversation as callbacks and events get it: its texts, and a note where a page is shown.

    >>> to_event_messages((Message(("How many?", Page("d", 2, source="a.pdf"))),))[0].content
    'How many?\\n[a.pdf, page 2]'
    """
    messages = []
    for turn in conversation:
        blocks: list[Any] = [TextBlock(text=_noted(part)) for part in turn.content]
        messages.append(ChatMessage(role=MessageRole(turn.role), blocks=blocks))
    return messages


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


def with_images(prompt: str, documents: Iterable[Any], urls: UrlRules = NO_URLS) -> ChatMessage:
    """A prompt with the pictures of image documents or nodes as one user message."""
    blocks: list[Any] = [TextBlock(text=prompt)]
    for document in documents:
        picture = picture_of_node(getattr(document, "node", document), urls)
        if picture is not None:
            blocks.append(_image_block(picture))
    return ChatMessage(role=MessageRole.USER, blocks=blocks)


def _parts(block: Any, urls: UrlRules) -> list[Part]:
    kind = block.block_type
    if kind == "text" and block.text:
        return [block.text]
    if kind == "image":
        return [_page_of(block, urls)]
    if kind == "citation":
        return _parts(block.cited_content, urls)
    if kind == "citable":
        parts: list[Part] = []
        for inner in block.content:
            parts += _parts(inner, urls)
        return parts
    if kind == "text" or kind in _SILENT:
        return []
    raise SettingError(
        f"A message has a block of type {kind!r}; this model reads text and images. Read documents into page images "
        "first: VisRAGReader().load_data(path)."
    )


def _page_of(block: ImageBlock, urls: UrlRules) -> Page:
    """The picture of a block as page 1 of a document of its own."""
    picture = picture_of(block.image, block.path, block.url, urls)
    if picture is None:
        raise SettingError("An image block has no image. Give it image=bytes, path= or url=.")
    # Equal pictures are one page, so that an answer can name it: by their bytes, or by where they are.
    known = picture
    if not isinstance(known, bytes):
        known = str(block.path or block.url).encode()
    return Page(hashlib.sha256(known).hexdigest(), 1, source=str(block.path or ""), picture=picture)


def _block(part: Part) -> TextBlock | ImageBlock:
    if isinstance(part, str):
        return TextBlock(text=part)
    if not isinstance(part, Page):
        return _image_block(part)
    if part.picture is None:
        return TextBlock(text=inert(part.text))
    return _image_block(part.picture)


def _image_block(picture: PictureSource) -> ImageBlock:
    if isinstance(picture, Path):
        return ImageBlock(path=picture)
    # PNG loses nothing: JPEG would blur small print.
    return ImageBlock(image=encoded_picture(picture, "PNG"))


def _noted(part: Part) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Page):
        return f"[{part.source or part.doc_id}, page {part.number}]"
    return "[image]"
