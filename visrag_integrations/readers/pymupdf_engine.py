"""PDF (and plain text) pages by PyMuPDF."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

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

_A4 = (595, 842)  # points
_FONT_SIZE = 11  # points, of plain text that is set on pages here
LOCK = threading.RLock()  # MuPDF's context is shared by the whole process


class PyMuPDFDocument:
    """An open document of PyMuPDF; see `DocumentContent`."""

    def __init__(self, source: Source, settings: RenderSettings, filetype: str = "pdf") -> None:
        import pymupdf

        pymupdf.TOOLS.mupdf_display_errors(False)
        pymupdf.TOOLS.mupdf_display_warnings(False)
        self._settings = settings
        with LOCK:
            if source.path is None:
                self._document = pymupdf.open(stream=source.data, filetype=filetype)
            else:
                self._document = pymupdf.open(str(source.path), filetype=filetype)
            try:
                self._unlock(settings.password)
                if self._document.is_reflowable:
                    self._document.layout(width=_A4[0], height=_A4[1], fontsize=_FONT_SIZE)
                self.total_pages: int = self._document.page_count
                self.metadata = document_info(self._document.metadata or {})
                self._labelled = bool(self._document.is_pdf and self._document.get_page_labels())
            except BaseException:
                self._document.close()
                raise

    def _unlock(self, password: str | None) -> None:
        if self._document.needs_pass and not self._document.authenticate(password or ""):
            raise PermissionError("wrong password" if password else "no password")

    def page(self, number: int) -> PageContent:
        import pymupdf

        with LOCK:
            page = self._document[number - 1]
            width, height = page.rect.width, page.rect.height
            columns, rows = render_size(width, height, self._settings.max_pixels)
            matrix = pymupdf.Matrix(columns / width, rows / height)
            drawing = page.get_displaylist()  # the page is interpreted once, for its pixels and for its text
            drawn = drawing.get_pixmap(matrix=matrix, colorspace=pymupdf.csRGB, alpha=False)
            pixels = Pixels(drawn.width, drawn.height, drawn.samples_mv, owner=drawn)
            text, words = _text_layer(drawing, width, height)
            label = page.get_label() if self._labelled else ""
            scan = covers_little(words) and _is_picture(page, width, height)
        return PageContent(pixels, text, words, label, blank=not words and pixels.blank, scan=scan)

    def close(self) -> None:
        with LOCK:
            self._document.close()


def _text_layer(drawing: Any, width: float, height: float) -> tuple[str, tuple[Word, ...]]:
    """The page's text and words. Ligatures are spelled out; an unknown character is U+FFFD, not its glyph number."""
    import pymupdf

    # Without pictures, and without ligatures as single characters; the flags of both are left out.
    layer = drawing.get_textpage(pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP)
    if not isinstance(layer, pymupdf.TextPage):
        layer = pymupdf.TextPage(layer)
    found = layer.extractWORDS()
    # Each is (x0, y0, x1, y1, text, block, line, place).
    words = make_words([word[4] for word in found], [word[:4] for word in found], width, height)
    return clean_text(layer.extractText()).strip("\n"), words


def _is_picture(page: Any, width: float, height: float) -> bool:
    """Whether one picture covers the page."""
    import pymupdf

    for found in page.get_image_info():
        box = pymupdf.Rect(found["bbox"]) * page.rotation_matrix  # as the page is shown
        if covers_page(box.x0, box.y0, box.x1, box.y1, width, height):
            return True
    return False
