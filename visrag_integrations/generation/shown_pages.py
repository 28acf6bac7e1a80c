"""Pages as they stand in a prompt: a caption, then the picture, or the text where there is none, made inert."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from visrag_integrations.errors import PictureError
from visrag_integrations.generation.inert import inert, inert_line
from visrag_integrations.images.sending import PictureFile, picture_file
from visrag_integrations.types import Page, Part

Captions = bool | Callable[[int, Page], str]
"""Whether there are captions, or what makes one of the page's place (from 1) and the page."""
NO_TEXT = "(No text could be read on this page.)"
"""What stands for a page of which there is neither picture nor text: servers refuse an empty block."""


class ShownPage(NamedTuple):
    """One page in a prompt.

    Attributes:
        page: The page.
        caption: What stands before it; "" for nothing.
        shown: Its picture, encoded, or its text.
    """

    page: Page
    caption: str
    shown: str | PictureFile


def file_name(page: Page) -> str:
    """The name of the page's document without its folders, for those who are not to see the server's.

    >>> file_name(Page("d", 1, source="/srv/ada/tax.pdf")), file_name(Page("d", 1))
    ('tax.pdf', 'd')
    """
    last = page.source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last or page.source or page.doc_id


def shown_pages(
    pages: Iterable[Page],
    *,
    captions: Captions = True,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
    text_only: bool = False,
) -> Iterator[ShownPage]:
    """Every page as it is shown to a model, in order.

    >>> [shown] = shown_pages([Page("d1", 3, "Twelve units.", source="a.pdf")])
    >>> shown.caption, shown.shown
    ('[1] a.pdf, page 3:', 'Twelve units.')

    Args:
        pages: Read once, one after the other.
        captions: Before each page what may be cited: "[1] a.pdf, page 3:". A function makes others; False none.
        max_pixels: Of a picture; larger ones are scaled down.
        max_bytes: Of a picture's file.
        text_only: The text of every page instead of its picture, for models that see none.

    Raises:
        PictureError: A picture cannot be opened; the message names the page.
    """
    for place, page in enumerate(pages, start=1):
        shown: str | PictureFile
        if text_only or page.picture is None:
            shown = inert(page.text)
            if not shown.strip():
                shown = NO_TEXT
        else:
            shown = _picture(page, max_pixels, max_bytes)
        yield ShownPage(page, _caption(captions, place, page), shown)


def page_name(page: Page) -> str:
    """What a reader knows the page by.

    >>> page_name(Page("d1", 3, source="a.pdf")), page_name(Page("d1", 3))
    ('a.pdf, page 3', 'd1, page 3')
    """
    return f"{inert_line(page.source or page.doc_id)}, page {page.number}"


def without_captions(content: Sequence[Part]) -> tuple[Part, ...]:
    """The parts of a message without the captions of `shown_pages`: for a model whose own prompt has none.

    >>> page = Page("d1", 3, source="a.pdf")
    >>> without_captions(("How many?", "[1] a.pdf, page 3:", page)) == ("How many?", page)
    True
    """
    kept: list[Part] = []
    for place, part in enumerate(content):
        following = content[place + 1] if place + 1 < len(content) else None
        if isinstance(part, str) and isinstance(following, Page) and _is_caption(part, following):
            continue
        kept.append(part)
    return tuple(kept)


def _is_caption(text: str, page: Page) -> bool:
    return re.fullmatch(r"\[\d+\] " + re.escape(page_name(page)) + ":", text.strip()) is not None


def _caption(captions: Captions, place: int, page: Page) -> str:
    if callable(captions):
        return captions(place, page)
    if captions:
        return f"[{place}] {page_name(page)}:"
    return ""


def _picture(page: Page, max_pixels: int | None, max_bytes: int | None) -> PictureFile:
    assert page.picture is not None
    try:
        return picture_file(page.picture, max_pixels=max_pixels, max_bytes=max_bytes)
    except PictureError as err:
        raise PictureError(f"{page_name(page)} cannot be shown: {err}") from err
