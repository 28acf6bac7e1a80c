"""Tables that depend on a picture's shape only, computed once a shape and kept on the device."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class TableModule(nn.Module):
    """A module with a small cache of tables by key; moving or casting the module empties it."""

    limit = 128

    def __init__(self) -> None:
        super().__init__()
        self._tables: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def table(self, key: tuple[int, ...], make: Callable[[], Tensor]) -> Tensor:
        """The table of that key; the one that was made first goes when there are too many."""
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = make()
            if len(self._tables) > self.limit:
                self._tables.popitem(last=False)
        return found

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._tables.clear()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
