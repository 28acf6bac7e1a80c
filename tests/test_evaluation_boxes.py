"""Boxes against right boxes: by hand, and against pages that are really drawn and counted pixel by pixel."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from visrag_integrations.evaluation.boxes import area_score, boxes_with_area, covered_areas, iou, matched_score
from visrag_integrations.types import Box

WIDTH, HEIGHT = 60, 80  # pixels of a drawn page; boxes on whole pixels are drawn without rounding


def on_pixels(left: int, top: int, right: int, bottom: int) -> Box:
    return left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT


def drawn(boxes: list[Box]) -> np.ndarray:
    """The page with its boxes filled: True where a pixel is covered."""
    page = Image.new("1", (WIDTH, HEIGHT), 0)
    pen = ImageDraw.Draw(page)
    for left, top, right, bottom in boxes:
        corners = [round(left * WIDTH), round(top * HEIGHT), round(right * WIDTH) - 1, round(bottom * HEIGHT) - 1]
        pen.rectangle(corners, fill=1)
    return np.asarray(page)


def some_boxes(chance: random.Random, count: int) -> list[Box]:
    boxes = []
    for _ in range(count):
        left, right = sorted(chance.sample(range(WIDTH + 1), 2))
        top, bottom = sorted(chance.sample(range(HEIGHT + 1), 2))
        boxes.append(on_pixels(left, top, right, bottom))
    return boxes


@pytest.mark.parametrize("count", [1, 2, 3, 7, 25, 300])
def test_areas_are_those_of_drawn_pages(count: int) -> None:
    chance = random.Random(count)
    for _ in range(20 if count < 100 else 2):
        predicted, right = some_boxes(chance, count), some_boxes(chance, max(1, count // 2))
        one, other = drawn(predicted), drawn(right)
        pixels = [int((one & other).sum()), int(one.sum()), int(other.sum())]
        assert covered_areas(predicted, right) == pytest.approx([n / (WIDTH * HEIGHT) for n in pixels], abs=1e-12)
        score = area_score({"p": predicted}, {"p": right})
        assert score.precision == pytest.approx(pixels[0] / pixels[1], abs=1e-12)
        assert score.recall == pytest.approx(pixels[0] / pixels[2], abs=1e-12)
        assert score.f1 == pytest.approx(2 * pixels[0] / (pixels[1] + pixels[2]), abs=1e-12)


@pytest.mark.parametrize(
    ("predicted", "right", "precision", "recall"),
    [
        ([(0, 0, 0.5, 1)], [(0, 0, 0.5, 1)], 1, 1),
        ([(0.5, 1, 0, 0)], [(0, 0, 0.5, 1)], 1, 1),  # corners in another order
        ([(0, 0, 1, 1)], [(0, 0, 0.1, 0.1)], 0.01, 1),  # the whole page finds everything
        ([(0, 0, 0.1, 0.1)], [(0, 0, 1, 1)], 1, 0.01),
        ([(0, 0, 0.2, 1), (0.1, 0, 0.3, 1)], [(0, 0, 0.3, 1)], 1, 1),  # what overlaps counts once
        ([(0, 0, 0.2, 1), (0.2, 0, 0.4, 1)], [(0, 0, 0.4, 1)], 1, 1),  # two halves that touch
        ([(0, 0, 0.2, 1)], [(0.2, 0, 0.4, 1)], 0, 0),  # touching is not overlapping
        ([(-1, -1, 0.5, 2)], [(0, 0, 0.5, 1)], 1, 1),  # what stands out over the page is cut off
        ([(1.1, 0, 1.5, 1)], [(0, 0, 0.5, 1)], 0, 0),  # beside the page: nothing predicted
        ([(0.2, 0.2, 0.2, 0.9)], [(0, 0, 0.5, 1)], 0, 0),  # a line has no area
        ([(0.2, 0.2, 0.2, 0.9), (0, 0, 0.5, 1)], [(0, 0, 0.5, 1)], 1, 1),
        ([(math.nan, 0, 1, 1)], [(0, 0, 0.5, 1)], 0, 0),
        ([], [(0, 0, 0.5, 1)], 0, 0),
        ([(0, 0, 0.5, 1)], [], 0, 0),
        ([], [], 1, 1),
        ([(0.3, 0.3, 0.3, 0.3)], [], 1, 1),  # no box on either side
    ],
)
def test_by_hand(predicted: list[Box], right: list[Box], precision: float, recall: float) -> None:
    score = area_score({"p": predicted}, {"p": right})
    assert score.precision == pytest.approx(precision, abs=1e-12)
    assert score.recall == pytest.approx(recall, abs=1e-12)
    harmonic = 0 if not precision else 2 * precision * recall / (precision + recall)
    assert score.f1 == pytest.approx(harmonic, abs=1e-12)


def test_pages_are_kept_apart() -> None:
    half, quarter = (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 0.25, 1.0)
    score = area_score({"a": [half], "b": [quarter]}, {"a": [half], "c": [half]})
    assert score == pytest.approx((0.5 / 0.75, 0.5 / 1.0, 2 * 0.5 / 1.75))
    assert area_score({"b": [half]}, {"a": [half]}) == (0, 0, 0)
    assert matched_score({"b": [half]}, {"a": [half]}) == (0, 0, 0)
    assert matched_score({"a": [half], "b": [half]}, {"a": [half]}) == pytest.approx((0.5, 1, 2 / 3))


def test_the_same_boxes_agree_fully_however_many() -> None:
    boxes = some_boxes(random.Random(5), 400)
    shuffled = random.Random(6).sample(boxes, len(boxes))
    assert area_score({"p": boxes}, {"p": shuffled}) == (1, 1, 1)
    assert matched_score({"p": boxes}, {"p": shuffled}) == (1, 1, 1)


def test_a_page_of_any_size_costs_the_same() -> None:
    """Edges of a page of a million pixels a side: nothing is drawn."""
    side = 1_000_000
    predicted = [(1 / side, 1 / side, 500_001 / side, 500_001 / side)]
    right = [(250_001 / side, 1 / side, 500_001 / side, 1.0)]
    assert area_score({"p": predicted}, {"p": right}).precision == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1),
        ((0, 0, 0.4, 0.5), (0.2, 0, 0.6, 0.5), 1 / 3),
        ((0, 0, 0.4, 0.5), (0.4, 0, 0.6, 0.5), 0),
        ((0, 0, 0.4, 0.4), (0.1, 0.1, 0.3, 0.3), 0.25),
    ],
)
def test_iou_by_hand(one: Box, other: Box, share: float) -> None:
    assert iou(one, other) == iou(other, one) == pytest.approx(share)


@pytest.mark.parametrize(
    ("predicted", "right", "pairs"),
    [
        ([(0, 0, 0.2, 0.1)], [(0, 0, 0.1, 0.1)], 1),  # half of it: just the same
        ([(0, 0, 0.2, 0.1)], [(0, 0, 0.099, 0.1)], 0),
        ([(0, 0, 0.4, 1), (0, 0, 0.41, 1)], [(0, 0, 0.4, 1)], 1),  # one right box is used once
        ([(0, 0, 0.4, 1), (0, 0, 0.3, 1)], [(0, 0, 0.21, 1), (0, 0, 0.55, 1)], 2),
        ([(0, 0, 0.3, 1), (0, 0, 0.4, 1)], [(0, 0, 0.21, 1), (0, 0, 0.55, 1)], 2),  # in any order
    ],
)
def test_pairs_by_hand(predicted: list[Box], right: list[Box], pairs: int) -> None:
    score = matched_score({"p": predicted}, {"p": right})
    assert score == pytest.approx(
        (pairs / len(predicted), pairs / len(right), 2 * pairs / (len(predicted) + len(right)))
    )


def test_the_most_pairs_are_found() -> None:
    """Against every way to pair a few boxes."""
    chance = random.Random(3)
    for _ in range(150):
        ends = [chance.randint(3, 9) / 10 for _ in range(8)]
        predicted, right = ([(0.0, 0.0, end, 1.0) for end in half] for half in (ends[:4], ends[4:]))
        # Boxes from the left edge: common / together is the shorter width by the longer.
        same = [[min(a[2], b[2]) / max(a[2], b[2]) >= 0.7 - 1e-9 for b in right] for a in predicted]
        most = max(sum(same[i][j] for i, j in enumerate(order)) for order in itertools.permutations(range(4)))
        assert matched_score({"p": predicted}, {"p": right}, at=0.7).precision == most / 4


def test_boxes_with_area_leaves_others_alone() -> None:
    assert boxes_with_area([(0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1)]) == [(0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1)]
