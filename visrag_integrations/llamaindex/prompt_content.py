"""`nodes_to_content`: nodes as the content blocks of a prompt of one's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ImageBlock, TextBlock

from visrag_integrations.generation.shown_pages import Captions, ShownPage, shown_pages
from visrag_integrations.images.pixels import read_file
from visrag_integrations.images.sending import PictureFile
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.llamaindex.convert import node_to_page
from visrag_integrations.llamaindex.node_pictures import UrlRules
from visrag_integrations.store.picture_files import PictureFolder, reference_of

_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


def nodes_to_content(
    nodes: Iterable[Any],
    *,
    captions: Captions = True,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
    text_only: bool = False,
    image_dir: str | os.PathLike[str] | None = None,
    fetch_urls: FetchUrls = False,
) -> list[TextBlock | ImageBlock]:
    """The nodes as blocks of a `ChatMessage`: for each a line that names it, then its picture, or its text.

    >>> from llama_index.core.schema import TextNode
    >>> node = TextNode(text="Twelve boxes.", metadata={"file_path": "a.pdf", "page_label": "3"})
    >>> [block.text for block in nodes_to_content([node])]
    ['[1] a.pdf, page 3:', 'Twelve boxes.']

    Pictures that fit go as they are, without their metadata.

    Args:
        nodes: Nodes, documents, or `NodeWithScore`s, best first.
        captions: Before each node what may be cited. A function makes others; False none.
        max_pixels: Of a picture; larger ones are scaled down.
        max_bytes: Of a picture's file.
        text_only: The text of every node instead of its picture, for models that see none.
        image_dir: Keep pictures as files there, and only their paths in the blocks: what an agent or a chat remembers
            stays small. Without it they are in the blocks.
        fetch_urls: Whether pictures behind http and https URLs are fetched.

    Raises:
        PictureError: A picture cannot be opened; the message names the page.
    """
    urls = UrlRules(fetch_urls)
    pages = (node_to_page(getattr(node, "node", node), urls) for node in nodes)
    folder = None
    if image_dir is not None:
        folder = PictureFolder(os.path.abspath(image_dir))
    shown = shown_pages(pages, captions=captions, max_pixels=max_pixels, max_bytes=max_bytes, text_only=text_only)
    blocks: list[TextBlock | ImageBlock] = []
    for one in shown:
        if one.caption:
            blocks.append(TextBlock(text=one.caption))
        blocks.append(_block(one, folder))
    return blocks


def _block(one: ShownPage, folder: PictureFolder | None) -> TextBlock | ImageBlock:
    if isinstance(one.shown, str):
        return TextBlock(text=one.shown)
    if folder is None:
        return ImageBlock(image=one.shown.data, image_mimetype=one.shown.mime)
    return ImageBlock(path=_file_of(one, one.shown, folder), image_mimetype=one.shown.mime)


def _file_of(one: ShownPage, picture: PictureFile, folder: PictureFolder) -> Path:
    """The page's own file where that is what is shown, else one in the folder, under the hash of its bytes."""
    source = one.page.picture
    if isinstance(source, Path) and _is(source, picture.data):
        return source
    reference = reference_of(picture.data, "prompts", _SUFFIXES[picture.mime])
    folder.save(picture.data, reference)
    return Path(folder.root, reference)


def _is(path: Path, data: bytes) -> bool:
    if path.stat().st_size != len(data):
        return False
    return hashlib.sha256(read_file(path)).digest() == hashlib.sha256(data).digest()
