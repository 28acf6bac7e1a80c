"""How many tokens pictures take, and how a conversation's tokens are shared among its pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import GenerationError, PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

# Below LEAST nothing on a page can be read; up to READABLE (about 25 x 25 cells, 700 x 700 pixels) each page gets its
# share before any gets more, so that one large page cannot make the others unreadable.
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
        patch = getattr(image_processor, "patch_size", None)
        merge = getattr(image_processor, "merge_size", None)
        if not isinstance(patch, int) or not isinstance(merge, int):
            return None
        size = getattr(image_processor, "size", None) or {}
        area = (patch * merge) ** 2
        # Processors name the two limits, in pixels of area, in one of these two ways; some name none.
        least = getattr(image_processor, "min_pixels", None) or _entry(size, "shortest_edge") or cls.least * area
        most = getattr(image_processor, "max_pixels", None) or _entry(size, "longest_edge") or cls.most * area
        return cls(patch * merge, least=max(1, least // area), most=max(1, most // area))

    def size(self, width: int, height: int, limit: int | None = None) -> tuple[int, int]:
        """Pixels as the model sees the picture: whole cells, at most `limit` of them, its shape nearly kept.

        >>> PictureGrid().size(100, 200), PictureGrid().size(1000, 2000, limit=50)
        ((112, 196), (140, 280))
        """
        most = self.most
        thinnest = 0  # cells: a line without any is enlarged below
        if limit is not None:
            most = min(limit, self.most)
            thinnest = 1
        columns = max(thinnest, round(width / self.cell))
        rows = max(thinnest, round(height / self.cell))
        if columns * rows > most:
            shrink = math.sqrt(width * height / (most * self.cell**2))
            columns = max(1, math.floor(width / shrink / self.cell))
            rows = max(1, math.floor(height / shrink / self.cell))
            # A very long picture keeps one cell across, and so may still have too many along.
            columns, rows = min(columns, max(1, most // rows)), min(rows, max(1, most // columns))
        elif columns * rows < self.least and limit is None:
            grow = math.sqrt(self.least * self.cell**2 / (width * height))
            columns = math.ceil(width * grow / self.cell)
            rows = math.ceil(height * grow / self.cell)
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
        check_shape(*image.size)
        if self.tokens(*image.size) <= limit:
            return image
        return _resized(image, self.size(*image.size, limit))

    def seen(self, image: Image) -> Image:
        """The picture with the pixels that the model itself would give it: whole cells, neither too few nor too many.

        Raises:
            PictureError: It is far longer than wide.
        """
        check_shape(*image.size)
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
    # For example, 2000, 2000 and 300 are wanted of 2500. All get up to READABLE: 640, 640, 300. The 920 that are left
    # go to the first, which wants 1360 more: 1560, 640, 300.
    level = min(READABLE, _equal_share(wanted, budget))
    shares = [min(want, level) for want in wanted]
    left = budget - sum(shares)
    for i, want in enumerate(wanted):
        more = min(left, want - shares[i])
        shares[i] += more
        left -= more
    return shares


def _equal_share(wanted: Sequence[int], budget: int) -> int:
    """The most that every picture can have, unless it wants less; what small ones leave is for the others."""
    for place, want in enumerate(sorted(wanted)):
        level = budget // (len(wanted) - place)
        if want > level:
            return level
        budget -= want
    return max(wanted, default=0)


def check_shape(width: int, height: int) -> None:
    """Nothing, unless a picture is far longer than wide.

    Raises:
        PictureError: It is.
    """
    if max(width, height) > _LONGEST * min(width, height):
        raise PictureError(
            f"A picture of {width} x {height} pixels is more than {_LONGEST} times as long as wide, "
            "which the model does not take. Cut it into several."
        )


def _resized(image: Image, size: tuple[int, int]) -> Image:
    from PIL import Image as PILImage

    return image if image.size == size else image.resize(size, PILImage.Resampling.BICUBIC)


def _entry(size: Any, name: str) -> int | None:
    """An entry of `size`, which is a dict in some versions of transformers and an object in others."""
    found = size.get(name) if hasattr(size, "get") else getattr(size, name, None)
    return found if isinstance(found, int) else None
