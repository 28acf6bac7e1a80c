"""PDF pages by PDFium (pypdfium2)."""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError
from visrag_integrations.images import Pixels
from visrag_integrations.readers.comb_fields import COMB
from visrag_integrations.readers.content import (
    PageContent,
    RenderSettings,
    clean_text,
    covers_little,
)
from visrag_integrations.readers.pdf_geometry import document_info, own_size, render_size
from visrag_integrations.readers.pdfium_words import Corners, covers_whole_page, painted_words, picture_box
from visrag_integrations.readers.text_layer import read_text_layer
from visrag_integrations.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.readers.sources import Source

LOCK = threading.RLock()  # PDFium may not be entered by two threads
_MOST_ANNOTATIONS = 10_000  # of a page are looked through for one that shows words
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
                combs = _combs(page, self._document)
                if _add_annotations(page):
                    page.close()
                    page = self._document[number - 1]
                width, height = page.get_size()
                text, words = read_text_layer(painted_words(page, combs), width, height, pixels)
                label = clean_text(self._document.get_page_label(number - 1) or "")
                pictures: tuple[tuple[int, int], ...] = ()
                if not words or covers_little(words):  # only there OCR may ask for more pixels
                    pictures = _pictures(page, (width, height))
                own = own_size((width, height), pictures, self._settings)
                detail = PdfiumDetail(self._document, number, own)
            finally:
                page.close()
        return PageContent(
            pixels, text, words, label, not words and pixels.blank, bool(words) and bool(pictures), detail
        )

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
    width, height = page.get_size()
    size = render_size(width, height, max_pixels)
    return _draw(page, document, size, (0, 0), size)


def _draw(page: Any, document: Any, size: tuple[int, int], corner: tuple[int, int], whole: tuple[int, int]) -> Pixels:
    """A picture of this size, on which the page begins at this corner and is as large as `whole`."""
    import pypdfium2.raw as pdfium

    columns, rows = size
    # Four bytes a pixel, of which the last one stays as it is: drawing into three takes a fifth longer, and the JPEG
    # encoder would need a copy. Memory that is white from the start costs less than having PDFium fill it.
    stride = columns * 4
    memory = bytearray(b"\xff") * (stride * rows)
    target = (ctypes.c_char * len(memory)).from_buffer(memory)
    bitmap = pdfium.FPDFBitmap_CreateEx(columns, rows, pdfium.FPDFBitmap_BGRx, target, stride)
    if not bitmap:
        raise MemoryError(f"no memory for a picture of {columns} x {rows} pixels")
    try:
        area = (*corner, *whole)
        flags = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER  # reversed: RGB, where PDFium's own order is BGR
        pdfium.FPDF_RenderPageBitmap(bitmap, page, *area, 0, flags)
        if document.formenv:
            pdfium.FPDF_FFLDraw(document.formenv, bitmap, page, *area, 0, flags)
    finally:
        pdfium.FPDFBitmap_Destroy(bitmap)
    return Pixels(columns, rows, memoryview(memory).toreadonly(), bytes_each=4)


def _pictures(page: Any, size: tuple[float, float]) -> tuple[tuple[int, int], ...]:
    """The pixels of pictures that cover the page, each as width and height on the page as it is shown."""
    import pypdfium2.raw as pdfium

    found: list[tuple[int, int]] = []
    width, height = ctypes.c_uint(), ctypes.c_uint()
    for index in range(pdfium.FPDFPage_CountObjects(page)):
        item = pdfium.FPDFPage_GetObject(page, index)
        if pdfium.FPDFPageObj_GetType(item) == pdfium.FPDF_PAGEOBJ_IMAGE:
            box = picture_box(item)
            if box is not None and covers_whole_page(page, box):
                pdfium.FPDFImageObj_GetImagePixelSize(item, width, height)
                columns, rows = max(1, width.value), max(1, height.value)
                if (columns > rows) != (size[0] > size[1]):  # turned
                    columns, rows = rows, columns
                found.append((columns, rows))
    return tuple(found)


class PdfiumDetail:
    """A page, drawn part by part as large as is asked for; see `ocr.Detail`."""

    def __init__(self, document: Any, number: int, pixels: tuple[int, int]) -> None:
        self._document, self._number = document, number
        self.width, self.height = pixels

    def part(self, box: Box, width: int, height: int) -> Image:
        # The whole page would be so large; only the part is drawn, the rest falls outside of its bitmap.
        left, top, right, bottom = box
        whole = (round(width / (right - left)), round(height / (bottom - top)))
        corner = (-round(left * whole[0]), -round(top * whole[1]))
        with LOCK:
            page = self._document[self._number - 1]
            try:
                return _draw(page, self._document, (width, height), corner, whole)()
            finally:
                page.close()


def _combs(page: Any, document: Any) -> list[Corners]:
    """The form fields of a page that have a cell for each letter, in the file's own units."""
    import pypdfium2.raw as pdfium

    found: list[Corners] = []
    if not document.formenv:
        return found
    for place in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST_ANNOTATIONS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, place)
        box = pdfium.FS_RECTF()
        is_field = pdfium.FPDFAnnot_GetSubtype(annotation) == pdfium.FPDF_ANNOT_WIDGET
        if is_field and pdfium.FPDFAnnot_GetFormFieldFlags(document.formenv, annotation) & COMB:
            pdfium.FPDFAnnot_GetRect(annotation, box)
            found.append((box.left, box.bottom, box.right, box.top))
        pdfium.FPDFPage_CloseAnnot(annotation)
    return found


def _add_annotations(page: Any) -> bool:
    """Make what annotations and form fields show part of the page, as it is drawn; False where there is none.

    PDFium draws them and keeps their words to itself. The document in memory is changed, never the file.
    """
    import pypdfium2.raw as pdfium

    for place in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST_ANNOTATIONS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, place)
        shows_words = pdfium.FPDFAnnot_GetSubtype(annotation) not in (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP)
        pdfium.FPDFPage_CloseAnnot(annotation)
        if shows_words:
            return bool(pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) == pdfium.FLATTEN_SUCCESS)
    return False
