"""Letters of a page as boxes, one a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from visrag_integrations.grounding.folding import is_unspaced
from visrag_integrations.grounding.page_letters import PageLetters
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.ocr.turning import QuarterTurn, turned_box
from visrag_integrations.types import Box, Word


def boxes_of(page: PageLetters, spans: Iterable[tuple[int, int]]) -> tuple[Box, ...]:
    """Boxes around these letters, one for neighbouring words of a line, in reading order.

    Args:
        page: The page.
        spans: First letter and the one after the last, of each stretch.
    """
    extents: dict[int, tuple[int, int]] = {}  # of each word its first and last character that is meant
    for start, end in spans:
        for word, first, last in _characters(page, start, end):
            known_first, known_last = extents.get(word, (first, last))
            extents[word] = (min(known_first, first), max(known_last, last))
    parts: list[tuple[int, Box, QuarterTurn]] = []
    for word in sorted(extents):
        place = page.order[word] if page.order else word
        parts.append((word, _part(page.words[word], *extents[word]), page.layout.turns[place]))
    return tuple(_lines(parts))


def inside(box: Box) -> Box:
    """The box without what is outside of the page; edges that are no numbers count as 0.

    >>> inside((-0.1, 0.2, 1.5, 0.3))
    (0.0, 0.2, 1.0, 0.3)
    """
    left, top, right, bottom = map(_edge, box)
    return left, top, max(left, right), max(top, bottom)


def _edge(edge: float) -> float:
    is_nan = edge != edge
    if is_nan:
        return 0.0
    return min(1.0, max(0.0, float(edge)))


def _characters(page: PageLetters, start: int, end: int) -> Iterable[tuple[int, int, int]]:
    """Each word that these letters touch, with its first and last character that they touch."""
    first_word, begin = page.place(start)
    last_word, stop = page.place(end - 1)
    for word in range(first_word, last_word + 1):
        first = 0
        if word == first_word:
            first = begin
        last = len(page.words[word].text) - 1
        if word == last_word:
            last = stop
        yield word, first, last


def _part(word: Word, first: int, last: int) -> Box:
    """The box of characters `first` to `last`; OCR gives whole lines as one word, so a box may be cut.

    A box is cut where a space or a script without spaces shows that the word is a line: of "Taxes are due" the part
    "are" has the middle third. All characters are taken to be of one width. What is left out of a real word, as the
    brackets of "(a)", stays inside the box.
    """
    left, top, right, bottom = inside(word.box)
    before = word.text[:first]
    after = word.text[last + 1 :]
    step = (right - left) / len(word.text)
    if " " in before or is_unspaced(before):
        left += step * first
    if " " in after or is_unspaced(after):
        right -= step * len(after)
    return left, top, max(left, right), bottom


def _lines(parts: Sequence[tuple[int, Box, QuarterTurn]]) -> list[Box]:
    """Boxes of neighbouring words on one line as one; of each word its place, its box and how it is turned to be read.

    Lines of a turned page run up, down or to the left:  [fee] above [The]   ->   one box around both.
    """
    merged: list[Box] = []
    last = -2
    last_turn: QuarterTurn = 0
    for word, box, turn in parts:
        follows = bool(merged) and word == last + 1 and turn == last_turn
        if follows and _same_line(turned_box(merged[-1], turn), turned_box(box, turn)):
            merged[-1] = _around(merged[-1], box)
        else:
            merged.append(box)
        last, last_turn = word, turn
    return merged


def _around(one: Box, other: Box) -> Box:
    left, top, right, bottom = one
    return min(left, other[0]), min(top, other[1]), max(right, other[2]), max(bottom, other[3])


def _same_line(one: Box, other: Box) -> bool:
    """Whether the second box goes on the line of the first: as high, to its right, and no farther than words are.

    On turned pages and in vertical print lines run up or down: there, as wide, and below or above.
    """
    if _goes_on(one, other):
        return True
    # Short words are taller than wide too, so this comes second: "12" beside "in" is a line that runs across.
    if _stands(one) and _stands(other):
        first, second = sorted((_on_its_side(one), _on_its_side(other)))
        return _goes_on(first, second)
    return False


def _goes_on(one: Box, other: Box) -> bool:
    overlap = min(one[3], other[3]) - max(one[1], other[1])
    height = min(one[3] - one[1], other[3] - other[1])
    gap = other[0] - one[2]
    widest = max(THRESHOLDS.word_gap, THRESHOLDS.word_gap_heights * height)
    return overlap >= THRESHOLDS.line_overlap * height and -THRESHOLDS.line_backstep <= gap <= widest


def _stands(box: Box) -> bool:
    """Whether a box is taller than wide, as words of turned pages are; on a page in fractions, by a good deal."""
    left, top, right, bottom = box
    return bottom - top > right - left


def _on_its_side(box: Box) -> Box:
    left, top, right, bottom = box
    return top, left, bottom, right
