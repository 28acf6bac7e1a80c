"""Tables that depend on a shape only, never on weights: made once a shape and kept on the device."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Grid = tuple[int, int]
"""Rows and columns of a picture's patches."""


class TableModule(nn.Module):
    """A module with a small cache of tables by key; moving or casting the module empties it.

    A table made from learned weights must not be kept here: it would be stale after an optimizer step.
    """

    limit = 128  # pages come in few shapes; this bounds the memory where every page has another

    def __init__(self) -> None:
        super().__init__()
        self._tables: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def table(self, key: tuple[int, ...], make: Callable[[], Tensor]) -> Tensor:
        """The table of that key; the one that was made first goes when there are too many."""
        if key not in self._tables:
            # Not as an inference tensor, even while embedding: training could not use one afterwards.
            with torch.inference_mode(False):
                self._tables[key] = make()
            if len(self._tables) > self.limit:
                self._tables.popitem(last=False)
        return self._tables[key]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._tables.clear()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def positions_of_grids(
    grids: Sequence[Grid], positions: Callable[[int, int], Tensor], tables: dict[Grid, Tensor]
) -> Tensor:
    """The positions of all pictures' grids, one after the other.

    Args:
        grids: Rows and columns of each picture.
        positions: Makes the table of one grid.
        tables: Those that are made already; new ones are added. It must not outlive the weights' next change.
    """
    for grid in grids:
        if grid not in tables:
            tables[grid] = positions(*grid)
    return torch.cat([tables[grid] for grid in grids])
