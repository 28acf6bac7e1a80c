"""Regions of a page without words that are most like its evidence, from a late-interaction embedder's map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.scores import patches
from visrag_integrations.types import Box, Page

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from visrag_integrations.interfaces import PageEmbedder

_FLAT = 1e-6  # a map whose values differ by less has no region: that is rounding


def similar_regions(text: str, page: Page, embedder: PageEmbedder, store: Any = None) -> tuple[Box, ...]:
    """The regions of a page's picture that a late-interaction embedder finds most like the text, likest first.

    They say where to look, not that the text stands there. At most three.

    Raises:
        SettingError: The embedder has no patches to show.
    """
    return _regions(patches.explain(text, page, embedder, store).heat())


def _regions(heat: NDArray[np.float32]) -> tuple[Box, ...]:
    """Boxes around what touches and is hot.

    >>> _regions(np.array([[0, 0, 0, 0], [0, 1, 1, 0]], np.float32))
    ((0.25, 0.5, 0.75, 1.0),)
    """
    low = float(heat.min())
    high = float(heat.max())
    if not high - low > _FLAT:  # "not >" and not "<=": a map of nan has no region either
        return ()
    hot = np.argwhere(heat >= low + THRESHOLDS.hot_share * (high - low))
    left = {(int(row), int(column)) for row, column in hot}
    found: list[tuple[float, Box]] = []
    while left:
        group = _take_touching(left)
        weight = sum(float(heat[cell]) - low for cell in group)
        found.append((weight, _box_around(group, heat.shape)))
    found.sort(reverse=True)
    return tuple(box for _, box in found[: THRESHOLDS.max_regions])


def _box_around(group: list[tuple[int, int]], shape: tuple[int, ...]) -> Box:
    """The box of these patches, `(row, column)`, as fractions of a map of this shape."""
    rows, columns = shape
    top, first = np.min(group, axis=0).tolist()
    bottom, last = np.max(group, axis=0).tolist()
    return first / columns, top / rows, (last + 1) / columns, (bottom + 1) / rows


def _take_touching(left: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Takes out of the cells one that is left, and all that hang together with it."""
    group: list[tuple[int, int]] = []
    waiting = [left.pop()]
    while waiting:
        row, column = waiting.pop()
        group.append((row, column))
        beside = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
        left -= beside
        waiting.extend(beside)
    return group
