"""How many tokens pictures take, and how a conversation's tokens are shared among its pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import GenerationError, PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST = 64
"""Tokens under which a page is only a smudge (a square of 8 x 8 cells); no page is shown with fewer."""
READABLE = 640
"""Tokens every page gets before better-ranked ones get more, where there are enough."""
_LONGEST = 200  # times as long as wide: beyond it the models' own preparation refuses a picture


@dataclass(frozen=True)
class PictureGrid:
    """How Qwen2-VL's descendants see a picture: one token for each square cell of pixels.

    Attributes:
        cell: Pixels of a cell's side: patch size times merge size.
        least: Tokens a smaller picture is enlarged to.
        most: Tokens a larger picture is scaled down to.
    """

    cell: int = 28
    least: int = 4
    most: int = 16384

    @classmethod
    def of(cls, image_processor: Any) -> PictureGrid | None:
        """The grid of an image processor; None when it does not cut pictures that way."""
        patch, merge = getattr(image_processor, "patch_size", None), getattr(image_processor, "merge_size", None)
        if not isinstance(patch, int) or not isinstance(merge, int):
            return None
        size = getattr(image_processor, "size", None) or {}
        area = (patch * merge) ** 2
        least = getattr(image_processor, "min_pixels", None) or _entry(size, "shortest_edge")
        most = getattr(image_processor, "max_pixels", None) or _entry(size, "longest_edge")
        return cls(patch * merge, max(1, (least or 4 * area) // area), max(1, (most or 16384 * area) // area))

    def size(self, width: int, height: int, limit: int | None = None) -> tuple[int, int]:
        """Pixels as the model sees the picture: whole cells, at most `limit` of them, its shape nearly kept.

        >>> PictureGrid().size(100, 200), PictureGrid().size(1000, 2000, limit=50)
        ((112, 196), (140, 280))
        """
        most = self.most if limit is None else min(limit, self.most)
        thinnest = 0 if limit is None else 1  # cells: a line without any is enlarged, where that is allowed
        columns, rows = (max(thinnest, round(side / self.cell)) for side in (width, height))
        if columns * rows > most:
            shrink = math.sqrt(width * height / (most * self.cell**2))
            columns, rows = (max(1, math.floor(side / shrink / self.cell)) for side in (width, height))
            columns, rows = min(columns, max(1, most // rows)), min(rows, max(1, most // columns))
        elif columns * rows < self.least and limit is None:
            grow = math.sqrt(self.least * self.cell**2 / (width * height))
            columns, rows = (math.ceil(side * grow / self.cell) for side in (width, height))
        return max(1, columns) * self.cell, max(1, rows) * self.cell

    def tokens(self, width: int, height: int) -> int:
        """Tokens of a picture that is shown as it is.

        >>> PictureGrid().tokens(100, 200)
        28
        """
        columns, rows = self.size(width, height)
        return columns * rows // self.cell**2

    def fit(self, image: Image, limit: int) -> Image:
        """The picture scaled down to at most so many tokens, or itself when it has no more."""
        _check_shape(image)
        return image if self.tokens(*image.size) <= limit else _resized(image, self.size(*image.size, limit))

    def seen(self, image: Image) -> Image:
        """The picture with the pixels that the model itself would give it: whole cells, neither too few nor too many.

        Raises:
            PictureError: It is far longer than wide.
        """
        _check_shape(image)
        return _resized(image, self.size(*image.size))


def share_tokens(wanted: Sequence[int], budget: int) -> list[int]:
    """Tokens for each picture, best first: all get a readable share, then the better-ranked what they want.

    >>> share_tokens([2000, 2000, 300], 2500), share_tokens([400, 400], 9999)
    ([1560, 640, 300], [400, 400])

    Raises:
        GenerationError: Not even the least fits; the message says how many pictures do.
    """
    needed = sum(min(LEAST, want) for want in wanted)
    if needed > budget:
        fitting = max(0, budget) // LEAST
        raise GenerationError(
            f"{len(wanted)} pictures do not fit: {max(0, budget)} tokens are left for them, and each needs at least "
            f"{LEAST}, so {fitting} would fit. Show fewer pages (top_k={max(1, fitting)}), lower max_tokens, or raise "
            "the generator's context_length if the model allows it."
        )
    level = min(READABLE, _water_level(wanted, budget))
    shares = [min(want, level) for want in wanted]
    left = budget - sum(shares)
    for i, want in enumerate(wanted):
        more = min(left, want - shares[i])
        shares[i], left = shares[i] + more, left - more
    return shares


def _water_level(wanted: Sequence[int], budget: int) -> int:
    """The most that every picture can have, unless it wants less."""
    for place, want in enumerate(sorted(wanted)):
        level = budget // (len(wanted) - place)
        if want > level:
            return level
        budget -= want
    return max(wanted, default=0)


def _check_shape(image: Image) -> None:
    if max(image.size) > _LONGEST * min(image.size):
        raise PictureError(
            f"A picture of {image.width} x {image.height} pixels is more than {_LONGEST} times as long as wide, "
            "which the model does not take. Cut it into several."
        )


def _resized(image: Image, size: tuple[int, int]) -> Image:
    from PIL import Image as PILImage

    return image if image.size == size else image.resize(size, PILImage.Resampling.BICUBIC)


def _entry(size: Any, name: str) -> int | None:
    found = size.get(name) if hasattr(size, "get") else getattr(size, name, None)
    return found if isinstance(found, int) else None
