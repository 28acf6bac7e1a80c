"""A page that is turned to be read, and boxes that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from visrag_integrations.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image

QuarterTurn = Literal[0, 90, 180, 270]
"""Degrees, clockwise."""


class Detail(Protocol):
    """A page in all its pixels, given part by part.

    Attributes:
        width: In pixels of its own; of a page that was drawn, as many as are worth looking at.
        height: Likewise.
    """

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...

    def part(self, box: Box, width: int, height: int) -> Image:
        """The part of the page in this box (fractions of it), as an RGB picture of this size."""


def back(turn: QuarterTurn) -> QuarterTurn:
    """The turn that undoes another."""
    undone: dict[QuarterTurn, QuarterTurn] = {0: 0, 90: 270, 180: 180, 270: 90}
    return undone[turn]


def turned_box(box: Box, turn: QuarterTurn) -> Box:
    """A box of a page after the page was turned clockwise.

    >>> turned_box((0.0, 0.0, 0.5, 0.25), 90)  # the upper left corner comes to the upper right
    (0.75, 0.0, 1.0, 0.5)
    """
    left, top, right, bottom = box
    if turn == 90:
        return inside((1 - bottom, left, 1 - top, right))
    if turn == 180:
        return inside((1 - right, 1 - bottom, 1 - left, 1 - top))
    if turn == 270:
        return inside((top, 1 - right, bottom, 1 - left))
    return box


def inside(box: Box) -> Box:
    """Inside the picture, in hundred-thousandths of it: finer than any pixel."""
    left, top, right, bottom = (round(min(1.0, max(0.0, edge)), 5) for edge in box)
    return left, top, right, bottom
