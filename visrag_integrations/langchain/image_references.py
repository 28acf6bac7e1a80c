"""A picture as a string that opens later: what stands under `image` in a Document's metadata.

Four kinds: the path of a picture file; a page of a document (`report.pdf#page=3`); a data URL; and, for pictures that
have no address (a store that keeps them in memory), `visrag:<page id>`, which opens in the process that made it.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from visrag_integrations import images
from visrag_integrations.errors import PictureError
from visrag_integrations.images.urls import picture_of_url

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from PIL.Image import Image

    from visrag_integrations.images import PictureSource
    from visrag_integrations.types import Page

# "report.pdf#page=3"; seven digits are more than any document has pages.
_PAGE_OF = re.compile(r"(?P<path>.+)#page=(?P<number>[1-9]\d{0,6})", re.DOTALL)


_KEPT_PICTURES = 1024
"""Pictures without an address that can be opened later. More would keep pictures in memory that are never
opened; fewer than one search gives would lose some before they can be opened."""


class _RecentPictures:
    """The pictures without an address to which a reference was made last, by page id."""

    def __init__(self, limit: int) -> None:
        self._limit, self._kept = limit, OrderedDict[str, "PictureSource"]()
        self._lock = threading.Lock()

    def keep(self, page_id: str, picture: PictureSource) -> str:
        with self._lock:
            self._kept[page_id] = picture
            self._kept.move_to_end(page_id)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return f"visrag:{page_id}"

    def find(self, reference: str) -> PictureSource:
        with self._lock:
            picture = self._kept.get(reference.removeprefix("visrag:"))
        if picture is None:
            raise PictureError(
                f"The picture {reference!r} was in the memory of the process that found it, and is not in this "
                "one's. Search again, keep the index in a folder, or ask for inline_images=True."
            )
        return picture


_recent = _RecentPictures(_KEPT_PICTURES)


def reference_to(page: Page) -> str | None:
    """A string that `open_reference` opens; None for a page without a picture."""
    if page.picture is None:
        return None
    if isinstance(page.picture, Path):
        return os.path.abspath(page.picture)
    return _recent.keep(page.id, page.picture)


def reference_to_source(source: str, number: int, total_pages: int) -> str:
    """The reference of a page that was read from a file.

    >>> reference_to_source("/a/b.pdf", 2, 9), reference_to_source("/a/b.png", 1, 1)
    ('/a/b.pdf#page=2', '/a/b.png')
    """
    from visrag_integrations.readers.sources import SUFFIXES

    path = os.path.abspath(source)
    is_picture = SUFFIXES.get(Path(source).suffix.lower()) == "image"
    if is_picture and total_pages == 1:
        return path
    return f"{path}#page={number}"


def picture_of(reference: str, *, fetch_urls: bool = False) -> PictureSource:
    """The picture of a reference, as the core takes it; files and remote pictures are read when it is opened.

    Args:
        reference: A path, `file:` URL, data URL, `path#page=number`, or `visrag:` reference.
        fetch_urls: Whether http and https URLs are fetched.

    Raises:
        PictureError: It is no reference, damaged, or remote while `fetch_urls` is off.
    """
    if reference.startswith("visrag:"):
        return _recent.find(reference)
    if reference.startswith(("data:", "http://", "https://")):
        return picture_of_url(reference, fetch_urls=fetch_urls)
    if reference.startswith("file:"):
        parts = urlsplit(reference)
        reference = unquote(parts.path)
        if parts.fragment:
            reference += f"#{parts.fragment}"
    # "report.pdf#page=3" is page 3 of report.pdf, unless there is a file of just that name.
    page = _PAGE_OF.fullmatch(reference)
    if page is not None and not os.path.exists(reference):
        return functools.partial(_read_page, page["path"], int(page["number"]))
    return Path(reference)


def open_reference(reference: str, *, fetch_urls: bool = False) -> Image:
    """The picture of a reference, opened now.

    Raises:
        PictureError: It cannot be opened.
    """
    return images.open_picture(picture_of(reference, fetch_urls=fetch_urls))


def open_document_image(document: Document) -> Image:
    """The picture of a Document that this package gave, opened now.

    Raises:
        PictureError: It has none, or it cannot be opened.
    """
    reference = document.metadata.get("image")
    if not isinstance(reference, str) or not reference:
        raise PictureError(
            f"The Document {document.id!r} has no picture: its metadata has no 'image'. Documents of VisRAGLoader and "
            "VisRAGRetriever have one where the page has."
        )
    return open_reference(reference)


def _read_page(path: str, number: int) -> Image:
    from visrag_integrations.errors import DocumentError, PageError
    from visrag_integrations.readers import PageReader

    try:
        # Only the picture is wanted: reading the text of a scan would take seconds.
        with PageReader(ocr="never").open(path) as document:
            return document.page(number).open_image()
    except (DocumentError, PageError) as err:
        raise PictureError(f"The picture of page {number} cannot be read again: {err}") from err
