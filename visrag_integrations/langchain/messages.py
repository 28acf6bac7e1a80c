"""LangChain messages as conversations of the core: every shape of text and image block."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import BaseMessage, ToolMessage

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.inert import inert
from visrag_integrations.generation.shown_pages import ShownPage, shown_pages
from visrag_integrations.images.urls import FetchUrls, decode_base64
from visrag_integrations.langchain.file_blocks import pages_of_file
from visrag_integrations.langchain.image_references import picture_of
from visrag_integrations.types import Conversation, Message, Page, PageText, Part

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource

# The names of blocks are those of LangChain's standard content, OpenAI's two APIs and Anthropic's.
_TEXT_TYPES = {"text", "text-plain", "input_text", "output_text"}
_IMAGE_TYPES = {"image", "image_url", "input_image"}
_FILE_TYPES = {"file", "input_file", "document"}
_SKIPPED_TYPES = {
    *("reasoning", "thinking", "redacted_thinking"),
    *("tool_use", "tool_call", "tool_call_chunk", "tool_result"),
}
"""Blocks of earlier turns that say nothing to this model; tool calls travel in `AIMessage.tool_calls`."""
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("ai", "assistant", "AIMessageChunk"), "assistant"),
}
"""LangChain's message types and the roles of a `ChatMessage`; all others are the user's."""


def to_conversation(messages: Sequence[BaseMessage], *, fetch_urls: FetchUrls = False) -> Conversation:
    """The messages as the core takes them; neighbours of one role become one turn.

    >>> from langchain_core.messages import HumanMessage
    >>> to_conversation([HumanMessage("Hello"), HumanMessage([{"type": "text", "text": "you"}])])
    (Message(content=('Hello', 'you'), role='user'),)

    Raises:
        SettingError: A block that is neither text nor image.
        PictureError: An image that cannot be used.
    """
    turns: list[Message] = []
    for message in messages:
        role = role_of(message)
        parts = to_parts(message, fetch_urls=fetch_urls)
        if isinstance(message, ToolMessage):
            # Conversations of the core have no role for tools, so it says what it is.
            parts = (f"Result of the tool {message.name or message.tool_call_id}:", *parts)
        if turns and turns[-1].role == role:  # models are trained on turns that alternate
            turns[-1] = dataclasses.replace(turns[-1], content=turns[-1].content + parts)
        else:
            turns.append(Message(parts, role))
    return tuple(turns)


def role_of(message: BaseMessage) -> Literal["system", "user", "assistant"]:
    """The role whose turn the message is in; a `ChatMessage` names its role itself."""
    return _ROLES.get(str(getattr(message, "role", message.type)), "user")


def to_parts(message: BaseMessage, *, fetch_urls: FetchUrls = False) -> tuple[Part, ...]:
    """Texts and pages of one message, in order; blocks that say nothing to a model are left out."""
    blocks = [message.content] if isinstance(message.content, str) else message.content
    parts: list[Part] = []
    for block in blocks:
        if isinstance(block, Mapping) and block.get("type") in _FILE_TYPES:
            parts += pages_of_file(block, fetch_urls=fetch_urls)
            continue
        part = _part(block, fetch_urls)
        if part is not None:
            parts.append(part)
    return tuple(parts)


def page_to_block(page: Page) -> dict[str, Any]:
    """The page's picture as a standard image block that remembers which page it is; a text block where it has none."""
    (shown,) = shown_pages([page], captions=False)
    return shown_block(shown)


def shown_block(shown: ShownPage) -> dict[str, Any]:
    """What is shown of a page as a standard block; a text block has nothing but its text, as servers demand."""
    if isinstance(shown.shown, str):
        return {"type": "text", "text": shown.shown}
    encoded = base64.b64encode(shown.shown.data).decode("ascii")
    return {"type": "image", "base64": encoded, "mime_type": shown.shown.mime, "extras": {"visrag": _known(shown.page)}}


def text_page_to_block(page: Page) -> dict[str, Any]:
    """The page's text as a block that remembers which page it is: for ChatEVisRAG, which cites it, and no other."""
    return {"type": "text", "text": inert(page.text), "extras": {"visrag": _known(page)}}


def page_text_to_block(text: PageText) -> dict[str, Any]:
    """The text that stands beside a page's picture as a block that says so: for ChatEVisRAG, and no other."""
    return {"type": "text", "text": str(text), "extras": {"visrag": {"page_text": True}}}


def _known(page: Page) -> dict[str, Any]:
    known = {"doc_id": page.doc_id, "number": page.number, "source": page.source, "text": page.text}
    if page.given_id:
        known["given_id"] = page.given_id
    return known


def block_to_page(block: Mapping[str, Any], *, fetch_urls: FetchUrls = False) -> Page:
    """The page in an image block; a picture that is no page of ours is page 1 of a document of its own.

    Raises:
        SettingError: An image id, or a block without an image.
        PictureError: Damaged base64, or a URL that is not fetched.
    """
    picture = _picture(block, fetch_urls)
    page = _remembered_page(block) or Page(_digest(picture), 1)
    return dataclasses.replace(page, picture=picture)


def _part(block: Any, fetch_urls: FetchUrls) -> Part | None:
    """What a block shows; None where it says nothing to a model."""
    if isinstance(block, str):
        return block or None
    type_ = block.get("type") if isinstance(block, Mapping) else None
    if type_ in _TEXT_TYPES:
        text = str(block.get("text") or "")
        if text and _is_page_text(block):
            return PageText(text)
        return _remembered_page(block) or text or None
    if type_ in _IMAGE_TYPES:
        return block_to_page(block, fetch_urls=fetch_urls)
    if type_ in _SKIPPED_TYPES:
        return None
    raise SettingError(
        f"A message has a block of type {type_!r}; this model reads text and images, and PDF files. Read other "
        "documents into page images first, for example with VisRAGLoader."
    )


def _remembered_page(block: Mapping[str, Any]) -> Page | None:
    """The page that a block of `page_to_block` remembers, without its picture."""
    # Messages may come from outside: nothing that stands in them is relied on.
    extras = block.get("extras")
    if not isinstance(extras, Mapping) or not isinstance(extras.get("visrag"), Mapping):
        return None
    known = extras["visrag"]
    if not known.get("doc_id") or not isinstance(known.get("number"), int):
        return None
    text, source, given_id = (str(known.get(key) or "") for key in ("text", "source", "given_id"))
    return Page(str(known["doc_id"]), max(1, known["number"]), text, source, given_id=given_id)


def _is_page_text(block: Mapping[str, Any]) -> bool:
    extras = block.get("extras")
    known = extras.get("visrag") if isinstance(extras, Mapping) else None
    return isinstance(known, Mapping) and known.get("page_text") is True


def _picture(block: Mapping[str, Any], fetch_urls: FetchUrls) -> PictureSource:
    """The pixels of an image block in any of its shapes.

    LangChain: {"base64": ...}, {"url": ...}, before version 1 {"data": ...}; OpenAI: {"image_url": "..." or
    {"url": "..."}}; Anthropic: {"source": {"data": ... or "url": ...}}.
    """
    source = block.get("source")
    nested: Mapping[str, Any] = source if isinstance(source, Mapping) else {}
    encoded = block.get("base64") or block.get("data") or nested.get("data")
    if isinstance(encoded, bytes):
        return encoded
    if isinstance(encoded, str):
        if encoded.startswith("data:"):
            return picture_of(encoded)
        return decode_base64(encoded)
    url = block.get("image_url") or block.get("url") or nested.get("url")
    if isinstance(url, Mapping):
        url = url.get("url")
    if isinstance(url, str):
        return picture_of(_only_remote_or_inline(url), fetch_urls=fetch_urls)
    given = block.get("file_id") or block.get("id") or nested.get("file_id") or nested.get("id")
    what = f"no image: {sorted(block)}"
    if given:
        what = f"the image id {given!r}, which only its provider knows"
    raise SettingError(f'An image block has {what}. Give {{"type": "image", "base64": ..., "mime_type": "image/png"}}.')


def _only_remote_or_inline(url: str) -> str:
    """Messages may come from outside: no URL in them names a file of this machine."""
    if url.startswith(("data:", "http://", "https://")):
        return url
    raise SettingError(
        f"An image block has the url {url[:80]!r}; data:, http:// and https:// are read. Files of this machine are not "
        "opened from messages: give base64."
    )


def _digest(picture: PictureSource) -> str:
    """The same for the same picture; of one that is not here yet, for the same place."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    if isinstance(picture, Path):
        return hashlib.sha256(str(picture).encode()).hexdigest()
    if isinstance(picture, functools.partial):
        return hashlib.sha256(repr(picture.args).encode()).hexdigest()  # not fetched yet: its URL
    return "image"
