"""Where the picture of a LlamaIndex node is: a path, a URL, base64 or bytes. Nothing is fetched unless asked for.

LlamaIndex's own `resolve_image` fetches every URL it meets; so it is not used here.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from visrag_integrations import images
from visrag_integrations.errors import PictureError

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode
    from PIL.Image import Image

    from visrag_integrations.images import PictureSource

MAX_FETCHED = 20 * 1024 * 1024
"""Bytes of a remote picture; a larger one is refused."""
FETCH_SECONDS = 20.0


def picture_of_node(node: BaseNode, *, fetch_urls: bool = False) -> PictureSource | None:
    """Where the picture of a node or document is; None where it has none. Files are read when it is opened."""
    resource = getattr(node, "image_resource", None)
    if resource is not None:
        return picture_of(resource.data, resource.path, resource.url, fetch_urls=fetch_urls)
    if not hasattr(node, "image_path"):
        return None
    return picture_of(node.image, node.image_path, node.image_url, fetch_urls=fetch_urls)  # type: ignore[attr-defined]


def open_node_image(node: Any, *, fetch_urls: bool = False) -> Image:
    """The picture of a node, document or `NodeWithScore`, opened now.

    Raises:
        PictureError: It has none, it cannot be opened, or it is remote while `fetch_urls` is off.
    """
    node = getattr(node, "node", node)
    picture = picture_of_node(node, fetch_urls=fetch_urls)
    if picture is None:
        raise PictureError(f"The node {node.node_id!r} has no picture. Nodes of VisRAGReader and VisRAGRetriever have.")
    return images.open_picture(picture)


def picture_of(data: Any, path: Any, url: Any, *, fetch_urls: bool = False) -> PictureSource | None:
    """The first of the three that is there, as the core takes it.

    Args:
        data: base64 (text or bytes), encoded picture bytes, or a file object.
        path: Of a picture file.
        url: `data:`, `file:`, or, while `fetch_urls` is on, http and https.
        fetch_urls: Whether http and https URLs are fetched.
    """
    if data:
        return _inline(data)
    if path:
        return Path(path)
    return picture_of_url(str(url), fetch_urls=fetch_urls) if url else None


def picture_of_url(url: str, *, fetch_urls: bool = False) -> PictureSource:
    """Where the picture is that a URL speaks of; files and remote pictures are read when it is opened.

    >>> picture_of_url("data:image/png;base64,aGk=")
    b'hi'

    Raises:
        PictureError: It is damaged, of another kind, or remote while `fetch_urls` is off.
    """
    scheme = urlsplit(url[:32]).scheme
    if scheme == "data":
        return _decode_data_url(url)
    if scheme == "file":
        return Path(unquote(urlsplit(url).path))
    if scheme not in ("http", "https"):
        raise PictureError(f"{_short(url)} is no URL of a picture; data:, file:, http: and https: URLs are.")
    if not fetch_urls:
        raise PictureError(
            f"{_short(url)} is a remote picture, and those are fetched only when asked: say fetch_urls=True, or give "
            "a path, bytes or a data URL."
        )
    return functools.partial(_fetch, url)


def inline_base64(picture: PictureSource) -> str:
    """The picture as base64 of an encoded file; pixels become JPEG."""
    made = picture() if callable(picture) else picture
    if isinstance(made, Path):
        made = made.read_bytes()
    data = made if isinstance(made, bytes) else images.encode(made, "JPEG")
    return base64.b64encode(data).decode("ascii")


def _inline(data: Any) -> bytes:
    if hasattr(data, "read"):
        data.seek(0)
        data = data.read()
    if isinstance(data, bytes) and images.sniff_format(data) is not None:
        return data
    text = data.decode("ascii", "replace") if isinstance(data, bytes) else str(data)
    if text.startswith("data:"):
        return _decode_data_url(text)
    return _decode_base64(text)


def _decode_data_url(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise PictureError(f"{_short(url)} is no data URL: it has no comma. Give data:image/png;base64,...")
    return _decode_base64(unquote(body)) if head.endswith(";base64") else unquote_to_bytes(body)


def _decode_base64(text: str) -> bytes:
    compact = "".join(text.split())
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as err:
        raise PictureError(f"A picture of {len(text)} characters is not valid base64: {err}.") from err


def _fetch(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "visrag-integrations"})
    try:
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as answer:
            data: bytes = answer.read(MAX_FETCHED + 1)
    except (urllib.error.URLError, OSError, ValueError) as err:
        raise PictureError(f"{_short(url)} cannot be fetched: {err}.") from err
    if len(data) > MAX_FETCHED:
        raise PictureError(f"{_short(url)} is larger than {MAX_FETCHED} bytes; fetch it yourself and give the bytes.")
    return data


def page_picture(image: Any, *, fetch_urls: bool = False) -> PictureSource:
    """The picture behind what LlamaIndex calls an `ImageType`: a path, a URL, or a file object; a PIL image too."""
    if isinstance(image, io.IOBase):
        return _inline(image)
    if isinstance(image, str) and image.startswith(("data:", "file:", "http://", "https://")):
        return picture_of_url(image, fetch_urls=fetch_urls)
    if isinstance(image, (str, os.PathLike)):
        return Path(image)
    found: PictureSource = image
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
