"""LangChain messages as core conversations, and as chat completions requests: every shape of text and image block."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.inert import inert
from visrag_integrations.images.urls import data_url, decode_base64
from visrag_integrations.langchain.image_references import picture_of
from visrag_integrations.types import Conversation, Message, Page, Part

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource

_TEXT_TYPES = {"text", "text-plain", "input_text", "output_text"}
_SILENT_TYPES = {
    "reasoning",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_call",
    "tool_call_chunk",
    "tool_result",
}
"""Blocks of earlier turns that say nothing to this model; tool calls travel in `AIMessage.tool_calls`."""
_IMAGE_TYPES = {"image", "image_url", "input_image"}
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    **{"system": "system", "developer": "system"},
    **{"ai": "assistant", "assistant": "assistant", "AIMessageChunk": "assistant"},
}


def to_conversation(messages: Sequence[BaseMessage], *, fetch_urls: bool = False) -> Conversation:
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
        role = _ROLES.get(str(getattr(message, "role", message.type)), "user")
        parts = to_parts(message, fetch_urls=fetch_urls)
        if turns and turns[-1].role == role:
            turns[-1] = dataclasses.replace(turns[-1], content=turns[-1].content + parts)
        else:
            turns.append(Message(parts, role))
    return tuple(turns)


def to_parts(message: BaseMessage, *, fetch_urls: bool = False) -> tuple[Part, ...]:
    """Texts and pages of one message, in order."""
    blocks = [message.content] if isinstance(message.content, str) else message.content
    parts = [_part(block, fetch_urls) for block in blocks]
    if isinstance(message, ToolMessage):
        parts.insert(0, f"Result of the tool {message.name or message.tool_call_id}:")
    return tuple(part for part in parts if part is not None)


def to_openai_messages(messages: Sequence[BaseMessage], *, fetch_urls: bool = False) -> list[dict[str, Any]]:
    """The messages of a chat completions request; pictures become data URLs.

    Pictures that a tool gave come in a user message after it, because servers take text only from tools.
    """
    requests: list[dict[str, Any]] = []
    for message in messages:
        parts = [
            _part(b, fetch_urls) for b in ([message.content] if isinstance(message.content, str) else message.content)
        ]
        content = [_openai_part(part) for part in parts if part is not None]
        if isinstance(message, ToolMessage):
            requests += _tool_answer(message, content)
            continue
        role = "system" if isinstance(message, SystemMessage) else _ROLES.get(message.type, "user")
        request: dict[str, Any] = {"role": getattr(message, "role", role), "content": _plain(content)}
        if message.name:
            request["name"] = message.name
        if isinstance(message, AIMessage) and message.tool_calls:
            request["tool_calls"] = [_openai_call(call) for call in message.tool_calls]
        requests.append(request)
    return requests


def page_to_block(page: Page) -> dict[str, Any]:
    """The page's picture as a standard image block that remembers which page it is; a text block where it has none."""
    known = {"doc_id": page.doc_id, "number": page.number, "source": page.source, "text": page.text}
    if page.given_id:
        known["given_id"] = page.given_id
    if page.picture is None:
        return {"type": "text", "text": inert(page.text), "extras": {"visrag": known}}
    head, _, body = data_url(page.picture).partition(",")
    mime = head.removeprefix("data:").removesuffix(";base64")
    return {"type": "image", "base64": body, "mime_type": mime, "extras": {"visrag": known}}


def block_to_page(block: Mapping[str, Any], *, fetch_urls: bool = False) -> Page:
    """The page in an image block; a picture that is no page of ours is page 1 of a document of its own.

    Raises:
        SettingError: An image id, or a block without an image.
        PictureError: Damaged base64, or a URL that is not fetched.
    """
    picture = _picture(block, fetch_urls)
    known = _known_page(block)
    return Page(_digest(picture), 1, picture=picture) if known is None else dataclasses.replace(known, picture=picture)


def _known_page(block: Mapping[str, Any]) -> Page | None:
    """The page that a block of `page_to_block` remembers, without its picture."""
    extras = block.get("extras")
    known = extras.get("visrag") if isinstance(extras, Mapping) else None
    if not isinstance(known, Mapping) or not known.get("doc_id") or not isinstance(known.get("number"), int):
        return None
    text, source, given_id = (str(known.get(key) or "") for key in ("text", "source", "given_id"))
    return Page(str(known["doc_id"]), max(1, known["number"]), text, source, given_id=given_id)


def _part(block: Any, fetch_urls: bool) -> Part | None:
    if isinstance(block, str):
        return block or None
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind in _TEXT_TYPES:
        return _known_page(block) or str(block.get("text") or "") or None
    if kind in _IMAGE_TYPES:
        return block_to_page(block, fetch_urls=fetch_urls)
    if kind in _SILENT_TYPES:
        return None
    raise SettingError(
        f"A message has a block of type {kind!r}; this model reads text and images. Read documents into page images "
        "first, for example with VisRAGLoader."
    )


def _picture(block: Mapping[str, Any], fetch_urls: bool) -> PictureSource:
    """Where the pixels of an image block are, in any of its shapes."""
    source = block.get("source")
    nested: Mapping[str, Any] = source if isinstance(source, Mapping) else {}
    url = block.get("image_url") or block.get("url") or nested.get("url")
    url = url.get("url") if isinstance(url, Mapping) else url
    encoded = block.get("base64") or block.get("data") or nested.get("data")
    if isinstance(encoded, bytes):
        return encoded
    if isinstance(encoded, str):
        return decode_base64(encoded) if not encoded.startswith("data:") else picture_of(encoded)
    if isinstance(url, str):
        return picture_of(_only_remote_or_inline(url), fetch_urls=fetch_urls)
    given = block.get("file_id") or block.get("id") or nested.get("file_id") or nested.get("id")
    what = f"the image id {given!r}, which only its provider knows" if given else f"no image: {sorted(block)}"
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
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    if isinstance(picture, Path):
        return hashlib.sha256(str(picture).encode()).hexdigest()
    if isinstance(picture, functools.partial):
        return hashlib.sha256(repr(picture.args).encode()).hexdigest()
    return "image"


def _openai_part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    picture = part.picture if isinstance(part, Page) else part
    if picture is None:
        return {"type": "text", "text": part.text if isinstance(part, Page) else ""}
    return {"type": "image_url", "image_url": {"url": data_url(picture)}}


def _plain(content: list[dict[str, Any]]) -> Any:
    """A plain string where all is text: what every server takes."""
    if all(part["type"] == "text" for part in content):
        return "\n".join(part["text"] for part in content)
    return content


def _tool_answer(message: ToolMessage, content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    texts = [part for part in content if part["type"] == "text"]
    images = [part for part in content if part["type"] != "text"]
    said = _plain(texts) or ("Its images follow." if images else "")
    answer = {"role": "tool", "tool_call_id": message.tool_call_id, "content": said}
    return [answer, {"role": "user", "content": images}] if images else [answer]


def _openai_call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(call["args"], ensure_ascii=False)
    return {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": arguments}}
