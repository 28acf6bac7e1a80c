"""PDF pages by PDFium (pypdfium2)."""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError
from visrag_integrations.images import Pixels
from visrag_integrations.readers.content import (
    PageContent,
    RenderSettings,
    clean_text,
    covers_little,
    covers_page,
    make_words,
)
from visrag_integrations.readers.pdf_geometry import document_info, render_size
from visrag_integrations.types import Word

if TYPE_CHECKING:
    from visrag_integrations.readers.sources import Source

LOCK = threading.RLock()  # PDFium may not be entered by two threads
_GRID = 1_000_000  # corners are asked for in whole units on a page of this size: finer than any word's edge is known
_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD


class PdfiumDocument:
    """An open document of PDFium; see `DocumentContent`."""

    def __init__(self, source: Source, settings: RenderSettings) -> None:
        pdfium = _engine()
        self._settings = settings
        with LOCK:
            given = source.data if source.path is None else source.path
            try:
                self._document = pdfium.PdfDocument(given, password=settings.password)
            except pdfium.PdfiumError as err:
                if getattr(err, "err_code", None) == _PASSWORD_ERROR or "assword" in str(err):
                    raise PermissionError("wrong password" if settings.password else "no password") from err
                raise
            try:
                self._document.init_forms()
                self.total_pages: int = len(self._document)
                self.metadata = document_info(self._document.get_metadata_dict())
            except BaseException:
                self._document.close()
                raise

    def page(self, number: int) -> PageContent:
        with LOCK:
            page = self._document[number - 1]
            try:
                pixels = _render(page, self._document, self._settings.max_pixels)
                text, words = _text_layer(page)
                label = clean_text(self._document.get_page_label(number - 1) or "")
                scan = covers_little(words) and _is_picture(page)
            finally:
                page.close()
        return PageContent(pixels, text, words, label, blank=not words and pixels.blank, scan=scan)

    def close(self) -> None:
        with LOCK:
            self._document.close()


def _engine() -> Any:
    try:
        import pypdfium2
    except ImportError as err:
        raise MissingExtraError("pypdfium2 (backend='pdfium')", "pdfium") from err
    logging.getLogger("pypdfium2").setLevel(logging.ERROR)
    return pypdfium2


def _render(page: Any, document: Any, max_pixels: int) -> Pixels:
    """The page in RGB, drawn straight into memory of our own, form fields included."""
    import pypdfium2.raw as pdfium

    width, height = page.get_size()
    columns, rows = render_size(width, height, max_pixels)
    stride = (columns * 3 + 3) // 4 * 4  # rows end on multiples of four bytes: 5 pixels, 15 bytes, take 16
    memory = bytearray(stride * rows)
    target = (ctypes.c_char * len(memory)).from_buffer(memory)
    bitmap = pdfium.FPDFBitmap_CreateEx(columns, rows, pdfium.FPDFBitmap_BGR, target, stride)
    if not bitmap:
        raise MemoryError(f"no memory for a picture of {columns} x {rows} pixels")
    try:
        area = (0, 0, columns, rows)
        flags = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER  # reversed: RGB, where PDFium's own order is BGR
        pdfium.FPDFBitmap_FillRect(bitmap, *area, 0xFFFFFFFF)
        pdfium.FPDF_RenderPageBitmap(bitmap, page, *area, 0, flags)
        if document.formenv:
            pdfium.FPDF_FFLDraw(document.formenv, bitmap, page, *area, 0, flags)
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)
    if stride != columns * 3:  # without the bytes that fill up the rows
        memory = bytearray().join(memory[start : start + columns * 3] for start in range(0, stride * rows, stride))
    return Pixels(columns, rows, bytes(memory))


def _is_picture(page: Any) -> bool:
    """Whether one picture covers the page."""
    import pypdfium2.raw as pdfium

    edges = (ctypes.c_float * 4)()  # left, bottom, right, top; PDFium writes into it
    addresses = [ctypes.byref(edges, place * ctypes.sizeof(ctypes.c_float)) for place in range(4)]
    x0, y0, x1, y1 = page.get_mediabox()
    for index in range(pdfium.FPDFPage_CountObjects(page)):
        item = pdfium.FPDFPage_GetObject(page, index)
        is_image = pdfium.FPDFPageObj_GetType(item) == pdfium.FPDF_PAGEOBJ_IMAGE
        if is_image and pdfium.FPDFPageObj_GetBounds(item, *addresses):
            left, bottom, right, top = edges
            if covers_page(left - x0, bottom - y0, right - x0, top - y0, x1 - x0, y1 - y0):
                return True
    return False


def _text_layer(page: Any) -> tuple[str, tuple[Word, ...]]:
    """The page's text, and its words: characters between white space, boxed by their outermost corners."""
    import pypdfium2.raw as pdfium

    layer = page.get_textpage()
    try:
        codes = [pdfium.FPDFText_GetUnicode(layer, index) for index in range(pdfium.FPDFText_CountChars(layer))]
        text = _as_text(codes)
        spans = list(_word_spans(text))
        boxes = [_span_box(page, layer, start, stop) for start, stop in spans]
    finally:
        layer.close()
    words = make_words([text[start:stop] for start, stop in spans], boxes, _GRID, _GRID)
    return clean_text(text).strip("\n"), words


def _as_text(codes: list[int]) -> str:
    """One character a code, so that places in the text are PDFium's own; 2 is its hyphen at the end of a line.

    >>> _as_text([97, 2, 98, 0xD83D])
    'a-b\\ufffd'
    """
    return "".join(map(_character, codes))


@functools.cache  # a page has thousands of characters, and few different ones
def _character(code: int) -> str:
    if code == 2:
        return "-"
    if code == 0 or 0xD800 <= code < 0xE000 or code >= 0x110000:  # no character: half a surrogate pair, beyond Unicode
        return "\ufffd"
    return chr(code)


def _word_spans(text: str) -> Iterator[tuple[int, int]]:
    """First and last + 1 place of every run without white space.

    >>> list(_word_spans(" ab c"))
    [(1, 3), (4, 5)]
    """
    start = None
    for place, character in enumerate(text + " "):
        if character.isspace():
            if start is not None:
                yield start, place
            start = None
        elif start is None:
            start = place


def _span_box(page: Any, layer: Any, start: int, stop: int) -> tuple[float, float, float, float]:
    import pypdfium2.raw as pdfium

    across: list[int] = []
    down: list[int] = []
    rect, x, y = pdfium.FS_RECTF(), ctypes.c_int(), ctypes.c_int()
    for index in {start, stop - 1}:  # the first and the last character; a word of one letter has only one
        if pdfium.FPDFText_GetLooseCharBox(layer, index, rect):
            for px, py in ((rect.left, rect.top), (rect.right, rect.bottom)):
                pdfium.FPDF_PageToDevice(page, 0, 0, _GRID, _GRID, 0, px, py, x, y)
                across.append(x.value)
                down.append(y.value)
    if not across:
        return 0, 0, 0, 0
    return min(across), min(down), max(across), max(down)
