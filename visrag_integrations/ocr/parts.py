"""A large page, read in parts: lines are looked for part by part, and each is then cut out whole and read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from visrag_integrations.ocr.engine import OcrLine, find_boxes, read_line
from visrag_integrations.ocr.turning import turned_box
from visrag_integrations.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.ocr.turning import Detail, QuarterTurn

_PART = (960, 720)  # pixels of a part: what a whole page is read at
# Pixels that neighbouring parts share, so that a line cut by one edge is whole or at least begins in the other part.
_SHARED = 80
# Of the lower one's height: boxes of two parts that share so much of it, and meet, are one line.
_LEVEL = 0.5
# Lines of a page are at most so many; a picture of noise that seems to have more is not read on.
_MOST_LINES = 5_000
# Of 255: a part without such a difference between two pixels is empty, and most of a drawing is.
_MARK = 24


def read_in_parts(detail: Detail, pixels: int, turn: QuarterTurn) -> list[OcrLine]:
    """The lines of a page at so many pixels; boxes are fractions of the page after it was turned clockwise."""
    scale = min(1.0, math.sqrt(pixels / (detail.width * detail.height)))
    size = (max(1, round(detail.width * scale)), max(1, round(detail.height * scale)))
    boxes: list[tuple[Box, int]] = []
    for number, area in enumerate(_areas(*size)):
        left, top, right, bottom = area
        picture = _part(detail, (left, top, right, bottom), size)
        if _is_empty(picture):
            continue
        for box in find_boxes(picture):
            boxes.append(((box[0] + left, box[1] + top, box[2] + left, box[3] + top), number))
    lines: list[OcrLine] = []
    for box in _joined(boxes)[:_MOST_LINES]:
        text, score = _read(detail, box, size, turn)
        if text:
            fractions = (box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1])
            lines.append(OcrLine(text, score, turned_box(fractions, turn)))
    return lines


def _areas(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Parts that cover a picture of this size, as left, top, right, bottom.

    >>> list(_areas(1000, 100))
    [(0, 0, 960, 100), (880, 0, 1000, 100)]
    """
    for top in range(0, max(1, height - _SHARED), _PART[1] - _SHARED):
        for left in range(0, max(1, width - _SHARED), _PART[0] - _SHARED):
            yield left, top, min(width, left + _PART[0]), min(height, top + _PART[1])


def _part(detail: Detail, area: Box, size: tuple[int, int]) -> Image:
    """The part of a page that would be this area if the page had this size."""
    left, top, right, bottom = area
    width, height = size
    fractions = (left / width, top / height, right / width, bottom / height)
    return detail.part(fractions, max(1, round(right - left)), max(1, round(bottom - top)))


def _is_empty(picture: Image) -> bool:
    histogram = picture.convert("L").histogram()
    shades = [shade for shade, count in enumerate(histogram) if count]
    return shades[-1] - shades[0] < _MARK


def _joined(boxes: list[tuple[Box, int]]) -> list[Box]:
    """Boxes of lines that several parts saw, as one each.

    A line across two parts, of which each saw its own end:  [---A--|    |--B--]   ->   [------------]
    """
    joined: list[tuple[Box, set[int]]] = []
    for box, part in boxes:
        parts = {part}
        apart: list[tuple[Box, set[int]]] = []
        for other, other_parts in joined:
            if not parts <= other_parts and _is_one_line(box, other):
                box = (min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3]))
                parts |= other_parts
            else:
                apart.append((other, other_parts))
        joined = [*apart, (box, parts)]
    return [box for box, _ in joined]


def _is_one_line(one: Box, other: Box) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    level = down >= _LEVEL * min(one[3] - one[1], other[3] - other[1])
    upright = across >= _LEVEL * min(one[2] - one[0], other[2] - other[0])
    return (level and across > 0) or (upright and down > 0 and _is_tall(one) and _is_tall(other))


def _is_tall(box: Box) -> bool:
    return box[3] - box[1] > 1.5 * (box[2] - box[0])


def _read(detail: Detail, box: Box, size: tuple[int, int], turn: QuarterTurn) -> tuple[str, float]:
    """A line, cut out of the page and turned upright; one that stands is read both ways, and the surer one counts."""
    from PIL import Image

    picture = _part(detail, box, size)
    upwards, downwards = Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90
    if turn == 180:
        return read_line(picture.transpose(Image.Transpose.ROTATE_180))
    if turn == 90:
        return read_line(picture.transpose(upwards))
    if turn == 270:
        return read_line(picture.transpose(downwards))
    if not _is_tall(box):
        return read_line(picture)
    return max(read_line(picture.transpose(upwards)), read_line(picture.transpose(downwards)), key=_sureness)


def _sureness(read: tuple[str, float]) -> float:
    return read[1]
