"""Letters of a page as boxes, one a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from visrag_integrations.grounding.letters import PageLetters, is_unspaced
from visrag_integrations.types import Box, Word


def boxes_of(page: PageLetters, spans: Iterable[tuple[int, int]]) -> tuple[Box, ...]:
    """Boxes around these letters, one for neighbouring words of a line, in reading order."""
    extent: dict[int, tuple[int, int]] = {}
    for start, end in spans:
        first, begin = page.place(start)
        last, stop = page.place(end - 1)
        for word in range(first, last + 1):
            left = begin if word == first else 0
            right = stop if word == last else len(page.words[word].text) - 1
            known = extent.get(word, (left, right))
            extent[word] = min(known[0], left), max(known[1], right)
    return tuple(_lines([(word, _part(page.words[word], *extent[word])) for word in sorted(extent)]))


def inside(box: Box) -> Box:
    """The box without what is outside of the page.

    >>> inside((-0.1, 0.2, 1.5, 0.3))
    (0.0, 0.2, 1.0, 0.3)
    """
    left, top, right, bottom = (min(1.0, max(0.0, float(edge))) if edge == edge else 0.0 for edge in box)
    return left, top, max(left, right), max(top, bottom)


def _part(word: Word, first: int, last: int) -> Box:
    """The box of characters `first` to `last`; OCR gives whole lines as one word, so a box may be cut."""
    left, top, right, bottom = inside(word.box)
    before, after = word.text[:first], word.text[last + 1 :]
    step = (right - left) / len(word.text)
    if " " in before or is_unspaced(before):
        left += step * first
    if " " in after or is_unspaced(after):
        right -= step * len(after)
    return left, top, max(left, right), bottom


def _lines(boxes: Sequence[tuple[int, Box]]) -> list[Box]:
    """Boxes of neighbouring words on one line as one."""
    merged: list[Box] = []
    last = -2
    for index, box in boxes:
        if merged and index == last + 1 and _same_line(merged[-1], box):
            one = merged[-1]
            merged[-1] = (min(one[0], box[0]), min(one[1], box[1]), max(one[2], box[2]), max(one[3], box[3]))
        else:
            merged.append(box)
        last = index
    return merged


def _same_line(one: Box, other: Box) -> bool:
    """Whether the second box goes on the line of the first: as high, to its right, and no farther than words are."""
    overlap = min(one[3], other[3]) - max(one[1], other[1])
    height = min(one[3] - one[1], other[3] - other[1])
    return overlap >= 0.5 * height and -0.02 <= other[0] - one[2] <= max(0.015, 1.5 * height)
