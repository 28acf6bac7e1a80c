"""Whether what stands side by side on a page are columns of running text, or rows of labels, values and cells."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

# Two lines are level when their middles differ by less than so much of the lower one's height: baselines of one row
# agree to a fraction of that, lines of columns that are set apart seldom do.
_LEVEL = 0.25
# Of the lines on the side that has fewer: with more of them level with a line of the other side, it is a table, a
# form, or columns set on one grid; with less, rows could not be told.
_MOSTLY = 0.6
# Lines a side needs before lines that are not level say that it is a column: two may be a label beside its value.
_FEWEST_LINES = 3
# What lines of running text have, where lines are level on both sides: letters in a line (a column of a newspaper has
# 30, a label or a cell of a table 15), and how much of the column's width the line in the middle takes.
_PROSE_LETTERS = 18
_PROSE_FILL = 0.8
# Of the characters; more of them is a list of numbers.
_PROSE_DIGITS = 0.2
_BULLETS = "•‣◦▪●○■□–—-*·∙➢➤✓"
# Lines further apart than so many heights, from top to top, are not the lines of one cell.
_CELL_LEADING = 1.7


class LinePiece(NamedTuple):
    """A stretch of words side by side; pieces sort from left to right.

    Attributes:
        left: Edges, in the units of the page.
        top: Smaller is higher.
        right: Of the last word.
        bottom: Of the lowest word.
        first: The place of its first word, in the order of painting.
        stop: The place after its last word.
        text: Its words.
        backwards: Most of its letters are read from right to left.
    """

    left: float
    top: float
    right: float
    bottom: float
    first: int
    stop: int
    text: str
    backwards: bool

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def is_level_with(self, other: LinePiece) -> bool:
        return abs(self.middle - other.middle) < _LEVEL * min(self.height, other.height)


def parts_columns(left: Sequence[LinePiece], right: Sequence[LinePiece]) -> bool:
    """Whether the gutter between two sides parts columns, each of which is read to its end."""
    few, many = left, right
    if len(right) < len(left):
        few, many = right, left
    beside = 0
    level = 0
    for stands_beside, stands_level in _compared(few, many):
        beside += stands_beside
        level += stands_level
    if len(few) < 2 or 2 * beside < len(few):  # one below the other, not side by side
        return False
    if level < _MOSTLY * len(few):
        return len(few) >= _FEWEST_LINES
    return _is_list(right) or (_is_prose(left) and _is_prose(right))


def reads_cell_by_cell(run: Sequence[LinePiece]) -> bool:
    """Whether a table was painted as it is read, with cells of several lines: then the order of painting is kept.

    Size      3 m, with           Painted Size / 3 m, with / the rudder / Colour / white. Row by row it would
              the rudder          be the same; with a third column the lines of two cells would mix.
    Colour    white
    """
    painted = sorted(run, key=lambda piece: piece.first)
    rows = 0
    tall_cells = 0
    row_top = row_bottom = float("-inf")
    before: LinePiece | None = None
    for piece in painted:
        if before is not None and _goes_on_below(before, piece):
            tall_cells += 1
        elif before is not None and piece.left >= before.right and _same_height(piece.top, row_top, piece.height):
            pass  # the next cell of the row
        elif piece.middle > row_bottom:
            rows += 1
            row_top = piece.top
        else:
            return False  # back up, or to the left: painted in some other order
        row_bottom = max(row_bottom, piece.bottom - 0.3 * piece.height)
        before = piece
    return rows >= 2 and tall_cells > 0


def _goes_on_below(before: LinePiece, piece: LinePiece) -> bool:
    """Whether a piece is the next line of the same cell."""
    across = min(before.right, piece.right) - max(before.left, piece.left)
    step = piece.top - before.top
    return across > 0 and 0.5 * before.height < step < _CELL_LEADING * before.height


def _same_height(top: float, other: float, height: float) -> bool:
    return abs(top - other) < 0.5 * height


def _compared(few: Sequence[LinePiece], many: Sequence[LinePiece]) -> list[tuple[bool, bool]]:
    """For each piece of the first side whether something of the other stands beside it, and whether level with it."""
    others = sorted(many, key=lambda piece: piece.middle)
    middles = [piece.middle for piece in others]
    found: list[tuple[bool, bool]] = []
    place = 0
    for piece in sorted(few, key=lambda piece: piece.middle):
        while place + 1 < len(others) and abs(middles[place + 1] - piece.middle) <= abs(middles[place] - piece.middle):
            place += 1
        apart = abs(middles[place] - piece.middle)
        taller = max(piece.height, others[place].height)
        found.append((apart < taller, piece.is_level_with(others[place])))
    return found


def _is_prose(side: Sequence[LinePiece]) -> bool:
    """Whether most lines are as long as the column is wide, and of letters."""
    if len(side) < _FEWEST_LINES:
        return False
    widths = [piece.right - piece.left for piece in side]
    text = "".join(piece.text for piece in side)
    digits = sum(map(str.isdigit, text))
    letters = statistics.median(_letters(piece.text) for piece in side)
    full = statistics.median(widths) >= _PROSE_FILL * max(widths)
    return letters >= _PROSE_LETTERS and full and digits < _PROSE_DIGITS * len(text)


def _letters(text: str) -> int:
    """The letters of a line; those of scripts that write a syllable or a word with one count twice.

    >>> _letters("Fee"), _letters("年度")
    (3, 4)
    """
    wide = sum(character >= "\u2e80" for character in text)
    return len(text) + wide


def _is_list(side: Sequence[LinePiece]) -> bool:
    """Whether at least two of these lines, and a third of them, begin with a bullet."""
    bullets = sum(piece.text[:1] in _BULLETS and len(piece.text) > 2 for piece in side)
    return bullets >= 2 and 3 * bullets >= len(side)
