"""How MiniCPM-V cuts a page: an overview, and slices on the grid that fits the page's shape best.

Sizes are (width, height) in pixels. Rounding is Python's own, half to even, and heights are cut to whole pixels before
widths are derived from them: both are part of what the networks were trained with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Size = tuple[int, int]


@dataclass(frozen=True)
class Slicing:
    """What decides how a page is cut.

    Attributes:
        max_slices: At most so many slices, beside the overview.
        resolution: A slice has about this many pixels squared.
        patch: Widths and heights are multiples of this.
        enabled: False: the page is one picture, as large as it is.
    """

    max_slices: int = 9
    resolution: int = 448
    patch: int = 14
    enabled: bool = True


@dataclass(frozen=True)
class SlicePlan:
    """How one page is cut.

    Attributes:
        overview: Size of the whole page as the network sees it first.
        grid: Columns and rows of slices; None when the overview is all there is.
        refined: Size of the page just before it is cut into the grid; None without a grid.
    """

    overview: Size
    grid: Size | None = None
    refined: Size | None = None

    @property
    def slice_size(self) -> Size | None:
        """Size of each slice; None without a grid."""
        if self.grid is None or self.refined is None:
            return None
        return self.refined[0] // self.grid[0], self.refined[1] // self.grid[1]

    @property
    def pictures(self) -> int:
        """How many pictures the network sees: the overview and the slices."""
        if self.grid is None:
            return 1
        return 1 + self.grid[0] * self.grid[1]

    @property
    def sizes(self) -> list[Size]:
        """Of the overview and, with a grid, of the refined page."""
        if self.refined is None:
            return [self.overview]
        return [self.overview, self.refined]


def _to_multiple(length: float, step: int) -> int:
    """The nearest multiple of `step`, at least one; halves go to the even multiple."""
    return max(round(length / step) * step, step)


def _fit(width: float, height: float, slicing: Slicing) -> Size:
    """The shape, scaled to the area of one slice, in whole patches."""
    ratio = width / height
    tall = int(slicing.resolution / math.sqrt(ratio))
    wide = int(tall * ratio)
    return _to_multiple(wide, slicing.patch), _to_multiple(tall, slicing.patch)


def choose_grid(width: int, height: int, slicing: Slicing) -> Size | None:
    """Columns and rows of slices for a page of that size; None where the overview is enough.

    >>> choose_grid(1240, 1754, Slicing())
    (2, 4)
    >>> choose_grid(300, 200, Slicing()) is None
    True
    """
    wanted = min(math.ceil(width * height / slicing.resolution**2), slicing.max_slices)
    if wanted <= 1:
        return None
    shape = math.log(width / height)
    grids: list[Size] = []
    # Also one slice fewer or more than the area asks for: 7 slices have two grids only, 6 and 8 have four each.
    for count in (wanted - 1, wanted, wanted + 1):
        if 1 < count <= slicing.max_slices:
            for columns in range(1, count + 1):
                if count % columns == 0:
                    grids.append((columns, count // columns))
    return min(grids, key=lambda grid: abs(shape - math.log(grid[0] / grid[1])))


def plan_slices(width: int, height: int, slicing: Slicing = Slicing()) -> SlicePlan:
    """How a page of that size is cut.

    >>> plan_slices(1240, 1754)
    SlicePlan(overview=(378, 532), grid=(2, 4), refined=(1064, 1512))
    """
    if not slicing.enabled:
        return SlicePlan((width, height))
    overview = _fit(width, height, slicing)
    grid = choose_grid(width, height, slicing)
    if grid is None:
        return SlicePlan(overview)
    columns, rows = grid
    wide, tall = _fit(_to_multiple(width, columns) / columns, _to_multiple(height, rows) / rows, slicing)
    return SlicePlan(overview, grid, (wide * columns, tall * rows))
