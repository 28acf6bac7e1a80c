"""Form fields with a cell for each letter: their letters are one word, however far apart they stand."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FieldBoxes = NDArray[np.float64]  # (n, 4): left, top, right, bottom

COMB = 1 << 24  # of a field's flags (ISO 32000-1, table 228)
# Steps of a cell from one letter to the next; with an empty cell between them they are two.
_SAME_WORD = 1.5


def join_cells(texts: Sequence[str], boxes: FieldBoxes, fields: FieldBoxes) -> tuple[list[str], FieldBoxes]:
    """The words of a page in which letters of one field are one word, and their boxes.

    "K" "X" "4" "4"  in one field   ->   "KX44"
    "K" "X" "" "4"   an empty cell  ->   "KX" "4"
    """
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    joined = list(texts)
    boxes = boxes.copy()
    gone: list[int] = []
    for left, top, right, bottom in fields.tolist():
        inside = (middles >= (left, top)).all(axis=1) & (middles <= (right, bottom)).all(axis=1)
        places = np.flatnonzero(inside).tolist()
        if len(places) < 2 or any(len(joined[place]) > 1 for place in places):
            continue
        steps = np.abs(np.diff(middles[places], axis=0)).max(axis=1).tolist()
        usual = statistics.median_low(steps)
        first = places[0]
        for place, step in zip(places[1:], steps, strict=True):
            if step > _SAME_WORD * usual:
                first = place
                continue
            joined[first] += joined[place]
            boxes[first, :2] = np.minimum(boxes[first, :2], boxes[place, :2])
            boxes[first, 2:] = np.maximum(boxes[first, 2:], boxes[place, 2:])
            gone.append(place)
    kept = np.setdiff1d(np.arange(len(joined)), gone)
    return [joined[place] for place in kept.tolist()], boxes[kept]
