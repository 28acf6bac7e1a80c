"""PDF (and plain text) pages by PyMuPDF."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.images import Pixels
from visrag_integrations.readers.attachments import Attachments, look_inside
from visrag_integrations.readers.comb_fields import COMB
from visrag_integrations.readers.content import (
    PageContent,
    RenderSettings,
    covers_little,
    covers_page,
)
from visrag_integrations.readers.dingbats import with_dingbats
from visrag_integrations.readers.pdf_geometry import document_info, own_size, render_size
from visrag_integrations.readers.text_direction import in_order_of_writing, may_have_ligatures
from visrag_integrations.readers.text_layer import PaintedWords, read_text_layer, words_under
from visrag_integrations.types import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray
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
            text, words = read_text_layer(_painted_words(drawing, page, (width, height)), width, height, pixels)
            label = self._label(page, number)
            scan = covers_little(words) and bool(_pictures(page, width, height))
            detail = MuPDFDetail(page, drawing, self._settings)
        return PageContent(pixels, text, words, label, not words and pixels.blank, scan, detail)

    def attachments(self, outer: Source, max_bytes: int) -> Attachments:
        """What lies inside of the document, which is the file `outer`."""
        with LOCK:
            return look_inside(self._document, outer, max_bytes)

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


def _painted_words(drawing: Any, page: Any, size: tuple[float, float]) -> PaintedWords:
    """The page's words. Ligatures are spelled out; an unknown character is U+FFFD, not its glyph number."""
    import pymupdf

    # Without ligatures as single characters; the flag for that is left out. Pictures come as blocks without pixels.
    flags = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP | pymupdf.TEXT_PRESERVE_IMAGES
    layer = drawing.get_textpage(flags)
    if not isinstance(layer, pymupdf.TextPage):
        layer = pymupdf.TextPage(layer)
    found = layer.extractWORDS()
    if not found:
        return PaintedWords([], [])
    # Each word is (x0, y0, x1, y1, text, block, line, place). All left edges together, then all upper ones: of a few
    # long lists an array is made in half of the time that many short ones take.
    texts: Sequence[str]
    left, top, right, bottom, texts, blocks, *_ = zip(*found, strict=True)
    corners = np.array((left, top, right, bottom)).T
    if may_have_ligatures(texts):
        texts = _with_ligatures(texts, layer)
    texts = with_dingbats(texts, found, page, layer)
    covered = _covered(page, size, corners, _suspected(layer, blocks, corners, size))
    return PaintedWords(texts, corners, covered, _combs(page))


def _combs(page: Any) -> list[Box]:
    """The form fields of a page that have a cell for each letter, as the page is shown."""
    if page.first_widget is None:
        return []
    return [_as_shown(field.rect, page) for field in page.widgets() if field.field_flags & COMB]


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
        box = _as_shown(picture["bbox"], page)
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


def _as_shown(box: Any, page: Any) -> tuple[float, float, float, float]:
    """A box of the file as the page is shown."""
    import pymupdf

    shown = pymupdf.Rect(box) * page.rotation_matrix
    return shown.x0, shown.y0, shown.x1, shown.y1


def _pictures(page: Any, width: float, height: float) -> tuple[tuple[int, int], ...]:
    """The pixels of pictures that cover the page, each as width and height on the page as it is shown."""
    found: list[tuple[int, int]] = []
    for picture in page.get_image_info():
        if covers_page(*_as_shown(picture["bbox"], page), width, height):
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
