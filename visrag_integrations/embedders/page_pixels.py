"""Pages as transformers' picture processors make them, number for number, without most of what those copy.

A processor goes from picture to array and back at every resize, makes numbers in float64 beside those it keeps, and
writes the same token ids for every page of a shape. That is two fifths of the processor's time for a page. On a GPU,
with sixteen threads preparing, ColModernVBERT embedded 9 pages a second where its network alone could do 26; how much
of that this brings back was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

# Shapes whose token ids are kept, under 15 kB each: pages of a book have a few. Those of more go the processor's way.
MOST_SHAPES = 1024


class ShortWay(NamedTuple):
    """What a processor would make of a page.

    Attributes:
        shape: Pages of the same shape have the same token ids.
        tensors: By the processor's names, with its batch axis of one page.
    """

    shape: tuple[int, ...]
    tensors: dict[str, Tensor]


class CheckedPages:
    """Pages by the short way, once it was seen to give what the processor gives for a page of that shape.

    Where it gives another number, as with a transformers that computes otherwise, all pages from then on go the
    processor's way. Safe to call from many threads.

    Args:
        short: The short way; None where it does not know the processor's settings.
        whole: The processor's.
    """

    def __init__(self, short: Callable[[Image], ShortWay | None], whole: Callable[[Image], Mapping[str, Any]]) -> None:
        self._short = short
        self._whole = whole
        self._differs = False
        self._ids: dict[tuple[int, ...], Any] = {}  # shape -> token ids; None where the processor writes none

    def made(self, image: Image) -> Mapping[str, Any]:
        """What the processor makes of the page, without its `attention_mask`."""
        short = None
        if not self._differs:
            short = self._short(image)
        if short is None:
            return self._whole(image)
        if short.shape in self._ids:
            return {**short.tensors, "input_ids": self._ids[short.shape]}
        whole = self._whole(image)
        if not _same(short.tensors, whole):
            self._differs = True
        elif len(self._ids) < MOST_SHAPES:
            self._ids[short.shape] = whole.get("input_ids")
        return whole


def qwen2_patches(pictures: Any, image: Image, size: Mapping[str, int]) -> ShortWay | None:
    """Of Qwen2-VL: patches of 14 x 14 pixels, each twice, as if it were two moments of a film.

    Args:
        pictures: The processor.
        image: In RGB.
        size: "shortest_edge" and "longest_edge", which are pixels in spite of their names.

    Raises:
        ValueError: The page is too long and narrow.
    """
    if not _is_usual(pictures, "Qwen2VLImageProcessorPil"):
        return None
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    side, merge, moments = int(pictures.patch_size), int(pictures.merge_size), int(pictures.temporal_patch_size)
    limits = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    height, width = smart_resize(image.height, image.width, side * merge, **limits)
    rows, columns = height // side, width // side
    pixels = np.asarray(image.resize((width, height), resample=pictures.resample))
    # 2 x 2 neighbours stand together: (row of four, row in it, y, column of four, column in it, x, colour) becomes
    # (row of four, column of four, row in it, column in it, colour, y, x).
    split = pixels.reshape(rows // merge, merge, side, columns // merge, merge, side, 3)
    by_patch = np.ascontiguousarray(split.transpose(0, 3, 1, 4, 6, 2, 5)).reshape(rows * columns, 3, side * side)
    numbers = np.empty((rows * columns, 3, moments, side * side), np.float32)
    _write_numbers(pictures, by_patch, numbers[:, :, 0])
    numbers[:, :, 1:] = numbers[:, :, :1]
    tensors = {
        "pixel_values": torch.from_numpy(numbers.reshape(1, rows * columns, -1)),
        "image_grid_thw": torch.tensor([[1, rows, columns]]),
    }
    return ShortWay((rows, columns), tensors)


def idefics3_tiles(pictures: Any, image: Image) -> ShortWay | None:
    """Of Idefics3: square tiles of a page, row by row, and an overview after them, where there is more than one.

    Args:
        pictures: The processor.
        image: In RGB.
    """
    if not _is_usual(pictures, "Idefics3ImageProcessorPil") or not (pictures.do_image_splitting and pictures.do_pad):
        return None
    longest, side = dict(pictures.size).get("longest_edge"), dict(pictures.max_image_size).get("longest_edge")
    if not longest or not side:
        return None
    from transformers.models.idefics3.image_processing_pil_idefics3 import get_resize_output_image_size

    # The function asks for an array of colours, rows, columns, and looks only at its shape.
    height, width = get_resize_output_image_size(SimpleNamespace(shape=(3, image.height, image.width)), longest)
    first = image.resize((width, height), resample=pictures.resample)
    height, width = _whole_tiles(height, width, side)
    whole = first.resize((width, height), resample=pictures.resample)
    pixels = np.asarray(whole)
    rows, columns = height // side, width // side
    tiles = []
    for row in range(rows):
        for column in range(columns):
            tiles.append(pixels[row * side : (row + 1) * side, column * side : (column + 1) * side])
    if len(tiles) > 1:
        tiles.append(np.asarray(whole.resize((side, side), resample=pictures.resample)))
    numbers = np.empty((1, len(tiles), 3, side, side), np.float32)
    for tile, made in zip(tiles, numbers[0], strict=True):
        _write_numbers(pictures, tile.transpose(2, 0, 1).reshape(3, -1), made.reshape(3, -1))
    # All is page: tiles are full, and nothing of them was filled up.
    mask = torch.ones(1, len(tiles), side, side, dtype=torch.bool)
    return ShortWay((rows, columns), {"pixel_values": torch.from_numpy(numbers), "pixel_attention_mask": mask})


def siglip_square(pictures: Any, image: Image) -> ShortWay | None:
    """Of SigLIP: the page in one size, whatever shape it has.

    Args:
        pictures: The processor.
        image: In RGB.
    """
    if not _is_usual(pictures, "SiglipImageProcessorPil"):
        return None
    size = dict(pictures.size)
    if set(size) != {"height", "width"} or getattr(pictures, "do_center_crop", None):
        return None
    pixels = np.asarray(image.resize((size["width"], size["height"]), resample=pictures.resample))
    numbers = np.empty((1, 3, size["height"], size["width"]), np.float32)
    _write_numbers(pictures, pixels.transpose(2, 0, 1), numbers[0], axes=2)
    return ShortWay((), {"pixel_values": torch.from_numpy(numbers)})


def _is_usual(pictures: Any, class_name: str) -> bool:
    """Whether it is that processor, itself and no other's, and does all that it usually does."""
    if type(pictures).__name__ != class_name:
        return False
    usual = pictures.do_resize and pictures.do_rescale and pictures.do_normalize
    return bool(usual) and pictures.resample is not None


def _write_numbers(pictures: Any, pixels: NDArray[np.uint8], numbers: NDArray[np.float32], axes: int = 1) -> None:
    """Colours of 0 to 255 as the network takes them: (colour * factor - mean) / deviation.

    As the processor rounds: the product is made in float64 and kept in float32, the rest is float32. Each step writes
    where the last one did, so that nothing large is made on the way.

    Args:
        pictures: The processor, which knows the factor, the means and the deviations.
        pixels: (..., 3, n), or with more axes after the colours.
        numbers: Of the same shape; is written.
        axes: How many axes come after the colours.
    """
    by_colour = (3, *[1] * axes)
    mean = np.array(pictures.image_mean, np.float32).reshape(by_colour)
    deviation = np.array(pictures.image_std, np.float32).reshape(by_colour)
    np.multiply(pixels, pictures.rescale_factor, out=numbers, dtype=np.float64, casting="same_kind")
    np.subtract(numbers, mean, out=numbers)
    np.divide(numbers, deviation, out=numbers)


def _whole_tiles(height: int, width: int, side: int) -> tuple[int, int]:
    """The size that is cut into whole tiles: the longer side rounded up, the shorter first in proportion.

    >>> _whole_tiles(2048, 1448, 512)
    (2048, 1536)
    """
    ratio = width / height
    if width >= height:
        width = math.ceil(width / side) * side
        height = math.ceil(int(width / ratio) / side) * side
    else:
        height = math.ceil(height / side) * side
        width = math.ceil(int(height * ratio) / side) * side
    return height, width


def _same(short: Mapping[str, Tensor], whole: Mapping[str, Any]) -> bool:
    """Whether both have the same numbers; of a mask, in whatever type."""
    for name, tensor in short.items():
        if name not in whole or not torch.equal(tensor, whole[name].to(tensor.dtype)):
            return False
    return True
