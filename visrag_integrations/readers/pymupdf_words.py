"""The words of a page as MuPDF gives them: boxed, in its order of painting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.readers.actual_text import PlacedWords, choose
from visrag_integrations.readers.comb_fields import COMB
from visrag_integrations.readers.content import covers_page
from visrag_integrations.readers.dingbats import with_dingbats
from visrag_integrations.readers.pymupdf_actual_text import has_actual_text
from visrag_integrations.readers.text_direction import in_order_of_writing, may_have_ligatures
from visrag_integrations.readers.text_layer import PaintedWords, words_under
from visrag_integrations.types import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray


def painted_words(drawing: Any, page: Any, size: tuple[float, float]) -> PaintedWords:
    """The page's words. Ligatures are spelled out; an unknown character is U+FFFD, not its glyph number."""
    import pymupdf

    layer, words, blocks = _read_layer(drawing, page, pymupdf.TEXT_IGNORE_ACTUALTEXT)
    if has_actual_text(drawing):
        _, given, _ = _read_layer(drawing, page, 0)
        chosen = choose(words, given)
        words = PlacedWords(chosen.texts, chosen.corners)
        blocks = [blocks[place] for place in chosen.places]
    if not words.texts:
        return PaintedWords([], [])
    suspected = _suspected(layer, blocks, words.corners, size)
    covered = _covered(page, size, words.corners, suspected)
    return PaintedWords(words.texts, words.corners, covered, _combs(page))


def _read_layer(drawing: Any, page: Any, more_flags: int) -> tuple[Any, PlacedWords, Sequence[int]]:
    """The page's text layer, its words, and in which block of it each of them stands."""
    import pymupdf

    # Without ligatures as single characters; the flag for that is left out. Pictures come as blocks without pixels.
    flags = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP | pymupdf.TEXT_PRESERVE_IMAGES
    layer = drawing.get_textpage(flags | more_flags)
    if not isinstance(layer, pymupdf.TextPage):
        layer = pymupdf.TextPage(layer)
    found = layer.extractWORDS()
    if not found:
        return layer, PlacedWords([], np.empty((0, 4))), []
    # Each word is (x0, y0, x1, y1, text, block, line, place). All left edges together, then all upper ones: of a few
    # long lists an array is made in half of the time that many short ones take.
    texts: Sequence[str]
    left, top, right, bottom, texts, blocks, *_ = zip(*found, strict=True)
    corners = np.array((left, top, right, bottom)).T
    if may_have_ligatures(texts):
        texts = _with_ligatures(texts, layer)
    return layer, PlacedWords(with_dingbats(texts, found, page, layer), corners), blocks


def _combs(page: Any) -> list[Box]:
    """The form fields of a page that have a cell for each letter, as the page is shown."""
    if page.first_widget is None:
        return []
    import pymupdf

    # `page.widgets()` looks for each field from the first one on: a form with 10,000 of them would take three minutes.
    mupdf = pymupdf.mupdf
    found: list[Box] = []
    field = mupdf.pdf_first_widget(mupdf.pdf_page_from_fz_page(page.this))
    while field.m_internal:
        if mupdf.pdf_field_flags(mupdf.pdf_annot_obj(field)) & COMB:
            box = mupdf.pdf_annot_rect(field)
            found.append((box.x0, box.y0, box.x1, box.y1))
        field = mupdf.pdf_next_widget(field)
    return found


def _suspected(layer: Any, blocks: Sequence[int], corners: NDArray[np.float64], size: tuple[float, float]) -> list[int]:
    """Places of the words over which a picture was painted that is no scan of the page.

    Args:
        layer: The page's text.
        blocks: In which block of it each word stands.
        corners: Of the words.
        size: Of the page.
    """
    import pymupdf

    # Blocks stand in the order of painting. They are looked at one by one, without their text: most pages have no
    # picture, and `extractBLOCKS` would write out every line of all of them.
    pictures: list[tuple[int, Box]] = []
    place_of_block: list[int] = []
    block = layer.this.m_internal.first_block
    place = 0
    while block:
        if block.type == pymupdf.mupdf.FZ_STEXT_BLOCK_IMAGE:
            edges = block.bbox
            pictures.append((place, (edges.x0, edges.y0, edges.x1, edges.y1)))
        elif block.type == pymupdf.mupdf.FZ_STEXT_BLOCK_TEXT:
            place_of_block.append(place)
        place += 1
        block = block.next
    pictures = [picture for picture in pictures if not _covers_page(picture[1], size)]
    if not pictures:
        return []
    # Words count blocks without pictures; older versions count pictures too.
    places = np.array(blocks)
    if places.max() < len(place_of_block):
        places = np.array(place_of_block)[places]
    suspected: list[int] = []
    for place, box in pictures:
        suspected += words_under(corners, places < place, box)
    return suspected


def _with_ligatures(words: Sequence[str], layer: Any) -> Sequence[str]:
    """The words with the letters of ligatures in the order of writing.

    MuPDF gives all letters of a glyph but one no width, at the right edge of the one that has it, and mirrors them with
    the line: of lam-alef comes alef without width, then lam.
    """
    mended: list[str] = []
    for block in layer.extractRAWDICT()["blocks"]:
        for line in block.get("lines", ()):
            letters = [letter for span in line["spans"] for letter in span["chars"]]
            mended += "".join(_glyphs(letters)).split()
    if list(map(sorted, mended)) != list(map(sorted, words)):  # words are cut otherwise here: nothing is changed
        return words
    return mended


def _glyphs(letters: list[Any]) -> Iterator[str]:
    """The letters of each glyph of a line, in the order of writing."""
    waiting = ""  # letters without width
    edge = 0.0
    for letter in letters:
        left, _, right, _ = letter["bbox"]
        if right - left < 0.01:
            if waiting and abs(left - edge) > 0.1:
                yield waiting
                waiting = ""
            waiting += letter["c"]
            edge = left
        elif waiting and abs(right - edge) < 0.1:
            yield in_order_of_writing(waiting + letter["c"])
            waiting = ""
        else:
            yield waiting + letter["c"]
            waiting = ""
    yield waiting


def _covered(page: Any, size: tuple[float, float], corners: NDArray[np.float64], suspected: list[int]) -> list[int]:
    """Those of the suspected words that lie under a picture without a clear ground."""
    if not suspected:
        return []
    under: set[int] = set()
    for picture in _pictures_with_masks(page):
        box = as_shown(picture["bbox"], page)
        # A signature or a stamp with a clear ground hides nothing.
        if not picture["has-mask"] and not _covers_page(box, size):
            under.update(words_under(corners, np.ones(len(corners), dtype=np.bool_), box))
    return sorted(under.intersection(suspected))


def _pictures_with_masks(page: Any) -> list[dict[str, Any]]:
    """The pictures of a page, each with "has-mask": whether parts of it may be clear."""
    pictures: list[dict[str, Any]] = page.get_image_info()
    if all("has-mask" in picture for picture in pictures):
        return pictures
    # Older versions of PyMuPDF tell it of the pictures that the file has, by their numbers.
    masked = {number for number, mask, *_ in page.get_images(full=True) if mask}
    known: list[dict[str, Any]] = page.get_image_info(xrefs=True)
    return [{**picture, "has-mask": picture["xref"] in masked} for picture in known]


def _covers_page(box: Box, size: tuple[float, float]) -> bool:
    left, top, right, bottom = box
    return covers_page(left, top, right, bottom, *size)


def as_shown(box: Any, page: Any) -> tuple[float, float, float, float]:
    """A box of the file as the page is shown."""
    import pymupdf

    shown = pymupdf.Rect(box) * page.rotation_matrix
    return shown.x0, shown.y0, shown.x1, shown.y1
