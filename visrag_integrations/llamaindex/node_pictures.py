"""Where the picture of a LlamaIndex node is: a path, a URL, base64 or bytes. Nothing is fetched unless asked for.

LlamaIndex's own `resolve_image` fetches every URL it meets; so it is not used here.
"""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations import images
from visrag_integrations.errors import PictureError
from visrag_integrations.images.urls import FetchUrls, decode_base64, decode_data_url, picture_of_url, short

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode
    from PIL.Image import Image

    from visrag_integrations.images import PictureSource

_URLS = ("data:", "file:", "http://", "https://")


@dataclass(frozen=True)
class UrlRules:
    """Which pictures behind URLs are opened; data URLs always are.

    Nodes and messages may come from outside: what they name is neither fetched nor read from this machine unless asked.

    Attributes:
        fetch_urls: Those behind http and https URLs are fetched.
        file_urls: Those behind `file:` URLs are read. A `path=` is always read: only the program itself gives it.
    """

    fetch_urls: FetchUrls = False
    file_urls: bool = False


NO_URLS = UrlRules()


def picture_of_node(node: BaseNode, urls: UrlRules = NO_URLS) -> PictureSource | None:
    """Where the picture of a node or document is; None where it has none. Files are read when it is opened."""
    # Documents and newer nodes have a resource; an `ImageNode` has the three fields themselves.
    resource = getattr(node, "image_resource", None)
    if resource is not None:
        return picture_of(resource.data, resource.path, resource.url, urls)
    if not hasattr(node, "image_path"):
        return None
    return picture_of(node.image, node.image_path, node.image_url, urls)  # type: ignore[attr-defined]


def open_node_image(node: Any, *, fetch_urls: FetchUrls = False, file_urls: bool = False) -> Image:
    """The picture of a node, document or `NodeWithScore`, opened now.

    Args:
        node: What has a picture.
        fetch_urls: Whether a picture behind an http or https URL is fetched.
        file_urls: Whether one behind a `file:` URL is read.

    Raises:
        PictureError: It has none, it cannot be opened, or it is behind a URL that is not opened.
    """
    node = getattr(node, "node", node)
    picture = picture_of_node(node, UrlRules(fetch_urls, file_urls))
    if picture is None:
        raise PictureError(f"The node {node.node_id!r} has no picture. Nodes of VisRAGReader and VisRAGRetriever have.")
    return images.open_picture(picture)


def picture_of(data: Any, path: Any, url: Any, urls: UrlRules = NO_URLS) -> PictureSource | None:
    """The first of the three that is there, as the core takes it.

    Args:
        data: base64 (text or bytes), encoded picture bytes, or a file object.
        path: Of a picture file.
        url: `data:`, or one that `urls` lets be opened.
        urls: Which are.

    Raises:
        PictureError: It is behind a URL that is not opened.
    """
    if data:
        return _inline(data)
    if path:
        return Path(path)
    if not url:
        return None
    url = str(url)
    if not urls.file_urls and url[:5].casefold() == "file:":
        raise PictureError(
            f"{short(url)} is a file of this machine, and those are opened from nodes and messages only when asked: "
            "say file_urls=True, or give it as path= (of a block), image_path= (of a node), or bytes."
        )
    return picture_of_url(url, fetch_urls=urls.fetch_urls)


def picture_of_image(image: Any, *, fetch_urls: FetchUrls = False) -> PictureSource:
    """The picture behind what LlamaIndex calls an `ImageType`: a path, a URL, or a file object; a PIL image too."""
    if isinstance(image, io.IOBase):
        return _inline(image)
    if isinstance(image, str) and image.startswith(_URLS):
        return picture_of_url(image, fetch_urls=fetch_urls)
    if isinstance(image, (str, os.PathLike)):
        return Path(image)
    found: PictureSource = image
    return found


def encoded_picture(picture: PictureSource, format: str) -> bytes:
    """The picture as a file's bytes: those it has, or its pixels encoded in this format."""
    if callable(picture):
        picture = picture()
    if isinstance(picture, Path):
        return picture.read_bytes()
    if isinstance(picture, bytes):
        return picture
    return images.encode(picture, format)


def inline_base64(picture: PictureSource) -> str:
    """The picture as base64 of an encoded file; pixels become JPEG."""
    return base64.b64encode(encoded_picture(picture, "JPEG")).decode("ascii")


def _inline(data: Any) -> bytes:
    """Picture bytes from what LlamaIndex keeps inside a node, in whichever of its forms."""
    if hasattr(data, "read"):
        data.seek(0)  # it may have been read before
        data = data.read()
    # Bytes may be a picture, or base64 as LlamaIndex's `MediaResource` keeps it.
    if isinstance(data, bytes):
        if images.sniff_format(data) is not None:
            return data
        data = data.decode("ascii", "replace")
    text = str(data)
    if text.startswith("data:"):
        return decode_data_url(text)
    return decode_base64(text)
