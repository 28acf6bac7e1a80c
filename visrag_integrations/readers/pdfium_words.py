"""The words of a page as PDFium gives them: cut, boxed, and in its order of painting."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visrag_integrations.readers.actual_text import PlacedWords, choose
from visrag_integrations.readers.content import covers_page
from visrag_integrations.readers.pdfium_actual_text import remove_actual_text
from visrag_integrations.readers.text_direction import in_order_of_writing, may_have_ligatures
from visrag_integrations.readers.text_layer import PaintedWords, words_under

if TYPE_CHECKING:
    from numpy.typing import NDArray

Corners = tuple[float, float, float, float]
_GRID = 1_000_000  # PDFium gives places in whole units on a page of this size: finer than any word's edge is known
_SPAN = 1000.0  # points between the places that are asked for
# PDFium's sign for a hyphen that divides a word at the end of a line; the rest of the word follows without a space.
_LINE_END_HYPHEN = "\x02"
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


class _CharBoxes:
    """Where the characters of a text layer are; called thousands of times a page, so all it needs is at hand."""

    def __init__(self, layer: Any) -> None:
        import pypdfium2.raw as pdfium

        self._ask, self._layer, self._box = pdfium.FPDFText_GetLooseCharBox, layer.raw, pdfium.FS_RECTF()

    def __call__(self, index: int) -> Corners:
        """Left, bottom, right, top of a character in the file's own units, where up is more; zeros when it has none."""
        box = self._box
        if not self._ask(self._layer, index, box):
            return 0.0, 0.0, 0.0, 0.0
        return box.left, box.bottom, box.right, box.top


def painted_words(page: Any, combs: Sequence[Corners] = ()) -> PaintedWords:
    """The page's words: characters between white space, boxed by their outermost corners.

    Args:
        page: The page.
        combs: Its form fields that have a cell for each letter.
    """
    words = _read_words(page)
    if remove_actual_text(page):
        given, words = words, _read_words(page)
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


def _read_words(page: Any) -> _Words:
    import pypdfium2.raw as pdfium

    layer = page.get_textpage()
    try:
        # `layer.raw`: to look for it at each of thousands of calls takes a fifth of their time.
        count = pdfium.FPDFText_CountChars(layer.raw)
        text = _as_text(map(pdfium.FPDFText_GetUnicode, itertools.repeat(layer.raw), range(count)))
        box_of = _CharBoxes(layer)
        texts: list[str] = []
        boxes: list[Corners] = []
        starts: list[int] = []
        for start, stop in _word_spans(text):
            for first, last, box in _on_one_line(box_of, text, start, stop):
                word = text[first:last]
                if may_have_ligatures((word,)):
                    word = _with_ligatures(box_of, word, first)
                texts.append(word.replace(_LINE_END_HYPHEN, "-"))
                boxes.append(box)
                starts.append(first)
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        covered = np.zeros(len(texts), dtype=np.bool_)
        covered[_covered(page, layer, corners, starts)] = True
    finally:
        layer.close()
    return _Words(texts, corners, covered)


def _as_text(codes: Iterable[int]) -> str:
    """One character a code, so that places in the text are PDFium's own.

    >>> _as_text([97, 98, 0xD83D])
    'ab\\ufffd'
    """
    return "".join(map(_character, codes))


@functools.cache  # a page has thousands of characters, and few different ones
def _character(code: int) -> str:
    if code == 0 or 0xD800 <= code < 0xE000 or code >= 0x110000:  # no character: half a surrogate pair, beyond Unicode
        return "\ufffd"
    return chr(code)


def _word_spans(text: str) -> Iterator[tuple[int, int]]:
    """First and last + 1 place of every run without white space; a hyphen at the end of a line ends one too.

    >>> list(_word_spans(" ab c")), list(_word_spans("inter\\x02nal"))
    ([(1, 3), (4, 5)], [(0, 6), (6, 9)])
    """
    for found in _WORD.finditer(text):
        yield found.span()


def _with_ligatures(box_of: _CharBoxes, word: str, start: int) -> str:
    """A word with the letters of ligatures in the order of writing: PDFium gives letters of one glyph one box."""
    glyphs: list[str] = []
    before: Corners | None = None
    for place, letter in enumerate(word, start):
        corners = box_of(place)
        if glyphs and corners == before:
            glyphs[-1] += letter
        else:
            glyphs.append(letter)
        before = corners
    return "".join(map(in_order_of_writing, glyphs))


def _covered(page: Any, layer: Any, corners: NDArray[np.float64], starts: list[int]) -> list[int]:
    """Places of words that were painted first and covered later, by a picture that is not clear and is no scan.

    Args:
        page: The page; what is drawn by forms inside of it is not looked into.
        layer: Its text.
        corners: Of the words.
        starts: The first character of each word.
    """
    import pypdfium2.raw as pdfium

    suspected: list[tuple[int, list[int]]] = []
    objects = [pdfium.FPDFPage_GetObject(page.raw, index) for index in range(pdfium.FPDFPage_CountObjects(page.raw))]
    anywhere = np.ones(len(corners), dtype=np.bool_)
    for index, item in enumerate(objects):
        if pdfium.FPDFPageObj_GetType(item) == pdfium.FPDF_PAGEOBJ_IMAGE:
            box = picture_box(item)
            if box is not None and not covers_whole_page(page, box) and not pdfium.FPDFPageObj_HasTransparency(item):
                suspected.append((index, words_under(corners, anywhere, box)))
    covered: set[int] = set()
    if any(words for _, words in suspected):
        place_of = {ctypes.addressof(item.contents): place for place, item in enumerate(objects)}
        for index, words in suspected:
            under: list[int] = []
            for word in words:
                text_object = pdfium.FPDFText_GetTextObject(layer, starts[word])
                if text_object and place_of.get(ctypes.addressof(text_object.contents), index) < index:
                    under.append(word)
            box = picture_box(objects[index])
            if under and box is not None:
                clear = _clear_parts(page, objects[index])
                covered.update(word for word in under if not _is_clear(clear, box, corners[word].tolist()))
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


def _on_one_line(box_of: _CharBoxes, text: str, start: int, stop: int) -> list[tuple[int, int, Corners]]:
    """A run of characters with its corners; several where PDFium took what stands in two lines for one word.

    "12" above "3" in a column of a table, painted one after the other, comes as "123".
    """
    first = box_of(start)
    last = first
    if stop - start > 1:
        last = box_of(stop - 1)
    whole = _around(first, last)
    # A box no taller than a letter and a half is on one line; so is a run whose last letter begins where it should.
    if whole[3] - whole[1] <= 1.5 * (first[3] - first[1]):
        return [(start, stop, whole)]
    parts: list[tuple[int, int, Corners]] = []
    before = begin = first
    for place in range(start + 1, stop):
        corners = box_of(place)
        if _is_upright_step_down(before, corners) and text[place] < _FIRST_VERTICAL:
            parts.append((start, place, _around(begin, before)))
            start, begin = place, corners
        before = corners
    return [*parts, (start, stop, _around(begin, before))]


def _is_upright_step_down(before: Corners, corners: Corners) -> bool:
    """Whether a letter stands in another line than the one before it: most of a letter lower or higher, but no wider.

    The letters of a word that runs upwards or downwards follow one another too, but they lie on their sides: each is
    as far from the one before as it is wide.
    """
    height = before[3] - before[1]
    step = abs(corners[1] - before[1])
    beside = min(before[2], corners[2]) - max(before[0], corners[0])
    lies_on_its_side = height < 0.9 * (before[2] - before[0]) and beside > 0
    return step > 0.6 * height and not lies_on_its_side


def _around(one: Corners, other: Corners) -> Corners:
    if one is other:
        return one
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


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
