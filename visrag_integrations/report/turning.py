"""How a page must be turned so that its evidence can be read: scans on their heads, wide tables, notes in a margin."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mode

from visrag_integrations.grounding.word_turns import word_turns
from visrag_integrations.ocr.turning import QuarterTurn
from visrag_integrations.types import Box, Page, Word

_TURNS: tuple[QuarterTurn, ...] = (0, 90, 180, 270)
# From here on: scripts whose letters stand upright where lines run from top to bottom.
_VERTICAL = "\u2e80"


def turn_to_read(page: Page, boxes: Sequence[Box], shape: float) -> QuarterTurn:
    """Degrees clockwise by which the page must be turned so that what is in these boxes stands upright.

    Args:
        page: With its words.
        boxes: Of the evidence.
        shape: The page's width as a share of its height.

    >>> words = (Word("paid", (0.4, 0.7, 0.45, 0.8)), Word("late", (0.4, 0.5, 0.45, 0.6)))  # upwards
    >>> turn_to_read(Page("d", 1, words=words), [(0.4, 0.5, 0.45, 0.8)], 1.0)
    90
    """
    known = page.metadata.get("text_turned")  # a scan: OCR read it turned
    for turn in _TURNS:
        if turn and turn == known:
            return turn
    found: list[QuarterTurn] = []
    letters = ""
    for word, turn in zip(page.words, word_turns(page.words, shape), strict=True):
        if _stands_in(word, boxes):
            found.append(turn)
            letters += word.text
    if not found:
        return 0
    turn = mode(found)
    vertical = sum(letter >= _VERTICAL for letter in letters)
    if turn == 270 and 2 * vertical > len(letters):
        return 0
    return turn


def _stands_in(word: Word, boxes: Sequence[Box]) -> bool:
    """Whether the middle of a word lies in one of the boxes."""
    left, top, right, bottom = word.box
    across = (left + right) / 2
    down = (top + bottom) / 2
    return any(box[0] <= across <= box[2] and box[1] <= down <= box[3] for box in boxes)
