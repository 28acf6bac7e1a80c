"""The words of a page as PDFium gives them: cut, boxed, and in its order of painting."""

from __future__ import annotations

import ctypes
import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visrag_integrations.readers.actual_text import PlacedWords, choose
from visrag_integrations.readers.content import covers_page
from visrag_integrations.readers.pdfium_actual_text import remove_actual_text
from visrag_integrations.readers.pdfium_calls import Letters, address_of, kinds_of, objects_on
from visrag_integrations.readers.text_direction import in_order_of_writing, may_have_ligatures
from visrag_integrations.readers.text_layer import PaintedWords, words_under

if TYPE_CHECKING:
    from numpy.typing import NDArray

Corners = tuple[float, float, float, float]
_GRID = 1_000_000  # PDFium gives places in whole units on a page of this size: finer than any word's edge is known
_SPAN = 1000.0  # points between the places that are asked for
# PDFium's sign for a hyphen that divides a word at the end of a line; the rest of the word follows without a space.
_LINE_END_HYPHEN = "\x02"
# A run without white space; a hyphen at the end of a line ends one too.
_WORD = re.compile("[^\\s\x02]+\x02?|\x02")
# Of 255: below it, what lies under a pixel of a picture shows through it.
_OPAQUE = 250
# Of a word's box: so much of it must be clear for the word to be read. Letters leave most of their box free, so that a
# signature over them hides less than half of it; a picture with a few holes hides all.
_SEEN_THROUGH = 0.5
_FIRST_VERTICAL = "\u2e80"  # from here on: scripts that are written from top to bottom too


class _Words(NamedTuple):
    """Words in the file's own units; of each whether a picture covers it."""

    texts: list[str]
    corners: NDArray[np.float64]
    covered: NDArray[np.bool_]


def painted_words(page: Any, combs: Sequence[Corners] = ()) -> PaintedWords:
    """The page's words: characters between white space, boxed by their outermost corners.

    Args:
        page: The page.
        combs: Its form fields that have a cell for each letter.
    """
    objects = objects_on(page)
    words = _read_words(page, objects)
    if remove_actual_text(objects):
        given, words = words, _read_words(page, objects)
        chosen = choose(PlacedWords(words.texts, words.corners), PlacedWords(given.texts, given.corners))
        words = _Words(chosen.texts, chosen.corners, words.covered[chosen.places])
    turned = _shown(page)
    points = words.corners.reshape(-1, 2)
    fields = np.array(combs, dtype=np.float64).reshape(-1, 2)
    return PaintedWords(
        words.texts,
        (points @ turned[:2] + turned[2]).reshape(-1, 4),
        np.flatnonzero(words.covered).tolist(),
        (fields @ turned[:2] + turned[2]).reshape(-1, 4),
    )


def _read_words(page: Any, objects: Sequence[int]) -> _Words:
    layer = page.get_textpage()
    try:
        letters = Letters(layer)
        cut = _cut(letters)
        covered = np.zeros(len(cut.texts), dtype=np.bool_)
        covered[_covered(page, layer, cut, objects)] = True
    finally:
        layer.close()
    return _Words(cut.texts, cut.corners, covered)


class _Cut(NamedTuple):
    """The words of a text layer, their corners, and the place of the first character of each."""

    texts: list[str]
    corners: NDArray[np.float64]
    starts: list[int]


def _cut(letters: Letters) -> _Cut:
    """The words of a page, each on one line."""
    text = letters.text
    spans = [found.span() for found in _WORD.finditer(text)]
    if not spans:
        return _Cut([], np.empty((0, 4)), [])
    starts, stops = map(list, zip(*spans, strict=True))
    first, corners = _boxes(letters, starts, stops)
    # A box no taller than a letter and a half is on one line; so is a run whose last letter begins where it should.
    with np.errstate(invalid="ignore"):  # infinite boxes of broken files
        level = corners[:, 3] - corners[:, 1] <= 1.5 * (first[:, 3] - first[:, 1])
    line_starts = _line_starts(letters, [spans[place] for place in np.flatnonzero(~level).tolist()])
    if line_starts:
        starts = sorted(starts + line_starts)
        stops = sorted(stops + line_starts)
        _, corners = _boxes(letters, starts, stops)
    texts = [text[start:stop] for start, stop in zip(starts, stops, strict=True)]
    if may_have_ligatures(text):
        for place, word in enumerate(texts):
            if may_have_ligatures(word):
                texts[place] = _with_ligatures(letters, word, starts[place])
    if _LINE_END_HYPHEN in text:
        texts = [word.replace(_LINE_END_HYPHEN, "-") for word in texts]
    return _Cut(texts, corners, starts)


def _boxes(letters: Letters, starts: list[int], stops: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The box of each word's first letter, and the corners of the word: those around its first and its last letter."""
    lasts = [stop - 1 for stop in stops]
    first, last = np.split(letters.boxes(starts + lasts), 2)
    return first, _around(first, last)


def _line_starts(letters: Letters, spans: Sequence[tuple[int, int]]) -> list[int]:
    """The places within these words where PDFium took what stands in two lines for one word.

    "12" above "3" in a column of a table, painted one after the other, comes as "123".
    """
    firsts = {start for start, _ in spans}
    places = [place for span in spans for place in range(*span)]
    found: list[int] = []
    for place, (before, corners) in zip(places[1:], itertools.pairwise(letters.boxes(places).tolist()), strict=True):
        goes_on = place not in firsts
        if goes_on and _is_upright_step_down(before, corners) and letters.text[place] < _FIRST_VERTICAL:
            found.append(place)
    return found


def _with_ligatures(letters: Letters, word: str, start: int) -> str:
    """A word with the letters of ligatures in the order of writing: PDFium gives letters of one glyph one box."""
    glyphs: list[str] = []
    before: list[float] | None = None
    for letter, corners in zip(word, letters.boxes(range(start, start + len(word))).tolist(), strict=True):
        if glyphs and corners == before:
            glyphs[-1] += letter
        else:
            glyphs.append(letter)
        before = corners
    return "".join(map(in_order_of_writing, glyphs))


def _covered(page: Any, layer: Any, words: _Cut, objects: Sequence[int]) -> list[int]:
    """Places of words that were painted first and covered later, by a picture that is not clear and is no scan.

    Args:
        page: The page; what is drawn by forms inside of it is not looked into.
        layer: Its text.
        words: Of this text.
        objects: What the page draws.
    """
    import pypdfium2.raw as pdfium

    suspected: list[tuple[int, Any, list[int]]] = []
    anywhere = np.ones(len(words.texts), dtype=np.bool_)
    for index, kind in enumerate(kinds_of(objects)):
        if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
            item = ctypes.cast(objects[index], pdfium.FPDF_PAGEOBJECT)
            box = picture_box(item)
            if box is not None and not covers_whole_page(page, box) and not pdfium.FPDFPageObj_HasTransparency(item):
                suspected.append((index, item, words_under(words.corners, anywhere, box)))
    covered: set[int] = set()
    if any(below for _, _, below in suspected):
        place_of = {item: place for place, item in enumerate(objects)}
        for index, item, below in suspected:
            under: list[int] = []
            for word in below:
                text_object = pdfium.FPDFText_GetTextObject(layer, words.starts[word])
                if text_object and place_of.get(address_of(text_object), index) < index:
                    under.append(word)
            box = picture_box(item)
            if under and box is not None:
                clear = _clear_parts(page, item)
                covered.update(word for word in under if not _is_clear(clear, box, words.corners[word].tolist()))
    return sorted(covered)


def _clear_parts(page: Any, picture: Any) -> NDArray[np.bool_] | None:
    """Where a picture lets what is below it through, row by row from its top; None for one that does nowhere.

    PDFium's `HasTransparency` knows of the object's own opacity, and nothing of a mask that comes with the picture.
    """
    import pypdfium2.raw as pdfium

    bitmap = pdfium.FPDFImageObj_GetRenderedBitmap(page.pdf, page, picture)
    if not bitmap:
        return None
    try:
        if pdfium.FPDFBitmap_GetFormat(bitmap) != pdfium.FPDFBitmap_BGRA:
            return None
        rows, stride = pdfium.FPDFBitmap_GetHeight(bitmap), pdfium.FPDFBitmap_GetStride(bitmap)
        memory = ctypes.string_at(pdfium.FPDFBitmap_GetBuffer(bitmap), rows * stride)
        columns = pdfium.FPDFBitmap_GetWidth(bitmap)
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)
    opacity = np.frombuffer(memory, dtype=np.uint8).reshape(rows, stride)[:, 3 : 4 * columns : 4]
    clear: NDArray[np.bool_] = opacity < _OPAQUE
    return clear


def _is_clear(clear: NDArray[np.bool_] | None, picture: Corners, word: Sequence[float]) -> bool:
    """Whether a word can be seen through the part of a picture that lies over it; both boxes with up as more."""
    if clear is None:
        return False
    rows, columns = clear.shape
    left, bottom, right, top = picture
    across = columns / max(right - left, 1e-9)
    down = rows / max(top - bottom, 1e-9)
    first, last = max(0, int((word[0] - left) * across)), math.ceil((word[2] - left) * across)
    upper, lower = max(0, int((top - word[3]) * down)), math.ceil((top - word[1]) * down)
    part = clear[upper:lower, first:last]
    return bool(part.size) and float(part.mean()) > _SEEN_THROUGH


def picture_box(item: Any) -> Corners | None:
    """Left, bottom, right, top of an object on its page."""
    import pypdfium2.raw as pdfium

    edges = [ctypes.c_float() for _ in range(4)]
    if not pdfium.FPDFPageObj_GetBounds(item, *edges):
        return None
    left, bottom, right, top = (edge.value for edge in edges)
    return left, bottom, right, top


def covers_whole_page(page: Any, box: Corners) -> bool:
    x0, y0, x1, y1 = page.get_mediabox()
    left, bottom, right, top = box
    return covers_page(left - x0, bottom - y0, right - x0, top - y0, x1 - x0, y1 - y0)


def _is_upright_step_down(before: Sequence[float], corners: Sequence[float]) -> bool:
    """Whether a letter stands in another line than the one before it: most of a letter lower or higher, but no wider.

    The letters of a word that runs upwards or downwards follow one another too, but they lie on their sides: each is
    as far from the one before as it is wide.
    """
    height = before[3] - before[1]
    step = abs(corners[1] - before[1])
    beside = min(before[2], corners[2]) - max(before[0], corners[0])
    lies_on_its_side = height < 0.9 * (before[2] - before[0]) and beside > 0
    return step > 0.6 * height and not lies_on_its_side


def _around(ones: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of two boxes together, pair by pair.

    >>> _around(np.array([[0.0, 0, 4, 9]]), np.array([[5.0, -2, 8, 7]])).tolist()
    [[0.0, -2.0, 8.0, 9.0]]
    """
    lower = np.where(others < ones, others, ones)
    upper = np.where(others > ones, others, ones)
    return np.hstack([lower[:, :2], upper[:, 2:]])


def _shown(page: Any) -> NDArray[np.float64]:
    """What turns `(x, y)` of the file into the page as it is shown: two rows to multiply by, one to add."""
    import pypdfium2.raw as pdfium

    x, y = ctypes.c_int(), ctypes.c_int()
    rows: list[tuple[float, float]] = []
    for corner in ((0, 0), (_SPAN, 0), (0, _SPAN)):
        pdfium.FPDF_PageToDevice(page, 0, 0, _GRID, _GRID, 0, *corner, x, y)
        rows.append((x.value, y.value))
    origin, across, down = np.array(rows, dtype=np.float64) / _GRID * page.get_size()
    return np.stack([(across - origin) / _SPAN, (down - origin) / _SPAN, origin])
