"""PDF (and plain text) pages by PyMuPDF."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from visrag_integrations.images import Pixels
from visrag_integrations.readers.attachments import Attachments, look_inside
from visrag_integrations.readers.content import (
    PageContent,
    RenderSettings,
    covers_little,
    covers_page,
)
from visrag_integrations.readers.pdf_geometry import document_info, own_size, render_size
from visrag_integrations.readers.pymupdf_words import as_shown, painted_words
from visrag_integrations.readers.repaired import repair_warning
from visrag_integrations.readers.text_layer import read_text_layer
from visrag_integrations.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image

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
        self._source, self._settings = source, settings
        self._told = False  # that the document is damaged
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
                self.metadata: dict[str, Any] = {**document_info(self._document.metadata or {})}
                if warnings := self._repaired():
                    self.metadata["warnings"] = warnings
                self._labels = self._document.get_page_labels() if self._document.is_pdf else []
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
            shown = page.rect
            width, height = shown.width, shown.height
            columns, rows = render_size(width, height, self._settings.max_pixels)
            matrix = pymupdf.Matrix(columns / width, rows / height)
            drawing = page.get_displaylist()  # the page is interpreted once, for its pixels and for its text
            drawn = drawing.get_pixmap(matrix=matrix, colorspace=pymupdf.csRGB, alpha=False)
            pixels = Pixels(drawn.width, drawn.height, drawn.samples_mv, owner=drawn)
            text, words = read_text_layer(painted_words(drawing, page, (width, height)), width, height, pixels)
            label = self._label(page, number)
            scan = covers_little(words) and bool(_pictures(page, width, height))
            detail = MuPDFDetail(page, drawing, self._settings)
            warnings = self._repaired()
        return PageContent(pixels, text, words, label, not words and pixels.blank, scan, detail, warnings)

    def attachments(self, outer: Source, max_bytes: int) -> Attachments:
        """What lies inside of the document, which is the file `outer`."""
        with LOCK:
            found = look_inside(self._document, outer, max_bytes)
            found.warnings.extend(self._repaired())
        return found

    def _repaired(self) -> tuple[str, ...]:
        """What must be said once, when the document had to be repaired, which MuPDF may see at a page only."""
        if self._told or not self._document.is_repaired:
            return ()
        self._told = True
        return (repair_warning(self._source),)

    def _label(self, page: Any, number: int) -> str:
        """The page's own number ("iv", "A-3"); MuPDF reads all rules of the document anew for every page."""
        if not self._labels:
            return ""
        rules = [rule for rule in self._labels if rule["startpage"] < number]
        if rules and rules[-1].get("style") == "D" and rules[-1].get("prefix") == "" and "firstpagenum" in rules[-1]:
            rule = rules[-1]
            return f"{number - 1 - rule['startpage'] + rule['firstpagenum']}"
        label: str = page.get_label()
        return label

    def close(self) -> None:
        with LOCK:
            self._document.close()


def _pictures(page: Any, width: float, height: float) -> tuple[tuple[int, int], ...]:
    """The pixels of pictures that cover the page, each as width and height on the page as it is shown."""
    found: list[tuple[int, int]] = []
    for picture in page.get_image_info():
        if covers_page(*as_shown(picture["bbox"], page), width, height):
            columns, rows = picture["width"], picture["height"]
            if (columns > rows) != (width > height):  # turned
                columns, rows = rows, columns
            found.append((columns, rows))
    return tuple(found)


class MuPDFDetail:
    """A page, drawn part by part as large as is asked for; see `ocr.Detail`."""

    def __init__(self, page: Any, drawing: Any, settings: RenderSettings) -> None:
        self._page, self._drawing, self._settings = page, drawing, settings

    @functools.cached_property
    def _pixels(self) -> tuple[int, int]:
        """Looked for when OCR asks, which most pages do without."""
        with LOCK:
            size = (self._page.rect.width, self._page.rect.height)
            return own_size(size, _pictures(self._page, *size), self._settings)

    @property
    def width(self) -> int:
        return self._pixels[0]

    @property
    def height(self) -> int:
        return self._pixels[1]

    def part(self, box: Box, width: int, height: int) -> Image:
        import pymupdf
        from PIL import Image

        across, down = self._page.rect.width, self._page.rect.height
        left, top, right, bottom = box[0] * across, box[1] * down, box[2] * across, box[3] * down
        with LOCK:
            zoom = pymupdf.Matrix(width / (right - left), height / (bottom - top))
            area = pymupdf.Rect(left, top, right, bottom)
            drawn = self._drawing.get_pixmap(matrix=zoom, colorspace=pymupdf.csRGB, alpha=False, clip=area)
            part = Image.frombytes("RGB", (drawn.width, drawn.height), drawn.samples)
        return part.resize((width, height)) if part.size != (width, height) else part
