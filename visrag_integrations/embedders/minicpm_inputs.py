"""What MiniCPM-V 2.0 is fed: a page or a text becomes token ids, pictures, and the places of their vectors.

All of it is work for the processor's threads: nothing here knows of a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
from visrag_integrations.embedders.slicing import Size, SlicePlan, Slicing, plan_slices
from visrag_integrations.errors import PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

    Resize = Callable[[Image, SlicePlan], "list[PixelArray]"]

PixelArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Item:
    """One thing to embed, as the network takes it.

    Attributes:
        ids: Token ids, the beginning of the sequence first, cut off at the limit.
        spans: Start and end of each slice's placeholder in `ids`, where it is not cut off altogether.
        pixels: The overview and, with a grid, the refined page, each (height, width, 3).
        grid: Columns and rows of slices in the refined page.
    """

    ids: list[int]
    spans: list[tuple[int, int]] = field(default_factory=list)
    pixels: list[PixelArray] = field(default_factory=list)
    grid: Size = (1, 1)


def to_rgb(image: Image) -> Image:
    """The picture as `convert("RGB")` makes it, without its warning about palettes that are partly transparent.

    Raises:
        PictureError: It has no pixels, or a colour mode that cannot be converted.
    """
    if not image.width or not image.height:
        raise PictureError(f"A picture of {image.width} x {image.height} pixels cannot be embedded.")
    image.info.pop("transparency", None)
    if image.mode == "RGB":  # convert would copy all of it, holding Python's lock
        image.load()
        return image
    try:
        return image.convert("RGB")
    except ValueError as err:
        raise PictureError(f"A picture of mode {image.mode!r} cannot be converted to RGB: {err}.") from err


def exact_pixels(image: Image, plan: SlicePlan) -> list[PixelArray]:
    """Overview and refined page, each resized from the page itself, as the networks were trained."""
    from PIL.Image import Resampling

    pictures = []
    for size in plan.sizes:
        resized = image
        if size != image.size:
            resized = image.resize(size, Resampling.BICUBIC)
        pictures.append(np.asarray(resized))
    return pictures


def fast_pixels(image: Image, plan: SlicePlan) -> list[PixelArray]:
    """The same by torch's vectorised kernel: several times faster, and most pixels are equal, but not all."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    page = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # (1, 3, height, width), channels last in memory
    pictures = []
    for width, height in plan.sizes:
        resized = F.interpolate(page, size=(height, width), mode="bicubic", antialias=True)
        pictures.append(resized[0].permute(1, 2, 0).contiguous().numpy())
    return pictures


RESIZERS: dict[str, Resize] = {"exact": exact_pixels, "fast": fast_pixels}


class Preparer:
    """Pages and texts to `Item`s; safe to call from many threads."""

    def __init__(
        self, tokenizer: LlamaTokenizer, slicing: Slicing, queries: int, max_tokens: int, resize: Resize
    ) -> None:
        self.tokenizer = tokenizer
        self.slicing = slicing
        self.queries = queries
        self.max_tokens = max_tokens
        self.resize = resize
        self._picture = "<image>" + "<unk>" * queries + "</image>"
        self._open = tokenizer.token_id("<image>")

    def text_item(self, text: str) -> Item:
        """A text alone."""
        return Item([self.tokenizer.bos, *self.tokenizer.encode(text)][: self.max_tokens])

    def picture_item(self, image: Image, text: str = "") -> Item:
        """A picture, and a text after it."""
        image = to_rgb(image)
        plan = plan_slices(image.width, image.height, self.slicing)
        ids, starts = self._header(plan.grid)
        ids += self.tokenizer.encode("\n" + text)
        spans = []
        for start in starts:
            if start < self.max_tokens:
                spans.append((start, min(start + self.queries, self.max_tokens)))
        return Item(ids[: self.max_tokens], spans, self.resize(image, plan), plan.grid or (1, 1))

    def _header(self, grid: Size | None) -> tuple[list[int], list[int]]:
        """Ids up to the end of the pictures, and where each placeholder starts.

        Placeholders are found here, before any text is there, so that tags in a text can never be taken for one.
        """
        header = self._picture
        if grid is not None:  # rows end on a newline, as the networks were trained
            header += "<slice>" + "\n".join([self._picture * grid[0]] * grid[1]) + "</slice>"
        ids = [self.tokenizer.bos, *self.tokenizer.encode(header)]
        opened = np.flatnonzero(np.array(ids) == self._open)  # places of "<image>"; what it opens starts behind it
        return ids, (opened + 1).tolist()
