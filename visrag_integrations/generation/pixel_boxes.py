"""The box of a `<bbox>` action: four numbers in a model's text, and whether they are a part of the picture it saw."""

from __future__ import annotations

import math
import re

PixelBox = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture as it was shown."""

_BRACKETS = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_BETWEEN = re.compile(r"[\s,;]+")


def parse_box(content: str) -> PixelBox | str:
    """The four numbers of a `<bbox>`, or what is wrong: "box_unreadable" or "box_not_finite".

    >>> parse_box("[10, 20.5, 300, 400]"), parse_box("[1, 2, 3]"), parse_box("[0, 0, nan, 9]")
    ((10.0, 20.5, 300.0, 400.0), 'box_unreadable', 'box_not_finite')
    """
    if inside := _BRACKETS.search(content):
        content = inside[1]
    fields = _BETWEEN.split(content.strip())
    if len(fields) != 4:
        return "box_unreadable"
    try:
        left, top, right, bottom = map(float, fields)
    except ValueError:
        return "box_unreadable"
    if not all(map(math.isfinite, (left, top, right, bottom))):
        return "box_not_finite"
    return left, top, right, bottom


def box_problem(box: PixelBox, width: int, height: int) -> str:
    """The name of what is wrong with a box on a picture of that size; "" when nothing is.

    >>> [box_problem(box, 100, 100) for box in [(1, 1, 9, 9), (9, 1, 1, 9), (0, 0, 0.5, 9), (200, 0, 300, 9)]]
    ['', 'box_reversed', 'box_empty', 'box_outside']
    """
    left, top, right, bottom = box
    if left > right or top > bottom:
        return "box_reversed"
    if right - left < 1 or bottom - top < 1:
        return "box_empty"
    if min(right, width) - max(left, 0) < 1 or min(bottom, height) - max(top, 0) < 1:
        return "box_outside"
    if left < 0 or top < 0 or right > width or bottom > height:
        return "box_clipped"
    return ""
