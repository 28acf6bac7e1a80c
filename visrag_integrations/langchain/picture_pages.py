"""A bare picture as a page of its own, known by its bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations import images
from visrag_integrations.langchain.image_references import picture_of
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource


def page_of_picture(uri: Any, metadata: Mapping[str, Any], id: str | None = None, *, fetch_urls: bool = False) -> Page:
    """The picture as page 1 of a document that is this picture.

    Args:
        uri: A path, `file:` or data URL, encoded bytes, or a PIL image.
        metadata: Goes with it.
        id: The id it shall have; made from its bytes when None.
        fetch_urls: Whether http and https URLs are fetched.

    Raises:
        PictureError: It cannot be opened.
    """
    picture, source = _picture(uri, fetch_urls)
    picture = picture() if callable(picture) else picture
    source = str(metadata.get("source") or source)
    data = images.encode(picture, "PNG") if not isinstance(picture, (bytes, Path)) else _bytes(picture)
    digest = hashlib.sha256(data).hexdigest()
    if id is None:
        kept = {key: value for key, value in metadata.items() if key != "source"}
        return Page.from_image(data, doc_id=digest, source=source, metadata=kept)
    named = {"source": source, **metadata} if source else dict(metadata)
    return Page.from_image(data, doc_id=digest, source=source, metadata=named, given_id=id)


def _picture(uri: Any, fetch_urls: bool) -> tuple[PictureSource, str]:
    if isinstance(uri, os.PathLike):
        return Path(uri), os.fspath(uri)
    if not isinstance(uri, str):
        return uri, ""
    found = picture_of(uri, fetch_urls=fetch_urls)
    return found, "" if uri.startswith("data:") else uri


def _bytes(picture: bytes | Path) -> bytes:
    """The file's bytes, once they are known to be a picture."""
    images.open_encoded(picture).close()
    return picture if isinstance(picture, bytes) else picture.read_bytes()
