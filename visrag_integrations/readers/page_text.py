"""Where a page's text comes from: its text layer, OCR, or both, and what is to be said about it."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations import images
from visrag_integrations.readers.content import PageContent, is_readable, stands_on
from visrag_integrations.readers.reading_order import reading_order
from visrag_integrations.readers.text_trust import Suspicion, agrees, suspicious_stretches, verdict
from visrag_integrations.types import Box, Word

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.ocr import OcrPage

logger = logging.getLogger(__name__)

_COMPARED = 4  # lines of a suspicious layer are read by OCR, the longest ones
# Room around a line that is cut out, in its heights: boxes of fonts end within the letters of some scripts.
_MARGIN = 0.15


@dataclass(frozen=True)
class PageText:
    """A page's text.

    Attributes:
        text: As it is read.
        words: The same, with boxes.
        source: "text_layer", "ocr", "text_layer+ocr" or "none".
        suspect: Why the text may not be what the page shows; "" where nothing speaks against it.
        turn: By how many degrees clockwise a page without a text layer must be turned to be read.
    """

    text: str
    words: tuple[Word, ...]
    source: str
    suspect: str = ""
    turn: int = 0

    @property
    def metadata(self) -> dict[str, Any]:
        """What a page says about it."""
        said: dict[str, Any] = {"text_source": self.source}
        if self.suspect:
            said["text_suspect"] = self.suspect
        if self.turn:
            said["text_turned"] = self.turn
        return said


def read_text(content: PageContent, mode: str, assembly: str, ocr_pixels: int) -> PageText:
    """A page's text, read as the reader's settings `ocr`, `text_assembly` and `ocr_pixels` say."""
    from visrag_integrations import ocr

    if content.blank:
        return _layer(content)
    readable = is_readable(content.text)
    doubts: list[Suspicion] = []
    if readable and mode != "always":
        doubts = suspicious_stretches(content.text)
    if mode == "never" or (mode == "auto" and not ocr.is_installed()):
        needs_ocr = not readable or content.scan
        if mode == "auto" and (needs_ocr or doubts):
            ocr.warn_missing()
        return _layer(content, "its letters are not those of any language; OCR could tell" if doubts else "")
    lines: list[tuple[str, Box]] = []
    trusted: bool | None = True
    if doubts and not content.scan:
        lines = _lines(content, doubts)
        trusted = _compare(content, lines)
    if mode == "auto" and readable and not content.scan and trusted is not False:
        suspect = "its letters are not those of any language, and OCR cannot read the page" if trusted is None else ""
        return _layer(content, suspect)
    page = ocr.read_page(images.open_picture(content.picture), content.detail, ocr_pixels)
    if mode == "auto" and readable:
        kept = content.words
        if trusted is False:
            kept = _good_words(content, lines, page)
        return _together(content, kept, page, assembly)
    text = page.text(assembly)
    return PageText(text, page.words, "ocr" if page.words else "none", _about(page, content), page.turn)


def _layer(content: PageContent, suspect: str = "") -> PageText:
    """The text layer as it is."""
    source = "text_layer" if content.text.strip() else "none"
    return PageText(content.text, content.words, source, suspect)


def _about(page: OcrPage, content: PageContent) -> str:
    """What a reader should know about what OCR read; "" where it could read."""
    if page.doubtful and not page.score:
        return f"OCR cannot read a letter of its {page.unread} lines; it may not know the script, or the scan is poor"
    if page.doubtful:
        return f"OCR is unsure of it ({page.score:.2f} of 1); it may not know the script, or the scan is poor"
    from visrag_integrations import ocr

    detail = content.detail
    if not page.words and detail is not None and detail.width * detail.height > 2 * ocr.PIXELS:
        return "nothing could be read on this large page; a higher ocr_pixels looks closer"
    return ""


def _together(content: PageContent, kept: tuple[Word, ...], page: OcrPage, assembly: str) -> PageText:
    """Words of the layer that are kept, and what OCR reads elsewhere."""
    added = tuple(word for word in page.words if not stands_on(word, kept))
    if not added:
        return _layer(content)
    if not kept:
        return PageText(page.text(assembly), page.words, "ocr", _about(page, content), page.turn)
    if kept == content.words:  # a stamp on a scan: its own text first
        from visrag_integrations import ocr

        text = f"{content.text}\n{ocr.assemble(added, assembly)}"
        return PageText(text, (*kept, *added), "text_layer+ocr", turn=page.turn)
    words = (*kept, *added)
    picture = images.open_picture(content.picture)
    boxes = np.array([word.box for word in words]) * (picture.width, picture.height, picture.width, picture.height)
    texts = [word.text for word in words]
    order = reading_order(texts, boxes)
    return PageText(order.text(texts), tuple(words[place] for place in order.places), "text_layer+ocr")


def _lines(content: PageContent, doubts: list[Suspicion]) -> list[tuple[str, Box]]:
    """The lines of the layer that are in doubt, with their boxes.

    The words of a text layer are its text, cut at white space: so many words are on each line.
    """
    lines: list[tuple[str, Box]] = []
    place = start = 0
    for line in content.text.split("\n"):
        words = content.words[place : place + len(line.split())]
        stop = start + len(line)
        if words and any(doubt.start < stop and start < doubt.stop for doubt in doubts):
            lines.append((line, _hull(words)))
        place += len(words)
        start = stop + 1
    return lines


def _hull(words: tuple[Word, ...]) -> Box:
    boxes = [word.box for word in words]
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _compare(content: PageContent, lines: list[tuple[str, Box]]) -> bool | None:
    """Whether the longest of these lines are what OCR reads in their place."""
    from visrag_integrations import ocr

    picture = images.open_picture(content.picture)
    answers: list[bool | None] = []
    for line, box in sorted(lines, key=_length, reverse=True)[:_COMPARED]:
        best: tuple[str, float] = ("", 0.0)
        for part in _cut_out(picture, box):
            best = max(best, ocr.read_line(part), key=_score)
        answers.append(agrees(line, *best))
    return verdict(answers)


def _length(line: tuple[str, Box]) -> int:
    return len(line[0])


def _score(read: tuple[str, float]) -> float:
    return read[1]


def _cut_out(picture: Image, box: Box) -> list[Image]:
    """A line, upright; one that stands, turned both ways."""
    from PIL import Image

    left, top, right, bottom = box
    width, height = picture.size
    margin = _MARGIN * min((right - left) * width, (bottom - top) * height)
    area = (left * width - margin, top * height - margin, right * width + margin, bottom * height + margin)
    part = picture.crop(tuple(map(round, area)))  # type: ignore[arg-type]
    if part.height <= 1.5 * part.width:
        return [part]
    return [part.transpose(Image.Transpose.ROTATE_90), part.transpose(Image.Transpose.ROTATE_270)]


def _good_words(content: PageContent, doubted: list[tuple[str, Box]], page: OcrPage) -> tuple[Word, ...]:
    """The words of the layer but for the lines in doubt that OCR reads otherwise: one bad font among good ones."""
    bad = {line for line in doubted if not _is_confirmed(line, page)}
    good: list[Word] = []
    place = 0
    for text in content.text.split("\n"):
        words = content.words[place : place + len(text.split())]
        place += len(words)
        if words and (text, _hull(words)) not in bad:
            good += words
    return tuple(good)


def _is_confirmed(line: tuple[str, Box], page: OcrPage) -> bool:
    """Whether OCR read the same in the place of a line."""
    text, box = line
    around = [Word(text, box)]
    read = " ".join(word.text for word in page.words if stands_on(word, around))
    return agrees(text, read, 1.0) is True


@functools.lru_cache(maxsize=1)
def warn_suspect(source: str) -> None:
    """Say in the log that pages of a document may hold other text than they show; once for each document in a row."""
    logger.warning("%s: the text of some pages may not be what they show; see text_suspect of these pages.", source)
