"""Where the words of a page stand to one another: lines, cells in them, and what is beside and below a cell.

The order in which a file paints its words says nothing about what belongs together: many programs paint the value
before its label, or all labels before all values. A reader goes by place. Here a *cell* is a stretch of one line
without a wide gap: a label, its value, a line of a column of text.

    Order date:     15-10-2031          cells 0 and 1; right of 0 is 1
    Invoice date:   20-10-2031          cells 2 and 3; below 0 is 2, below 1 is 3
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.types import Box, Word

# Dots and low lines only; a dash may be a value: none.
_LEADERS = re.compile(r"[.·…․‥_ ]{2,}")
_RIGHT_TO_LEFT = ("R", "AL")  # Unicode's bidirectional classes of Hebrew and Arabic letters


@dataclass(frozen=True)
class Cell:
    """Words of one line without a wide gap between them, in the order in which they are read.

    Attributes:
        words: Their places among the page's words.
        box: Around them.
        text: What they say.
        row: Its line, from the top of the page.
        place: Its place in the line, in the order in which cells are read.
    """

    words: tuple[int, ...]
    box: Box
    text: str
    row: int
    place: int

    @property
    def is_label(self) -> bool:
        """Whether it says that its value follows."""
        return self.text.rstrip().endswith((":", "："))


@dataclass(frozen=True)
class PageCells:
    """The cells of a page, from top to bottom and in the order in which their lines are read.

    Attributes:
        cells: All of them.
        of_word: For each word of the page its cell, and its place in that cell; None for a word without a box.
        rows: The cells of each line.
        below: For each cell the one that stands right below it, or None.
        above: The same the other way.
    """

    cells: tuple[Cell, ...]
    of_word: tuple[tuple[int, int] | None, ...]
    rows: tuple[tuple[int, ...], ...]
    below: tuple[int | None, ...]
    above: tuple[int | None, ...]

    @classmethod
    def of(cls, words: Sequence[Word]) -> PageCells:
        """The cells of these words.

        >>> words = [Word("20-10-2031", (0.3, 0.1, 0.4, 0.12)), Word("Date:", (0.1, 0.1, 0.15, 0.12))]
        >>> [cell.text for cell in PageCells.of(words).cells]
        ['Date:', '20-10-2031']
        """
        cells: list[Cell] = []
        rows: list[tuple[int, ...]] = []
        of_word: list[tuple[int, int] | None] = [None] * len(words)
        for line in _lines_of(words):
            first = len(cells)
            for members in _cells_of(words, line):
                for place, word in enumerate(members):
                    of_word[word] = (len(cells), place)
                text = " ".join(words[word].text for word in members)
                box = _around([words[word].box for word in members])
                cells.append(Cell(tuple(members), box, text, len(rows), len(cells) - first))
            rows.append(tuple(range(first, len(cells))))
        below = _below(cells, rows)
        above: list[int | None] = [None] * len(cells)
        for upper, lower in enumerate(below):
            if lower is not None and above[lower] is None:
                above[lower] = upper
        return cls(tuple(cells), tuple(of_word), tuple(rows), tuple(below), tuple(above))

    def right(self, cell: int) -> int | None:
        """The next cell of its line, as it is read: in Arabic and Hebrew the one to the left."""
        return self._beside(cell, 1)

    def left(self, cell: int) -> int | None:
        """The cell before it in its line."""
        return self._beside(cell, -1)

    def _beside(self, cell: int, step: int) -> int | None:
        row = self.rows[self.cells[cell].row]
        place = self.cells[cell].place + step
        # "Total ........ 120": the dots lead from the one to the other.
        while 0 <= place < len(row) and _LEADERS.fullmatch(self.cells[row[place]].text):
            place += step
        if 0 <= place < len(row):
            return row[place]
        return None


def _lines_of(words: Sequence[Word]) -> list[list[int]]:
    """The words of each line, from top to bottom; words without a box are in none."""
    measured: list[tuple[float, float, int]] = []
    for place, word in enumerate(words):
        left, top, right, bottom = word.box
        if left < right and top < bottom:  # false for NaN too
            measured.append(((top + bottom) / 2, bottom - top, place))
    measured.sort()
    lines: list[list[int]] = []
    line_middle = 0.0
    line_height = 0.0
    for middle, height, place in measured:
        near = THRESHOLDS.same_line * min(height, line_height)
        if lines and middle - line_middle <= near:
            lines[-1].append(place)
        else:
            lines.append([place])
            line_middle = middle
            line_height = height
    return lines


def _cells_of(words: Sequence[Word], line: list[int]) -> list[list[int]]:
    """The words of one line, cut at its wide gaps, in the order in which they are read."""
    ordered = sorted(line, key=lambda place: words[place].box[0])
    widest = THRESHOLDS.cell_gap_letters * _letter_width(words, line)
    cells = [[ordered[0]]]
    end = words[ordered[0]].box[2]
    for place in ordered[1:]:
        left, _, right, _ = words[place].box
        if left - end > widest:
            cells.append([])
        cells[-1].append(place)
        end = max(end, right)
    text = "".join(words[place].text for place in line)
    if _is_right_to_left(text):
        for cell in cells:
            cell.reverse()
        cells.reverse()
    return cells


def _letter_width(words: Sequence[Word], line: list[int]) -> float:
    """How wide a letter of this line is, on average."""
    letters = 0
    width = 0.0
    for place in line:
        left, _, right, _ = words[place].box
        letters += len(words[place].text)
        width += right - left
    return width / max(1, letters)


def _is_right_to_left(text: str) -> bool:
    if text.isascii():
        return False
    from_right = 0
    from_left = 0
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in _RIGHT_TO_LEFT:
            from_right += 1
        elif direction == "L":
            from_left += 1
    return from_right > from_left


def _below(cells: Sequence[Cell], rows: Sequence[Sequence[int]]) -> list[int | None]:
    """For each cell the nearest below it that shares some of its width and is no farther than lines are."""
    # From left to right, whatever the script: the cells of a line do not overlap, so their edges are sorted too.
    by_place = [sorted(row, key=lambda cell: cells[cell].box[0]) for row in rows]
    edges = [[cells[cell].box[2] for cell in row] for row in by_place]
    below: list[int | None] = [None] * len(cells)
    for number, row in enumerate(rows):
        for cell in row:
            for lower in range(number + 1, min(len(rows), number + 1 + THRESHOLDS.rows_below)):
                found = _under(cells, cell, by_place[lower], edges[lower])
                if found is not None:
                    below[cell] = found
                    break
    return below


def _under(cells: Sequence[Cell], cell: int, row: Sequence[int], edges: Sequence[float]) -> int | None:
    """The cell of this line that stands right under the cell; of several the one that shares most of its width."""
    left, top, right, bottom = cells[cell].box
    farthest = bottom + THRESHOLDS.below_heights * (bottom - top)
    best: int | None = None
    most = 0.0
    first = bisect_right(edges, left)
    for candidate in row[first : first + THRESHOLDS.max_candidates]:
        other_left, other_top, other_right, _ = cells[candidate].box
        shared = min(right, other_right) - max(left, other_left)
        if shared <= 0:
            break
        if shared > most and other_top <= farthest:
            best = candidate
            most = shared
    return best


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
