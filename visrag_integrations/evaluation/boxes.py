"""How well boxes agree with the right ones: by the area that they cover, exactly, and box by box.

Boxes are fractions of their page, so each page counts alike, however large it is. Corners may come in any order. What
stands out over an edge of the page is cut off, and a box without area is no box.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from visrag_integrations.types import Box

BoxesByPage = Mapping[str, Sequence[Box]]
"""Page key -> boxes on that page."""

SAME_BOX = 0.5
"""Two boxes are the same from this share on: common area / area of both together (IoU), the field's usual limit."""
# [0, 0, 0.2, 0.1] and [0, 0, 0.1, 0.1] share exactly half, and in floating point a little less.
_ROUNDING = 1e-9


class BoxScore(NamedTuple):
    """Precision: the share of the predicted that is right; recall: the share of the right that was predicted."""

    precision: float
    recall: float
    f1: float


def area_score(predicted: BoxesByPage, right: BoxesByPage) -> BoxScore:
    """By the area that the boxes of each side cover together: what several boxes cover counts once.

    No boxes on either side is full agreement, on one side only none at all. A box on another page is wrong all over.

    >>> area_score({"p1": [(0, 0, 0.5, 1)]}, {"p1": [(0.25, 0, 1, 1)]})  # 1/2 and 3/4, 1/4 in common
    BoxScore(precision=0.5, recall=0.3333333333333333, f1=0.4)
    >>> area_score({"p2": [(0, 0, 0.5, 1)]}, {"p1": [(0, 0, 0.5, 1)]})
    BoxScore(precision=0.0, recall=0.0, f1=0.0)
    """
    common = of_predicted = of_right = 0.0
    for page in {**predicted, **right}:
        areas = covered_areas(predicted.get(page, ()), right.get(page, ()))
        common += areas[0]
        of_predicted += areas[1]
        of_right += areas[2]
    return _score(common, of_predicted, of_right)


def matched_score(predicted: BoxesByPage, right: BoxesByPage, at: float = SAME_BOX) -> BoxScore:
    """Box by box: each predicted box is paired with at most one right box that is the same (IoU of `at` or more).

    Of all ways to pair them, one with the most pairs counts, so that the order of the boxes does not matter.

    >>> matched_score({"p": [(0, 0, 0.4, 1), (0.8, 0, 1, 1)]}, {"p": [(0, 0, 0.5, 1)]})  # 0.4 of 0.5; the second: none
    BoxScore(precision=0.5, recall=1.0, f1=0.6666666666666666)
    >>> matched_score({"p": [(0, 0, 0.2, 1), (0.2, 0, 0.4, 1)]}, {"p": [(0, 0, 0.4, 1)]})  # two halves: one pair
    BoxScore(precision=0.5, recall=1.0, f1=0.6666666666666666)
    """
    pairs = of_predicted = of_right = 0
    for page in {**predicted, **right}:
        given = boxes_with_area(predicted.get(page, ()))
        wanted = boxes_with_area(right.get(page, ()))
        pairs += _most_pairs([_same_boxes(one, wanted, at) for one in given])
        of_predicted += len(given)
        of_right += len(wanted)
    return _score(pairs, of_predicted, of_right)


def covered_areas(predicted: Iterable[Box], right: Iterable[Box]) -> tuple[float, float, float]:
    """Of one page: the area covered by both, by the predicted and by the right boxes.

    >>> covered_areas([(0, 0, 0.5, 0.5), (0, 0, 0.5, 0.5)], [(0.25, 0, 0.75, 0.5)])
    (0.125, 0.25, 0.25)
    """
    sides = [boxes_with_area(predicted), boxes_with_area(right)]
    everything = sides[0] + sides[1]
    if not everything:
        return 0.0, 0.0, 0.0
    # Between two neighbouring edges nothing begins or ends, so the page falls into rectangles that are covered whole or
    # not at all. Strip by strip from left to right, so that memory grows with the boxes and not with their square:
    #   (0, 0, .5, 1) and (.25, .5, 1, 1)  ->  strips 0 to .25 to .5 to 1, each cut at .5
    ys = np.unique([(box[1], box[3]) for box in everything])
    heights = np.diff(ys)
    layers = np.zeros((2, len(heights)), dtype=np.int64)  # how many boxes of each side lie over a part of the strip
    edges = _vertical_edges(sides)
    areas: list[tuple[float, float, float]] = []
    before = edges[0].x
    for edge in edges:
        width = edge.x - before
        if width > 0:
            covered = layers > 0
            areas.append(
                (
                    width * float(heights[covered[0] & covered[1]].sum()),
                    width * float(heights[covered[0]].sum()),
                    width * float(heights[covered[1]].sum()),
                )
            )
        first, last = np.searchsorted(ys, (edge.top, edge.bottom))
        layers[edge.side, first:last] += edge.step
        before = edge.x
    common, one, other = map(math.fsum, zip(*areas, strict=True))
    return common, one, other


def iou(one: Box, other: Box) -> float:
    """The common area of two boxes as a share of what both cover together.

    >>> iou((0, 0, 0.5, 1), (0.25, 0, 1, 1))
    0.25
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    both = _area(one) + _area(other) - common
    if both <= 0:  # sides so short that their product is nothing
        return 0.0
    return common / both


def boxes_with_area(boxes: Iterable[Box]) -> list[Box]:
    """The boxes with their corners in order and inside the page, without those that then have no area.

    >>> boxes_with_area([(0.5, 0.5, 0.25, 1.5), (0.1, 0.1, 0.1, 0.9), (1.5, 0, 2, 1)])
    [(0.25, 0.5, 0.5, 1.0)]
    """
    kept: list[Box] = []
    for box in boxes:
        if not all(map(math.isfinite, box)):
            continue
        left, top, right, bottom = (min(1.0, max(0.0, float(edge))) for edge in box)
        left, right = min(left, right), max(left, right)
        top, bottom = min(top, bottom), max(top, bottom)
        if left < right and top < bottom:
            kept.append((left, top, right, bottom))
    return kept


class _Edge(NamedTuple):
    """Where a box begins (step 1) or ends (step -1), seen from the left."""

    x: float
    side: int
    top: float
    bottom: float
    step: int


def _vertical_edges(sides: Sequence[Sequence[Box]]) -> list[_Edge]:
    edges: list[_Edge] = []
    for side, boxes in enumerate(sides):
        for left, top, right, bottom in boxes:
            edges.append(_Edge(left, side, top, bottom, 1))
            edges.append(_Edge(right, side, top, bottom, -1))
    return sorted(edges)


def _same_boxes(box: Box, others: Sequence[Box], at: float) -> list[int]:
    """The places of those that are the same box."""
    return [place for place, other in enumerate(others) if iou(box, other) >= at - _ROUNDING]


def _most_pairs(partners: Sequence[Sequence[int]]) -> int:
    """The largest number of pairs, each element with one of its possible partners, each partner once.

    >>> _most_pairs([[0, 1], [0]])  # the first gives 0 to the second and takes 1
    2
    """
    owner: dict[int, int] = {}  # partner -> the element that has it
    for element in range(len(partners)):
        _pair_one_more(element, partners, owner)
    return len(owner)


def _pair_one_more(element: int, partners: Sequence[Sequence[int]], owner: dict[int, int]) -> None:
    """Pairs the element too, where the others can make room for it (an augmenting path, breadth first)."""
    wanted_by: dict[int, int] = {}
    waiting = deque([element])
    while waiting:
        one = waiting.popleft()
        for partner in partners[one]:
            if partner in wanted_by:
                continue
            wanted_by[partner] = one
            if partner in owner:
                waiting.append(owner[partner])
                continue
            # A free one: everybody along the way takes what they wanted, and leaves what they had to the one before.
            had = {who: what for what, who in owner.items()}
            while True:
                who = wanted_by[partner]
                owner[partner] = who
                if who == element:
                    return
                partner = had[who]


def _score(common: float, predicted: float, right: float) -> BoxScore:
    if not predicted and not right:
        return BoxScore(1.0, 1.0, 1.0)
    if not common:
        return BoxScore(0.0, 0.0, 0.0)
    # Sums in another order differ in the last digit; a share is at most 1.
    precision, recall = min(1.0, common / predicted), min(1.0, common / right)
    return BoxScore(precision, recall, min(1.0, 2 * common / (predicted + right)))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
