"""One line around words that belong together, and none through them.

Two boxes of lines that follow each other become one corner-cut shape:

    +-----------------+          +-----------------+
    | a first line    |          | a first line    |
    +-----------------+   ->     |       +---------+
    +-------+                    | ends  |
    | ends  |                    +-------+
    +-------+
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

Point = tuple[float, float]

# Of the height of a line: pieces of one line are joined over a gap as wide as a word or two, and lines follow each
# other when the gap between is no larger than between lines of a paragraph.
_GAP_IN_LINE = 2.0
_GAP_BETWEEN_LINES = 1.0
# Of the smaller height: boxes that overlap so far stand on one line.
_SAME_LINE = 0.5
# Times as high: print that is larger is another line, even beside (a headline beside its note).
_OTHER_PRINT = 2.0
# Of the height of a line, outside of its letters: less than the white between two lines, so that no line is touched.
_ROOM = 0.12
# Of the picture's longer side: not more outside of a figure, which is no line.
_MOST_ROOM = 0.004


class _Line(NamedTuple):
    """A box in pixels; lines of text lie along the first axis."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top


def contours(boxes: Iterable[Sequence[float]], width: float, height: float) -> list[list[Point]]:
    """The corners of shapes around the boxes, each a closed line of horizontal and vertical pieces.

    Args:
        boxes: `(left, top, right, bottom)` as fractions of the picture; what is outside of it is cut off.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.

    Returns:
        `(x, y)` in pixels, in order around each shape.

    >>> contours([(0.1, 0.2, 0.5, 0.3)], 100, 100)
    [[(9.6, 19.6), (50.4, 19.6), (50.4, 30.4), (9.6, 30.4)]]
    """
    lines: list[_Line] = []
    for box in boxes:
        left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in box)
        if not any(map(math.isnan, box)) and left <= right and top <= bottom:
            lines.append(_Line(left * width, top * height, right * width, bottom * height))
    upright = sum(line.height > line.right - line.left for line in lines)
    if len(lines) > 1 and 2 * upright > len(lines):  # written from top to bottom: the same with the axes exchanged
        turned = [_Line(line.top, line.left, line.bottom, line.right) for line in lines]
        return [[(x, y) for y, x in _around(stack, height, width)] for stack in _stacks(_joined(turned))]
    return [_around(stack, width, height) for stack in _stacks(_joined(lines))]


def _joined(lines: Sequence[_Line]) -> list[_Line]:
    """Pieces of one line made one, from the top down."""
    joined: list[_Line] = []
    for line in sorted(lines, key=lambda line: (line.top, line.left)):
        for place, other in enumerate(joined):
            if _on_one_line(line, other):
                joined[place] = _Line(*map(min, line[:2], other[:2]), *map(max, line[2:], other[2:]))
                break
        else:
            joined.append(line)
    return joined


def _on_one_line(one: _Line, other: _Line) -> bool:
    smaller, larger = sorted((one.height, other.height))
    overlap = min(one.bottom, other.bottom) - max(one.top, other.top)
    if overlap < _SAME_LINE * smaller or larger > _OTHER_PRINT * smaller:
        return False
    gap = max(one.left, other.left) - min(one.right, other.right)
    return gap <= _GAP_IN_LINE * smaller


def _stacks(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Lines that follow each other, together."""
    stacks: list[list[_Line]] = []
    for line in sorted(lines, key=lambda line: (line.top, line.left)):
        for stack in stacks:
            if _follows(line, stack[-1]):
                stack.append(line)
                break
        else:
            stacks.append([line])
    return stacks


def _follows(line: _Line, above: _Line) -> bool:
    height = min(line.height, above.height)
    gap = line.top - above.bottom
    is_below = -_SAME_LINE * height < gap <= _GAP_BETWEEN_LINES * height
    return is_below and min(line.right, above.right) > max(line.left, above.left)


def _around(stack: Sequence[_Line], width: float, height: float) -> list[Point]:
    """The shape around lines that follow each other: down their right ends, and up their left ones."""
    room = min(_ROOM * min(line.height for line in stack), _MOST_ROOM * max(width, height))
    edges = [stack[0].top - room]
    for above, below in pairwise(stack):
        edges.append((above.bottom + below.top) / 2)  # in the white between them
    edges.append(stack[-1].bottom + room)
    right_side: list[Point] = []
    left_side: list[Point] = []
    for line, (top, bottom) in zip(stack, pairwise(edges), strict=True):
        right_side += [(line.right + room, top), (line.right + room, bottom)]
        left_side += [(line.left - room, top), (line.left - room, bottom)]
    corners = [left_side[0], *right_side, *reversed(left_side[1:])]
    return [_inside(corner, width, height) for corner in corners]


def _inside(corner: Point, width: float, height: float) -> Point:
    """The corner in the picture, to a tenth of a pixel."""
    x, y = corner
    return round(min(width, max(0.0, x)), 1), round(min(height, max(0.0, y)), 1)
