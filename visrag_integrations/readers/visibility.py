"""Which words of a text layer leave a mark in the picture of their page.

Text that nobody sees is the usual way of planting instructions and false numbers in documents: white on white, under
a rectangle, on a layer that is switched off, half a point high. The renderer knows: where a word can be seen, the
pixels under its box differ. A few of them are looked at for every word, all for the few words where these are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visrag_integrations.images import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    EdgeArray = NDArray[np.float64]  # (n, 4): left, top, right, bottom
    Points = NDArray[np.float64]  # fractions of a box's width or height

# Where a word's box is looked at, as fractions across and down: first along one row right above the line on which
# letters (and the dots of a table of contents) stand; pixels of one row lie together in memory, so that this costs a
# third of two rows. Then, where these are alike, along more rows, at last at as many points as most words have pixels.
# Of 33,000 words of manuals the first row finds nine in ten (seven points at 0.74; nine at 0.78 found 87 in 100, five
# at 0.74 as many), the second step half of the others, the last all but a few.
_ROWS = (
    (np.linspace(0.06, 0.94, 7), np.array([0.74])),
    (np.linspace(0.04, 0.96, 11), np.array([0.45, 0.62, 0.7, 0.78])),
    (np.linspace(0.02, 0.98, 25), np.linspace(0.05, 0.95, 13)),
)
# Of 255, between the lightest and the darkest pixel of a word, in any of the three colours. The palest print that is
# meant to be read differs by 30 or more; a letter of colour 253 on 255 is not meant to be read. Thin print that is
# drawn small is blended with its ground and still differs by 20.
_MARK = 12
# The same for dots and dashes, of which a picture of few pixels keeps a shade: they say nothing that could mislead.
_FAINT_MARK = 3
_FEW_ROWS = 5
# Points. Letters of the finest print that is read (on contracts, maps) are 4 points high; below this they are dust.
_LOWEST = 1.5


def visible_words(texts: Sequence[str], boxes: EdgeArray, edges: EdgeArray, pixels: Pixels) -> NDArray[np.bool_]:
    """For each word, whether it is on the page, large enough to be seen, and has left a mark; empty texts have not.

    Args:
        texts: The words.
        boxes: In points.
        edges: The same boxes as fractions of the page.
        pixels: The page's picture.
    """
    left, top, right, bottom = edges.T
    kept: NDArray[np.bool_]
    kept = (left + right > 0) & (left + right < 2) & (top + bottom > 0) & (top + bottom < 2)  # the middle of each
    if not all(texts):
        kept &= np.fromiter(map(bool, texts), dtype=np.bool_, count=len(texts))
    width = boxes[:, 2] - boxes[:, 0]
    height = boxes[:, 3] - boxes[:, 1]
    smaller = np.minimum(width, height)
    kept &= smaller > 0
    # A dash or a dot is low by itself; a word of letters is as high as its font.
    kept &= np.maximum(width, height) >= _LOWEST
    for place in np.flatnonzero((smaller < _LOWEST) & kept).tolist():
        kept[place] = len(texts[place]) < 2
    picture = np.frombuffer(pixels.drawn, dtype=np.uint8).reshape(pixels.height, pixels.width, pixels.bytes_each)
    inside = np.clip(edges, 0.0, 1.0)
    doubtful = np.flatnonzero(kept)
    for points in _ROWS:
        if len(doubtful):
            doubtful = doubtful[_alike(inside[doubtful], picture, *points)]
    for place in doubtful.tolist():
        mark = _MARK
        if not any(map(str.isalnum, texts[place])):
            mark = _FAINT_MARK
        kept[place] = _differs(picture, inside[place], mark)
    return kept


def _alike(edges: EdgeArray, picture: NDArray[np.uint8], across: Points, down: Points) -> NDArray[np.bool_]:
    """For each box, whether these points have one colour in every row: a ruled line is no mark of a letter."""
    rows, columns, size = picture.shape
    left, top, right, bottom = edges.T
    # Words go along the last axis: numpy compares whole rows of them at once, and one by one along a short last axis.
    x = ((left + (right - left) * across[:, None]) * (columns - 1)).astype(np.intp)
    y = ((top + (bottom - top) * down[:, None]) * (rows - 1)).astype(np.intp)
    # Green tells nearly all colours from their ground; the others are found in the last step, which takes all three.
    places = (y * (size * columns) + 1)[:, None, :] + size * x
    green = picture.reshape(-1).take(places)
    spread = green.max(axis=1, initial=0) - green.min(axis=1, initial=255)
    alike: NDArray[np.bool_] = spread.max(axis=0, initial=0) < _MARK
    return alike


def _differs(picture: NDArray[np.uint8], edge: NDArray[np.float64], mark: int) -> bool:
    """Whether any two pixels of a row under a box differ by so much, with a pixel more on each side."""
    rows, columns, _ = picture.shape
    left, top, right, bottom = edge.tolist()
    # Print of a few pixels can fall into the row beside its box; higher boxes hold all of theirs.
    above = int((bottom - top) * rows < _FEW_ROWS)
    part = picture[
        max(0, int(top * rows) - above) : math.ceil(bottom * rows) + above,
        max(0, int(left * columns) - 1) : math.ceil(right * columns) + 1,
        :3,
    ]
    return bool((part.max(axis=1, initial=0) - part.min(axis=1, initial=255)).max(initial=0) >= mark)
