"""A picture as a string that opens later: what stands under `image` in a Document's metadata.

Four kinds: the path of a picture file; a page of a document (`report.pdf#page=3`); a data URL; and, for pictures that
have no address (a store that keeps them in memory), `visrag:<page id>`, which opens in the process that made it.
"""

from __future__ import annotations

import dataclasses
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
from visrag_integrations.images.urls import FetchUrls, picture_of_url

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


_RENDERED_PAGES = 4
"""Pages of documents that are kept as they were rendered: the pieces of a split page come one after the other, and
each opens its page. More than one, because several threads may be at it; each is some ten megabytes."""


class _RecentPictures:
    """Pictures by the reference that was given for them last, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit, self._kept = limit, OrderedDict[str, "PictureSource"]()
        self._lock = threading.Lock()

    def keep(self, reference: str, picture: PictureSource) -> None:
        with self._lock:
            self._kept[reference] = picture
            self._kept.move_to_end(reference)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)

    def find(self, reference: str) -> PictureSource | None:
        with self._lock:
            return self._kept.get(reference)


_recent = _RecentPictures(_KEPT_PICTURES)


def reference_to(page: Page) -> str | None:
    """A string that `open_reference` opens; None for a page without a picture."""
    if page.picture is None:
        return None
    if isinstance(page.picture, Path):
        return os.path.abspath(page.picture)
    if isinstance(page.picture, PictureReference):
        return page.picture.reference
    reference = f"visrag:{page.id}"
    _recent.keep(reference, page.picture)
    return reference


def remember_picture(reference: str, picture: PictureSource) -> None:
    """A store has this picture: it is opened from there once the file is gone that the reference names."""
    if not isinstance(picture, PictureReference):  # which would be looked up here again
        _recent.keep(reference, picture)


def known_picture(reference: object) -> PictureSource | None:
    """The picture of a reference that a store or retriever gave in this process; None for any other string."""
    if not isinstance(reference, str):
        return None
    return _recent.find(reference)


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


def picture_of(reference: str, *, fetch_urls: FetchUrls = False) -> PictureSource:
    """The picture of a reference, as the core takes it; files and remote pictures are read when it is opened.

    Args:
        reference: A path, `file:` URL, data URL, `path#page=number`, or `visrag:` reference.
        fetch_urls: Whether http and https URLs are fetched.

    Raises:
        PictureError: It is no reference, damaged, or remote while `fetch_urls` is off.
    """
    if reference.startswith("visrag:"):
        known = _recent.find(reference)
        if known is not None:
            return known
        raise PictureError(
            f"The picture {reference!r} was in the memory of the process that found it, and is not in this one's. "
            "Search again, keep the index in a folder, or ask for inline_images=True."
        )
    if reference.startswith(("data:", "http://", "https://")):
        return picture_of_url(reference, fetch_urls=fetch_urls)
    if reference.startswith("file:"):
        parts = urlsplit(reference)
        reference = unquote(parts.path)
        if parts.fragment:
            reference += f"#{parts.fragment}"
    # "report.pdf#page=3" is page 3 of report.pdf, unless there is a file of just that name.
    page = _PAGE_OF.fullmatch(reference)
    if page is None or os.path.exists(reference):
        return _kept_elsewhere(reference, reference) or Path(reference)
    read = functools.partial(_read_page, page["path"], int(page["number"]))
    return _kept_elsewhere(page["path"], reference) or read


def _kept_elsewhere(path: str, reference: str) -> PictureSource | None:
    """The picture as a store has it, where the file is gone that the reference names."""
    if os.path.exists(path):
        return None
    return _recent.find(reference)


@dataclasses.dataclass(frozen=True)
class PictureReference:
    """A picture that is opened by its reference: small and plain wherever it is written down, in a checkpoint too."""

    reference: str

    def __call__(self) -> Image:
        return open_reference(self.reference)


def light_picture(reference: str) -> PictureSource:
    """`picture_of`, as something that can be written down: a path, or the reference itself.

    Raises:
        PictureError: It is no reference.
    """
    # A path is small too, and needs nothing of this process. A data URL is the picture, wherever it goes.
    picture = picture_of(reference)
    if isinstance(picture, Path) or reference.startswith("data:"):
        return picture
    return PictureReference(reference)


def open_reference(reference: str, *, fetch_urls: FetchUrls = False) -> Image:
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
    try:
        state = os.stat(path)
    except OSError as err:
        raise PictureError(f"The picture of page {number} cannot be read again: {path}: {err.strerror}.") from err
    # A copy: whoever opens a picture may change or close it.
    return _rendered(path, number, state.st_mtime_ns, state.st_size).copy()


@functools.lru_cache(maxsize=_RENDERED_PAGES)
def _rendered(path: str, number: int, changed: int, size: int) -> Image:
    """The page as it is in this state of the file; time and size are asked for, so that a changed file is read anew."""
    from visrag_integrations.errors import DocumentError, PageError
    from visrag_integrations.readers import PageReader

    try:
        # Only the picture is wanted: reading the text of a scan would take seconds.
        with PageReader(ocr="never").open(path) as document:
            return document.page(number).open_image()
    except (DocumentError, PageError) as err:
        raise PictureError(f"The picture of page {number} cannot be read again: {err}") from err
