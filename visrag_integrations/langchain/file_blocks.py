"""Files in messages: a PDF in a content block, read into pages by this library's own reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.images.urls import FetchUrls, decode_base64, decode_data_url, fetch, short
from visrag_integrations.types import Page


def pages_of_file(block: Mapping[str, Any], *, fetch_urls: FetchUrls = False) -> list[Page]:
    """The pages of the document in a file block of any shape.

    LangChain: {"type": "file", "base64": ..., "mime_type": ...}, before version 1 {"data": ...}; OpenAI: {"file":
    {"file_data": "data:...", "filename": ...}} or {"type": "input_file", "file_data": ...}; Anthropic: {"type":
    "document", "source": {"data": ..., "media_type": ...}}.

    Raises:
        SettingError: Only its provider knows the file, or it is no PDF.
        DocumentError: It cannot be read.
    """
    nested = _nested(block)
    data = _bytes(nested, fetch_urls)
    # By its bytes, not by what the block says: types are often missing, and sometimes wrong.
    if data.lstrip()[:5] != b"%PDF-":
        kind = nested.get("mime_type") or nested.get("media_type") or "an unknown type"
        raise SettingError(
            f"A file block holds {kind}; PDF files are read from messages. Read others first, for example with "
            "VisRAGLoader, and show them with pages_to_content(documents)."
        )
    from visrag_integrations.readers import PageReader

    return list(PageReader().read(data, name=_name(block, nested)))


def _nested(block: Mapping[str, Any]) -> dict[str, Any]:
    """The block with what its provider nests in it."""
    found = dict(block)
    # OpenAI's "file" and Anthropic's "source"; LangChain's own blocks nest nothing.
    for key in ("file", "source"):
        inner = block.get(key)
        if isinstance(inner, Mapping):
            found |= inner
    return found


def _bytes(block: Mapping[str, Any], fetch_urls: FetchUrls) -> bytes:
    encoded = block.get("base64") or block.get("data") or block.get("file_data")
    if isinstance(encoded, bytes):
        return encoded
    url = block.get("url") or block.get("file_url")
    if not isinstance(encoded, str) and isinstance(url, str) and url.startswith("data:"):
        encoded = url
    if isinstance(encoded, str):
        if encoded.startswith("data:"):
            return decode_data_url(encoded)
        return decode_base64(encoded)
    if isinstance(url, str):
        # Files of this machine are never opened from messages, which may come from outside.
        if fetch_urls and url.startswith(("http://", "https://")):
            return fetch(url, private=fetch_urls == "private")
        raise SettingError(
            f"A file block has the url {short(url)}; http and https are read when fetch_urls=True, and else base64."
        )
    given = block.get("file_id") or block.get("id")
    what = f"the file id {given!r}, which only its provider knows" if given else f"no file: {sorted(block)}"
    raise SettingError(
        f'A file block has {what}. Give {{"type": "file", "base64": ..., "mime_type": "application/pdf"}}.'
    )


def _name(block: Mapping[str, Any], nested: Mapping[str, Any]) -> str:
    """What the file is called, where that is said: it stands in citations, and is opened by nobody."""
    extras = block.get("extras")
    named: list[Any] = [nested.get("filename"), nested.get("title")]
    if isinstance(extras, Mapping):
        named += [extras.get("filename"), extras.get("title")]
    for name in named:
        if isinstance(name, str) and name:
            return name
    return "attached.pdf"
