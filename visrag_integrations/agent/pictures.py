"""What the model is shown of a page: the whole within a pixel budget, or a part of it at full resolution."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visrag_integrations import images
from visrag_integrations.agent.steps import WHOLE
from visrag_integrations.errors import SettingError, VisRAGError
from visrag_integrations.generation.budget import PictureGrid
from visrag_integrations.generation.pixel_boxes import PixelBox
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.sources import identify
from visrag_integrations.types import Box, Page

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

_CELL = 28  # pixels of the side of what Qwen2.5-VL sees as one token: 2 x 2 patches of 14
# How far the proportions of two pictures of one page may differ: rounding to whole pixels changes them a little,
# another page format by more than this.
_SAME_SHAPE = 0.02


class Cut(NamedTuple):
    """A picture ready to be shown, and which part of its page it is."""

    picture: Image
    region: Box


@dataclass(frozen=True)
class PictureRules:
    """How pages and crops become the pictures that are shown.

    Attributes:
        min_pixels: Smaller pictures are enlarged to this.
        max_pixels: Larger ones are scaled down to this; both as Qwen2.5-VL does it, in whole cells of 28 x 28 pixels.
        padding: Pixels of the full page added around a box that is cropped.
        full_pixels: Pixels of a page that is drawn again from its document; the default is an A4 page at 200 dpi.
        from_source: Draw a page again, larger than it was stored, where its document is still at hand: a PDF or picture
            file at `Page.source` whose bytes have the hash that is the page's `doc_id`.
    """

    min_pixels: int = 256 * _CELL * _CELL
    max_pixels: int = 512 * _CELL * _CELL
    padding: int = 56
    full_pixels: int = 4_000_000
    from_source: bool = True

    def __post_init__(self) -> None:
        least, most = self.min_pixels // _CELL**2, self.max_pixels // _CELL**2
        if not 1 <= least <= most:
            raise SettingError(
                f"min_pixels={self.min_pixels} and max_pixels={self.max_pixels} are {least} and {most} cells of "
                "28 x 28 pixels; the first must be 1 or more, and the second not smaller."
            )
        if self.padding < 0 or self.full_pixels < 1:
            raise SettingError(
                f"padding={self.padding} must be 0 or more, and full_pixels={self.full_pixels} 1 or more."
            )

    @property
    def grid(self) -> PictureGrid:
        """How the model sees a picture."""
        return PictureGrid(_CELL, self.min_pixels // _CELL**2, self.max_pixels // _CELL**2)

    def whole(self, page: Page) -> Cut:
        """The page as it is shown first.

        Raises:
            PictureError: It has no picture, or one that cannot be shown.
        """
        return Cut(self.grid.seen(images.to_rgb(page.open_image())), WHOLE)

    def crop(self, page: Page, shown: Box, size: tuple[int, int], box: PixelBox) -> Cut:
        """The part of the page that a box on the last picture means, with the padding around it.

        Args:
            page: The page.
            shown: Which part of it the last picture was.
            size: Width and height of the last picture.
            box: In pixels of the last picture, with some of its area inside.

        Raises:
            PictureError: The page's picture cannot be opened.
        """
        # Cut from the largest picture there is, not from the one that was shown: only so is anything seen closer.
        full = self._full(page)
        left, right = _span(full.width, (shown[0], shown[2]), size[0], (box[0], box[2]), self.padding)
        top, bottom = _span(full.height, (shown[1], shown[3]), size[1], (box[1], box[3]), self.padding)
        region = (left / full.width, top / full.height, right / full.width, bottom / full.height)
        return Cut(self.grid.seen(images.to_rgb(full.crop((left, top, right, bottom)))), region)

    def _full(self, page: Page) -> Image:
        """The page's picture as large as it can be had."""
        stored = page.open_image()
        if not self.from_source or stored.width * stored.height >= self.full_pixels:
            return stored
        # Not where the stored picture has another shape: the page may have been turned or cut when it was indexed.
        drawn = _drawn_again(page, self.full_pixels)
        if drawn is None or drawn.width <= stored.width or not _same_shape(drawn, stored):
            return stored
        return drawn


def _span(full: int, shown: tuple[float, float], size: int, box: tuple[float, float], padding: int) -> tuple[int, int]:
    """Where a box begins and ends along one side of the full page, in whole pixels, at least one.

    A picture 100 pixels wide shows the right half of a page that is 1000 wide; 20 to 40 on it, 10 pixels padded:

    >>> _span(1000, (0.5, 1.0), 100, (20, 40), 10)
    (590, 710)
    """
    first = round(shown[0] * full)
    last = round(shown[1] * full)
    # Pixels of the full page for one of the picture.
    scale = (shown[1] - shown[0]) * full / size
    start = round(max(first, shown[0] * full + box[0] * scale - padding))
    end = round(min(last, shown[0] * full + box[1] * scale + padding))
    # A box at the edge may round to nothing.
    start = min(start, last - 1)
    return start, max(start + 1, end)


def _drawn_again(page: Page, max_pixels: int) -> Image | None:
    """The page drawn from its document, if that is the very file it was indexed from; None otherwise."""
    if not page.source or "://" in page.source:
        return None
    reader = PageReader(max_pixels=max_pixels, ocr="never")
    # By the hash of its bytes: a file that was changed since may have another page in this place.
    try:
        known = identify(Path(page.source), max_bytes=reader.max_bytes)
        if known.doc_id != page.doc_id or known.kind not in ("pdf", "image"):
            return None
        with reader.open(known) as document:
            return document.page(page.number).open_image()
    except (VisRAGError, OSError, ValueError) as err:
        logger.info("Page %d of %s is cropped from its stored picture: %s", page.number, page.source, err)
        return None


def _same_shape(one: Image, other: Image) -> bool:
    return abs(one.width * other.height / (one.height * other.width) - 1) <= _SAME_SHAPE
