"""A page's words by OCR: whichever way it lies, and in parts where it is too large to be read at once."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visrag_integrations import images
from visrag_integrations.ocr.assembly import assemble, lines_of
from visrag_integrations.ocr.engine import MIN_SCORE, PIXELS, OcrLine, find_and_read, find_boxes, read_line
from visrag_integrations.ocr.parts import read_in_parts
from visrag_integrations.ocr.turning import Detail, QuarterTurn, back, inside, turned_box
from visrag_integrations.types import Word

if TYPE_CHECKING:
    from PIL.Image import Image

OCR_PIXELS = 16_000_000
"""A large page is read at so many pixels, in parts: an A1 sheet at 140 dots an inch, where letters of 2 mm are read."""

# Mean score, weighted by letters, above which a page is taken to be upright. Upright print is read with 0.95 and more,
# print on its head with 0.5 to 0.8; faint scans fall below, and cost a few lines more.
_SURE = 0.9
# How much surer OCR must be of a few lines with the page turned, and how sure at least: of a script that OCR does not
# know it is unsure either way.
_SURER = 0.08
_SURE_TURNED = 0.75
_SAMPLE = 5  # lines, the longest, are read with the page turned before all of them are
# Below this mean score the page's text is no more than a guess; scripts that OCR cannot read come out at 0.5 to 0.7.
_DOUBTFUL = 0.75
# Lines without a letter that was read. One or two are seen in a photograph or a drawing that has none.
_FEWEST_UNREAD = 3
# Pages of more pixels of their own are sheets (drawings, maps, posters): an A4 page has as many at 400 dots an inch.
_SHEET = 12_000_000
_STRIP = 2.5  # a page so much longer than wide (a receipt, a screenshot) is too narrow at `PIXELS`
# Pixels of a line's box, which is half as high again as its letters: below it letters are taken for others.
_SMALL = 9
_CLOSER = 4  # times `PIXELS`, where a page that is no sheet has small print or nothing was found


@dataclass(frozen=True)
class OcrPage:
    """What OCR read of a page.

    Attributes:
        words: Lines, each as one `Word`, in reading order; boxes are on the page as it is shown.
        turn: By how many degrees clockwise the page must be turned to be read.
        score: Mean score of all that was found, the unsure lines too; 0 where nothing was.
        unread: So many lines seem to be there of which not a letter was read.
    """

    words: tuple[Word, ...] = ()
    turn: QuarterTurn = 0
    score: float = 0.0
    unread: int = 0

    @property
    def doubtful(self) -> bool:
        """Whether something was found, but nothing that could be read for sure."""
        return 0 < self.score < _DOUBTFUL or self.unread >= _FEWEST_UNREAD

    def text(self, how: str = "adjacent_merging") -> str:
        """The words as one text, of a turned page as it reads when it is turned."""
        return assemble([Word(word.text, turned_box(word.box, self.turn)) for word in self.words], how)


def read_words(image: Image) -> tuple[Word, ...]:
    """The lines of text on a picture in reading order, each as one `Word` with its box.

    Raises:
        MissingExtraError: RapidOCR is not installed.
    """
    return read_page(image).words


def read_page(image: Image, detail: Detail | None = None, ocr_pixels: int = OCR_PIXELS) -> OcrPage:
    """A page's words, read from its picture, or from its parts where it has more pixels and needs them.

    Args:
        image: The page.
        detail: The same page with all of its pixels.
        ocr_pixels: At most so many of these are looked at.

    Raises:
        MissingExtraError: RapidOCR is not installed.
    """
    small = images.fit(images.to_rgb(image), PIXELS)
    lines = find_and_read(small)
    turn = _turn(small, lines)
    if turn:
        small = _turned(small, turn)
        lines = find_and_read(small)
    words = _words(lines, small.width, small.height)
    score = _score(lines)
    if detail is not None:
        wanted = _pixels_wanted(detail, lines, ocr_pixels)
        if wanted > 1.5 * PIXELS:
            closer = read_in_parts(detail, wanted, turn)
            found = _words(closer, 1, 1)
            # Parts can lose what is larger than a part: a title across the whole sheet.
            words = [*found, *(word for word in words if not _is_among(word, found))]
            score = _score(closer) or score
    unread = 0
    if not words and not lines:  # of scripts that OCR does not know, it often says nothing at all
        unread = len(find_boxes(small))
    ordered = tuple(word for line in lines_of(words) for word in line)
    shown = tuple(Word(word.text, turned_box(word.box, back(turn))) for word in ordered)
    return OcrPage(shown, turn, score, unread)


def _words(lines: Sequence[OcrLine], width: float, height: float) -> list[Word]:
    """What is sure enough, with boxes as fractions."""
    words: list[Word] = []
    for line in lines:
        if line.score >= MIN_SCORE:
            left, top, right, bottom = line.box
            words.append(Word(line.text, inside((left / width, top / height, right / width, bottom / height))))
    return words


def _score(lines: Sequence[OcrLine]) -> float:
    """The mean score of the letters."""
    letters = sum(len(line.text) for line in lines)
    if not letters:
        return 0.0
    return sum(line.score * len(line.text) for line in lines) / letters


def _turn(picture: Image, lines: Sequence[OcrLine]) -> QuarterTurn:
    """How a page must be turned, clockwise, to be read; 0 for an upright one and where no way is better."""
    if not lines:
        return 0
    letters = sum(len(line.text) for line in lines)
    tall = sum(len(line.text) for line in lines if line.is_tall)
    on_its_side = 2 * tall > letters and letters > 3
    if not on_its_side and _score(lines) >= _SURE:
        return 0
    sample = sorted(lines, key=_length, reverse=True)[:_SAMPLE]
    turns: tuple[QuarterTurn, ...] = (180,)
    known = _score(sample)
    if on_its_side:
        turns = (90, 270)
        known = 0.0  # read after a turn of its own: that it can be read so says nothing
    best: QuarterTurn = 0
    for turn in turns:
        score = _score_turned(picture, sample, turn)
        if score >= _SURE_TURNED and score > known + _SURER:
            best, known = turn, score - _SURER
    return best


def _length(line: OcrLine) -> float:
    left, top, right, bottom = line.box
    return max(right - left, bottom - top)


def _score_turned(picture: Image, sample: Sequence[OcrLine], turn: QuarterTurn) -> float:
    """The mean score of some lines, read with the page turned."""
    read: list[OcrLine] = []
    for line in sample:
        left, top, right, bottom = line.box
        part = _turned(picture.crop((int(left), int(top), math.ceil(right), math.ceil(bottom))), turn)
        text, score = read_line(part)
        read.append(OcrLine(text, score, line.box))
    return _score(read)


def _turned(picture: Image, turn: QuarterTurn) -> Image:
    """The picture, turned clockwise."""
    from PIL import Image

    how = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
    if turn == 0:
        return picture
    return picture.transpose(how[turn])


def _pixels_wanted(detail: Detail, lines: Sequence[OcrLine], ocr_pixels: int) -> int:
    """How many pixels a page should be read at, after it was read at `PIXELS`."""
    own = detail.width * detail.height
    longer = max(detail.width, detail.height)
    strip = longer > _STRIP * min(detail.width, detail.height)
    if own >= _SHEET or strip:
        return min(own, ocr_pixels)
    heights = [min(line.box[2] - line.box[0], line.box[3] - line.box[1]) for line in lines]
    small = not heights or statistics.median(heights) < _SMALL or _score(lines) < _DOUBTFUL
    if small:
        return min(own, ocr_pixels, _CLOSER * PIXELS)
    return 0


def _is_among(word: Word, others: Sequence[Word]) -> bool:
    """Whether a third of a word's box is covered by another word."""
    left, top, right, bottom = word.box
    area = (right - left) * (bottom - top)
    for _, box in others:
        across = min(right, box[2]) - max(left, box[0])
        down = min(bottom, box[3]) - max(top, box[1])
        if across > 0 and down > 0 and across * down > area / 3:
            return True
    return False
