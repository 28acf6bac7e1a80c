"""Evidence on pictures: pages with what was found outlined, and regions from late-interaction maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations import images
from visrag_integrations.scores import patches
from visrag_integrations.types import Box, Evidence, Page, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from visrag_integrations.interfaces import PageEmbedder

STROKES: dict[Verdict, tuple[str, bool]] = {
    "supported": ("#0b7a55", False),
    "partly": ("#c77700", True),
    "unchecked": ("#5b6b8c", True),
}
"""Colour of an outline and whether it is dashed, by verdict."""
_HOT = 0.7  # of the way from a map's lowest to its highest value
_MOST_REGIONS = 3


def outlined(page: Page, evidence: Evidence | Iterable[Evidence] = (), *, max_pixels: int | None = None) -> Image:
    """The page's picture with the evidence that was found on it outlined; supported solid, the rest dashed.

    Args:
        page: With a picture.
        evidence: Grounded evidence; what is of another page is passed over.
        max_pixels: Scale the picture down to so many.

    Raises:
        PictureError: The page has no picture, or it cannot be opened.
    """
    entries = [evidence] if isinstance(evidence, Evidence) else list(evidence)
    picture = images.to_rgb(page.open_image())
    if max_pixels is not None:
        picture = images.fit(picture, max_pixels)
    for entry in entries:
        if entry.grounding is not None and entry.page is not None and entry.page.id == page.id:
            colour, dashed = STROKES.get(entry.grounding.verdict, STROKES["unchecked"])
            picture = images.outline(picture, entry.grounding.boxes, colour=colour, dashed=dashed)
    return picture


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
    low, high = float(heat.min()), float(heat.max())
    if not high - low > 1e-6:
        return ()
    left = {(int(row), int(column)) for row, column in np.argwhere(heat >= low + _HOT * (high - low))}
    found: list[tuple[float, Box]] = []
    rows, columns = heat.shape
    while left:
        group = _touching(left)
        top, bottom = min(row for row, _ in group), max(row for row, _ in group) + 1
        first, last = min(column for _, column in group), max(column for _, column in group) + 1
        weight = sum(float(heat[cell]) - low for cell in group)
        found.append((weight, (first / columns, top / rows, last / columns, bottom / rows)))
    return tuple(box for _, box in sorted(found, reverse=True)[:_MOST_REGIONS])


def _touching(left: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Takes out of the cells one that is left, and all that hang together with it."""
    group, waiting = [], [left.pop()]
    while waiting:
        row, column = waiting.pop()
        group.append((row, column))
        beside = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
        left -= beside
        waiting.extend(beside)
    return group
