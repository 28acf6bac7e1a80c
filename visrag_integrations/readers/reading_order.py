"""The order in which a reader sees the words of a page, from where they stand and not from when they were painted.

A PDF paints words in any order: an invoice program may paint all values first and their labels after them. Here words
become pieces of lines, pieces become rows or columns, and these are read as a person reads them:

    painted   "20-10-2031" (right)   "Invoice date:" (left, same height)
    read      "Invoice date:"   "20-10-2031"

    1. `joined_words`: words that were painted one after the other and stand side by side are one piece of a line.
    2. Where the pieces go down the page one below the other, as painted, nothing is to be done (most pages).
    3. Else pieces of one height are a band, and bands that share a gutter (a stretch of the width where none of them
       has a word) are a run.
    4. A run whose gutter parts columns of running text (`columns.parts_columns`) is read column by column. Any other
       is read row by row: labels with their values, tables, lists of numbers.

Everything is measured in the unit of the boxes, which must be the same across and down (points, pixels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from visrag_integrations.readers.bands import GUTTER, SHARED_EDGE, bands_of, groups_of, runs_of
from visrag_integrations.readers.columns import LinePiece, parts_columns, reads_cell_by_cell
from visrag_integrations.readers.text_direction import Frame, is_right_to_left, split_by_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Boxes = NDArray[np.float64]  # (n, 4): left, top, right, bottom

# Between two words of a line, in line heights. Justified text in narrow columns has gaps of nearly a line's height;
# the gutters of the narrowest columns are as wide, but words on both sides of one are seldom painted in succession.
_WORD_GAP = 1.0
# How far a word may begin before the end of the one before it, in line heights: kerning, slanted letters.
_BACKSTEP = 0.3
# Two words stand on one line when their middles differ by less than so much of the lower one's height. Superscripts
# stay on their line; the lines of the tightest print are a whole height apart.
_LEVEL = 0.5
# Letters of a piece, and pairs of such pieces side by side, that may be lines of two columns: labels, values and marks
# of lists are shorter.
_LONG = 18
_FEWEST_LONG = 3
# Columns within columns within columns: a page that goes deeper was made to stop its readers.
_DEEPEST = 8
# Stretches between gutters: the broadest newspaper sheets have ten columns, tables more. Each is compared with all that
# lies right of it, which takes minutes for a page that was made of 300 stretches with 300 lines.
_MOST_COLUMNS = 24


class ReadingOrder(NamedTuple):
    """Words in the order in which they are read.

    Attributes:
        places: For each word that is read, its place among the words that were given; a `range` of all of them where
            they are read as they are given.
        ends: What stands after each of them in the page's text: " ", "\\n", or a tab between two cells of numbers.
    """

    places: Sequence[int]
    ends: list[str]

    def text(self, words: Sequence[str]) -> str:
        """The page's text, line by line.

        >>> ReadingOrder([1, 0], [" ", "\\n"]).text(["7745", "Invoice"])
        'Invoice 7745'
        """
        parts = [""] * (2 * len(self.places))
        parts[0::2] = self.sorted(words)
        parts[1::2] = self.ends
        return "".join(parts[:-1])

    def sorted(self, words: Sequence[str]) -> Sequence[str]:
        """The words as they are read."""
        if isinstance(self.places, range):
            return words
        return [words[place] for place in self.places]


def reading_order(words: Sequence[str], boxes: Boxes) -> ReadingOrder:
    """The order of these words; where they are as they should be, it is the order in which they are given.

    >>> painted = ["20-10-2031", "Invoice", "date:"]
    >>> boxes = np.array([[90.0, 10, 140, 20], [10, 10, 40, 20], [43, 10, 60, 20]])
    >>> reading_order(painted, boxes).text(painted)
    'Invoice date: 20-10-2031'
    """
    frames = split_by_frame(words, boxes)
    if len(frames) == 1:
        return _order_in_frame(words, boxes, *frames[0])
    places: list[int] = []
    ends: list[str] = []
    for frame, part in frames:
        found = _order_in_frame(words, boxes, frame, part)
        places += found.places
        ends += found.ends
    return ReadingOrder(places, ends)


def _order_in_frame(words: Sequence[str], boxes: Boxes, frame: Frame, part: NDArray[np.intp] | None) -> ReadingOrder:
    """The order of the words that run in one direction, looked at with the page turned so that they stand upright."""
    if part is not None:
        words = [words[place] for place in part.tolist()]
        boxes = boxes[part]
    boxes = frame.upright(boxes)
    right_to_left = is_right_to_left(words)
    backwards = None
    if right_to_left:
        backwards = np.array([is_right_to_left(word) for word in words])
    joined = joined_words(boxes, backwards)
    found = _as_painted(words, boxes, joined, right_to_left)
    if found is None:
        pieces = _pieces(words, boxes, joined, right_to_left)
        found = _written(words, _arranged(pieces, _gutter(pieces), right_to_left, depth=0))
    if part is None:
        return found
    return ReadingOrder(part[list(found.places)].tolist(), found.ends)


def joined_words(boxes: Boxes, backwards: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """For each word but the first, whether it goes on the line of the one painted before it.

    Args:
        boxes: Of the words.
        backwards: Which of them are read from right to left; None stands for none.

    >>> joined_words(np.array([[0.0, 0, 9, 10], [12, 0, 20, 10], [90, 0, 99, 10], [0, 12, 9, 22]])).tolist()
    [True, False, False]
    """
    left, top, right, bottom = boxes.T
    height = bottom - top
    lower = np.minimum(height[1:], height[:-1])
    apart = np.abs((top + bottom)[1:] - (top + bottom)[:-1]) / 2
    taller = np.maximum(height[1:], height[:-1])
    gap = left[1:] - right[:-1]
    beside = (gap > -_BACKSTEP * taller) & (gap < _WORD_GAP * taller)
    if backwards is not None:  # words of scripts that run to the left, and what stands among them
        gap = left[:-1] - right[1:]
        to_the_left = (gap > -_BACKSTEP * taller) & (gap < _WORD_GAP * taller)
        both = backwards[1:] & backwards[:-1]
        one = backwards[1:] | backwards[:-1]
        beside = np.where(both, to_the_left, beside | (to_the_left & one))
    together: NDArray[np.bool_] = (apart <= _LEVEL * lower) & beside
    return together


def _as_painted(
    words: Sequence[str], boxes: Boxes, joined: NDArray[np.bool_], right_to_left: bool
) -> ReadingOrder | None:
    """The order as it is given, where every piece stands right of the one before it or below all; else None."""
    starts = np.flatnonzero(np.concatenate(([True], ~joined)))
    tops = np.minimum.reduceat(boxes[:, 1], starts)
    bottoms = np.maximum.reduceat(boxes[:, 3], starts)
    edge = SHARED_EDGE * (bottoms - tops)
    below = (tops + edge)[1:] >= np.maximum.accumulate(bottoms - edge)[:-1]
    if not below.all() and (right_to_left or not _beside(words, boxes, starts, below)):
        return None
    ends = [" "] * len(boxes)
    ends[-1] = "\n"
    for place, is_below in zip(starts[1:].tolist(), below.tolist(), strict=True):
        if is_below:
            ends[place - 1] = "\n"
        else:
            ends[place - 1] = _between(words[place - 1], words[place])
    return ReadingOrder(range(len(boxes)), ends)


def _beside(words: Sequence[str], boxes: Boxes, starts: NDArray[np.intp], below: NDArray[np.bool_]) -> bool:
    """Whether all pieces that are not below the others go on their row, and seem to be no lines of two columns."""
    lefts = np.minimum.reduceat(boxes[:, 0], starts)
    rights = np.maximum.reduceat(boxes[:, 2], starts)
    middles = (boxes[:, 1] + boxes[:, 3])[starts]
    heights = (boxes[:, 3] - boxes[:, 1])[starts]
    level = np.abs(middles[1:] - middles[:-1]) <= _LEVEL * np.minimum(heights[1:], heights[:-1])
    if not np.all(below | (level & (lefts[1:] >= rights[:-1]))):
        return False
    long = np.add.reduceat(np.fromiter(map(len, words), dtype=np.int64, count=len(words)), starts) >= _LONG
    return bool(np.count_nonzero(~below & long[1:] & long[:-1]) < _FEWEST_LONG)


def _between(word: str, following: str) -> str:
    """What parts two pieces of one row: a tab where "12" and "345" of two cells would be read as 12 345."""
    if word[-1:].isdigit() and following[:1].isdigit():
        return "\t"
    return " "


def _pieces(words: Sequence[str], boxes: Boxes, joined: NDArray[np.bool_], right_to_left: bool) -> list[LinePiece]:
    """The pieces of lines, in the order of painting."""
    starts = np.flatnonzero(np.concatenate(([True], ~joined)))
    stops = [*starts[1:].tolist(), len(boxes)]
    lefts = np.minimum.reduceat(boxes[:, 0], starts).tolist()
    tops = np.minimum.reduceat(boxes[:, 1], starts).tolist()
    rights = np.maximum.reduceat(boxes[:, 2], starts).tolist()
    bottoms = np.maximum.reduceat(boxes[:, 3], starts).tolist()
    pieces: list[LinePiece] = []
    for place, (first, stop) in enumerate(zip(starts.tolist(), stops, strict=True)):
        letters = " ".join(words[first:stop])
        backwards = right_to_left and is_right_to_left(letters)
        box = (lefts[place], tops[place], rights[place], bottoms[place])
        pieces.append(LinePiece(*box, first, stop, letters, backwards))
    return _mixed_lines(pieces) if right_to_left else pieces


def _mixed_lines(pieces: list[LinePiece]) -> list[LinePiece]:
    """Pieces that were painted one after the other and touch, as one: words of two scripts on one line.

    In what direction such a line is read its words do not say; the order of painting is the best guess there is.
    """
    merged: list[LinePiece] = []
    for piece in pieces:
        last = merged[-1] if merged else piece
        gap = max(piece.left, last.left) - min(piece.right, last.right)
        if merged and piece.backwards != last.backwards and piece.is_level_with(last) and gap < _WORD_GAP * last.height:
            box = (min(last.left, piece.left), min(last.top, piece.top), max(last.right, piece.right))
            text = f"{last.text} {piece.text}"
            bottom = max(last.bottom, piece.bottom)
            merged[-1] = LinePiece(*box, bottom, last.first, piece.stop, text, is_right_to_left(text))
        else:
            merged.append(piece)
    return merged


def _gutter(pieces: Sequence[LinePiece]) -> float:
    """The narrowest gap that can be a gutter on this page."""
    heights = sorted(piece.bottom - piece.top for piece in pieces)
    return max(1e-9, GUTTER * heights[len(heights) // 2])


def _arranged(pieces: list[LinePiece], gutter: float, right_to_left: bool, depth: int) -> list[list[LinePiece]]:
    """The lines of a part of the page, each a list of pieces, in reading order."""
    lines: list[list[LinePiece]] = []
    for bands, has_gutter in runs_of(bands_of(pieces), gutter):
        if not has_gutter:
            for band in bands:
                lines += _rows(band)
            continue
        run = [piece for band in bands for piece in band]
        columns = _columns(run, gutter)
        if len(columns) > 1 and depth < _DEEPEST:
            if right_to_left:
                columns.reverse()
            for column in columns:
                lines += _arranged(column, gutter, right_to_left, depth + 1)
        elif reads_cell_by_cell(run):
            lines += _cells(run)
        else:
            for band in bands:
                lines += _rows(band)
    return lines


def _cells(run: list[LinePiece]) -> list[list[LinePiece]]:
    """The lines of a table of which the order of painting is kept: a cell begins on the line of the one before it."""
    lines: list[list[LinePiece]] = []
    for piece in sorted(run, key=_painted):
        if lines and lines[-1][-1].right <= piece.left and piece.is_level_with(lines[-1][-1]):
            lines[-1].append(piece)
        else:
            lines.append([piece])
    return lines


def _painted(piece: LinePiece) -> int:
    return piece.first


def _columns(run: list[LinePiece], gutter: float) -> list[list[LinePiece]]:
    """The columns of running text of a run, left to right; one where it has no columns."""
    groups = groups_of(run, gutter)
    if len(groups) > _MOST_COLUMNS:
        return [run]
    columns: list[list[LinePiece]] = []
    for place, group in enumerate(groups):
        rest = [piece for later in groups[place:] for piece in later]
        if columns and not parts_columns(columns[-1], rest):
            columns[-1] += group
        else:
            columns.append(list(group))
    return columns


def _rows(band: list[LinePiece]) -> list[list[LinePiece]]:
    """A band as lines: one, or, where pieces stand above each other in it, one for each of these.

    Hull number:   KX-4471            "Hull number: KX-4471"

    Address        3 Quay Road        a label in the middle beside two lines: the label, then the lines
                   Lower Harbour
    """
    if len(band) == 1:
        return [band]
    groups = groups_of(band, 0.0)
    if all(len(group) == 1 for group in groups):
        return [_directed([group[0] for group in groups])]
    lines: list[list[LinePiece]] = []
    for group in groups:
        below = bands_of(group)
        if len(below) == 1:
            lines.append(_directed(group))
            continue
        for line in below:
            lines.append(_directed(line))
    return lines


def _directed(line: list[LinePiece]) -> list[LinePiece]:
    """The pieces of a line from left to right, or from right to left where most letters are of such a script."""
    line = sorted(line)
    if not any(piece.backwards for piece in line):
        return line
    backwards = sum(len(piece.text) for piece in line if piece.backwards)
    if 2 * backwards > sum(len(piece.text) for piece in line):
        line.reverse()
    return line


def _written(words: Sequence[str], lines: list[list[LinePiece]]) -> ReadingOrder:
    """The words of these lines, and what stands between them."""
    places: list[int] = []
    ends: list[str] = []
    for line in lines:
        for piece in line:
            if ends and ends[-1] != "\n":
                ends[-1] = _between(words[places[-1]], words[piece.first])
            places += range(piece.first, piece.stop)
            ends += [" "] * (piece.stop - piece.first)
        ends[-1] = "\n"
    return ReadingOrder(places, ends)
