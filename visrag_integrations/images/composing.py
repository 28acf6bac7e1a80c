"""Pictures made of pictures: a part of one, one with boxes drawn on it, several in one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from visrag_integrations.errors import SettingError
from visrag_integrations.images.contours import contours
from visrag_integrations.images.pixels import to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

Direction = Literal["horizontal", "vertical"]
"""Side by side, or one under the other."""


def crop(image: Image, box: tuple[float, float, float, float]) -> Image:
    """The part of the picture inside `box` (left, top, right, bottom as fractions), at least one pixel.

    >>> from PIL import Image
    >>> crop(Image.new("RGB", (200, 100)), (0.25, 0.0, 0.75, 1.0)).size
    (100, 100)
    """
    left, top, right, bottom = _inside(box)
    if not (left < right and top < bottom):
        raise SettingError(f"The box {box} is empty; give left < right and top < bottom, as fractions from 0 to 1.")
    # At least one pixel, and inside the picture: of 10 columns, 0.99 to 1.0 is column 9, not an empty strip behind it.
    x = min(round(left * image.width), image.width - 1)
    y = min(round(top * image.height), image.height - 1)
    end_x = max(x + 1, round(right * image.width))
    end_y = max(y + 1, round(bottom * image.height))
    return image.crop((x, y, end_x, end_y))


def _inside(box: Sequence[float]) -> list[float]:
    """The four edges, not beyond the picture; a box may come from a client or a model, so it is looked at first."""
    if len(box) != 4:
        raise SettingError(f"A box has four edges, and {box} has {len(box)}; give left, top, right, bottom.")
    edges: list[float] = []
    for edge in box:
        try:
            finite = math.isfinite(edge)
        except (TypeError, OverflowError):  # no number, or a whole number of hundreds of digits
            finite = False
        if not finite:
            raise SettingError(f"The box {box} has an edge that is no finite number; give fractions from 0 to 1.")
        edges.append(min(1.0, max(0.0, edge)))
    return edges


def outline(
    image: Image, boxes: Iterable[tuple[float, float, float, float]], *, colour: str = "#c77700", dashed: bool = False
) -> Image:
    """A copy in RGB with the boxes (fractions of width and height) outlined together, and tinted.

    >>> from PIL import Image
    >>> outline(Image.new("RGB", (200, 100), "white"), [(0.25, 0.2, 0.75, 0.8)], colour="#ff0000").getpixel((50, 50))
    (255, 0, 0)
    """
    from PIL import Image, ImageChops, ImageColor, ImageDraw

    plain = to_rgb(image)
    stroke = max(2, round(min(plain.size) / 400))  # a line that shows when a page is scaled down to a screen
    half = stroke // 2
    dash_length = 4 * stroke if dashed else 0
    # The tint is multiplied with the page, so that black letters stay black; the lines are painted over it.
    tint = Image.new("RGB", plain.size, "white")
    lines = Image.new("L", plain.size, 0)
    tint_brush, pen = ImageDraw.Draw(tint), ImageDraw.Draw(lines)
    rgb = ImageColor.getrgb(colour)[:3]
    pale = tuple(255 - (255 - value) // 5 for value in rgb)  # a fifth of the colour, the rest white
    for corners in contours(boxes, plain.width - 1, plain.height - 1):
        whole = [(round(x), round(y)) for x, y in corners]
        tint_brush.polygon(whole, fill=pale)
        for (x, y), (end_x, end_y) in pairwise([*whole, whole[0]]):
            side = (min(x, end_x), min(y, end_y), max(x, end_x), max(y, end_y))
            for x1, y1, x2, y2 in _dashes(*side, length=dash_length):
                pen.rectangle((x1 - half, y1 - half, x2 + half, y2 + half), 255)
    tinted = ImageChops.multiply(plain, tint)
    tinted.paste(rgb, (0, 0), lines)
    return tinted


def _dashes(x: int, y: int, right: int, bottom: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    """A horizontal or vertical line in pieces with gaps as long; whole where the length is 0.

    >>> list(_dashes(0, 5, 30, 5, length=10))
    [(0, 5, 10, 5), (20, 5, 30, 5)]
    """
    if not length:
        yield x, y, right, bottom
        return
    for start in range(0, max(right - x, bottom - y) + 1, 2 * length):
        stop = start + length
        yield min(right, x + start), min(bottom, y + start), min(right, x + stop), min(bottom, y + stop)


def concatenate(pictures: Sequence[Image], direction: Direction = "horizontal") -> Image:
    """The pictures in one: scaled to the tallest and put side by side, or to the widest and stacked (bicubic, RGB).

    >>> from PIL import Image
    >>> pages = [Image.new("RGB", (20, 40)), Image.new("RGB", (30, 20))]
    >>> concatenate(pages).size, concatenate(pages, "vertical").size
    ((80, 40), (30, 80))
    """
    from PIL import Image

    if not pictures or direction not in ("horizontal", "vertical"):
        raise SettingError(
            f"{len(pictures)} pictures cannot be joined in the direction {direction!r}; "
            'give one or more and "horizontal" or "vertical".'
        )
    # All get the height of the tallest, or stacked the width of the widest: (20, 40) and (30, 20) side by side are
    # 40 high, so the second becomes (60, 40).
    sizes: list[tuple[int, int]] = []
    if direction == "horizontal":
        height = max(picture.height for picture in pictures)
        for picture in pictures:
            sizes.append((_scaled(picture.width, height / picture.height), height))
        whole = (sum(width for width, _ in sizes), height)
    else:
        width = max(picture.width for picture in pictures)
        for picture in pictures:
            sizes.append((width, _scaled(picture.height, width / picture.width)))
        whole = (width, sum(height for _, height in sizes))
    joined = Image.new("RGB", whole, "white")
    x = y = 0
    for picture, size in zip(pictures, sizes, strict=True):
        joined.paste(to_rgb(picture).resize(size, Image.Resampling.BICUBIC), (x, y))
        if direction == "horizontal":
            x += size[0]
        else:
            y += size[1]
    return joined


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))
