"""Words of a page as one text: blocks of boxes that touch, or each word in the column where it stood."""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from visrag_integrations.errors import UnknownNameError
from visrag_integrations.types import Word

TextAssembly = Literal["adjacent_merging", "layout_preserving"]
"""How the words of a page become one text: see `assemble`."""

# In `_touch`, measured in the page's own median letter and line. More joins columns of a table or of a newspaper into
# one block; less takes a line apart at a wide space.
_JOIN_CHARACTERS = 2
"""Boxes on one line touch when less than so many characters lie between them."""
_JOIN_LINES = 0.8
"""Boxes above each other touch when less than so much of a line lies between them: a blank line parts two blocks."""
_LEVEL_OVERLAP = 0.3
"""Boxes are on one line when they overlap by so much of a line's height: a sagging scan still counts."""
# Keeps a page whose text stands in two far corners from becoming a screen of empty lines.
_MAX_EMPTY_LINES = 3
# No division by zero where every box is degenerate; far below the height of any letter (0.01 % of the page).
_SMALLEST = 1e-4


def assemble(words: Sequence[Word], how: str = "adjacent_merging") -> str:
    """The words as one text: "adjacent_merging" joins boxes that touch, "layout_preserving" sets each where it stood.

    >>> page = [Word("Year", (0.1, 0.1, 0.2, 0.12)), Word("Total", (0.6, 0.1, 0.7, 0.12))]
    >>> assemble(page), assemble(page, "layout_preserving")
    ('Year\\nTotal', 'Year                  Total')
    """
    if how not in ASSEMBLIES:
        raise UnknownNameError(f"There is no text assembly {how!r}; use one of {', '.join(ASSEMBLIES)}.")
    if not words:
        return ""
    return ASSEMBLIES[how](words)


def _merge_adjacent(words: Sequence[Word]) -> str:
    """Blocks of boxes that touch, from the top left to the bottom right, each read line by line."""
    text: list[str] = []
    for block in _in_reading_order(_blocks(words)):
        for line in lines_of(block):
            text.append(" ".join(word.text for word in line))
    return "\n".join(text)


def _blocks(words: Sequence[Word]) -> list[list[Word]]:
    """Words that touch, directly or through others, together."""
    height, width = _line_height(words), _column_width(words)
    blocks: list[list[Word]] = []
    for word in words:
        joined: list[Word] = []  # a word may touch several blocks, which become one through it
        apart: list[list[Word]] = []
        for block in blocks:
            if any(_touch(word, other, height, width) for other in block):
                joined += block
            else:
                apart.append(block)
        blocks = [*apart, [*joined, word]]
    return blocks


def _in_reading_order(blocks: list[list[Word]]) -> Iterator[list[Word]]:
    """Blocks as if each were one large word: level ones left to right, the others top to bottom."""
    outlines = [Word(str(place), _hull(block)) for place, block in enumerate(blocks)]
    for line in lines_of(outlines):
        for outline in line:
            yield blocks[int(outline.text)]


def _preserve_layout(words: Sequence[Word]) -> str:
    """One line of text a line on the page: gaps become spaces, skipped lines become empty ones."""
    height, width = _line_height(words), _column_width(words)
    left_edge = min(word.box[0] for word in words)
    text: list[str] = []
    bottom: float | None = None
    for line in lines_of(words):
        top = min(word.box[1] for word in line)
        if bottom is not None:
            # Half a line between two lines is usual spacing: a gap of 0.4 lines is none, of 1.4 one empty line.
            skipped = round((top - bottom) / height - 0.5)
            text += [""] * min(_MAX_EMPTY_LINES, max(0, skipped))
        bottom = max(word.box[3] for word in line)
        text.append(_spaced_out(line, left_edge, width))
    return "\n".join(text)


def _spaced_out(line: list[Word], left_edge: float, width: float) -> str:
    """One line with each word in the column where it stands; words that would overlap are one space apart."""
    written = ""
    columns = 0
    for word in line:
        gap = round((word.box[0] - left_edge) / width) - columns
        smallest = 1 if written else 0
        gap = max(smallest, gap)
        written += " " * gap + word.text
        columns += gap + _columns_of(word.text)
    return written


ASSEMBLIES: dict[str, Callable[[Sequence[Word]], str]] = {
    "adjacent_merging": _merge_adjacent,
    "layout_preserving": _preserve_layout,
}


def _touch(one: Word, other: Word, height: float, width: float) -> bool:
    """Side by side within two characters, or one above the other within most of a line."""
    # The gap between the two boxes; below 0 they overlap by so much.
    across = max(one.box[0], other.box[0]) - min(one.box[2], other.box[2])
    down = max(one.box[1], other.box[1]) - min(one.box[3], other.box[3])
    side_by_side = across < _JOIN_CHARACTERS * width and down < -_LEVEL_OVERLAP * height
    above_each_other = across < 0 and down < _JOIN_LINES * height
    return side_by_side or above_each_other


def lines_of(words: Sequence[Word]) -> list[list[Word]]:
    """Words whose middles are level, left to right; the lines top to bottom.

    >>> [[w.text for w in line] for line in lines_of([Word("b", (.5, .11, .6, .2)), Word("a", (.1, .1, .2, .2))])]
    [['a', 'b']]
    """
    lines: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.box[1] + word.box[3]):
        middle = (word.box[1] + word.box[3]) / 2
        if lines and lines[-1][0].box[1] <= middle <= lines[-1][0].box[3]:
            lines[-1].append(word)
        else:
            lines.append([word])
    return [sorted(line, key=lambda word: word.box[0]) for line in lines]


def _line_height(words: Sequence[Word]) -> float:
    return max(_SMALLEST, statistics.median(word.box[3] - word.box[1] for word in words))


def _column_width(words: Sequence[Word]) -> float:
    widths = [(word.box[2] - word.box[0]) / max(1, _columns_of(word.text)) for word in words]
    return max(_SMALLEST, statistics.median(widths))


def _columns_of(text: str) -> int:
    """Columns the text takes in a typewriter's grid: two for a wide character.

    >>> _columns_of("Year"), _columns_of("年度")
    (4, 4)
    """
    wide = [character for character in text if unicodedata.east_asian_width(character) in "WF"]
    return len(text) + len(wide)


def _hull(words: Sequence[Word]) -> tuple[float, float, float, float]:
    left, top, right, bottom = zip(*(word.box for word in words), strict=True)
    return min(left), min(top), max(right), max(bottom)
