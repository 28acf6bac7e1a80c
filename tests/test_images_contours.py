"""One line around words that belong together: nothing found is outside of it, and it runs through no word."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from visrag_integrations.images import contours, outline

# Three lines of a paragraph on a page of 1000 by 1000 pixels: 20 high, 6 between; the last one ends early.
PARAGRAPH = [(0.1, 0.100, 0.9, 0.120), (0.1, 0.126, 0.9, 0.146), (0.1, 0.152, 0.4, 0.172)]


def test_lines_of_a_paragraph_are_one_shape() -> None:
    (shape,) = contours(PARAGRAPH, 1000, 1000)
    assert shape[0] == (97.6, 97.6)
    # The corner where the last line ends stands in the white between the lines, not on letters.
    assert (902.4, 149.0) in shape
    assert (402.4, 149.0) in shape


def test_pieces_of_a_line_are_joined_and_columns_are_not() -> None:
    pieces = [(0.1, 0.1, 0.2, 0.12), (0.22, 0.1, 0.3, 0.12)]  # one word between
    assert len(contours(pieces, 1000, 1000)) == 1
    columns = [(0.1, 0.1, 0.4, 0.12), (0.6, 0.1, 0.9, 0.12)]
    assert len(contours(columns, 1000, 1000)) == 2
    apart = [(0.1, 0.1, 0.9, 0.12), (0.1, 0.5, 0.9, 0.52)]
    assert len(contours(apart, 1000, 1000)) == 2
    beside = [(0.1, 0.1, 0.3, 0.12), (0.5, 0.126, 0.9, 0.146)]  # next line, but under nothing of the first
    assert len(contours(beside, 1000, 1000)) == 2


def test_lines_from_top_to_bottom() -> None:
    turned = [(top, left, bottom, right) for left, top, right, bottom in PARAGRAPH]
    (shape,) = contours(turned, 1000, 1000)
    (upright,) = contours(PARAGRAPH, 1000, 1000)
    assert shape == [(y, x) for x, y in upright]


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (float("nan"),) * 4, (-3, -3, 9, 9), (0.5, 0.5, 0.4, 0.4), (1, 1, 1, 1)])
def test_boxes_that_are_none(box: tuple[float, float, float, float]) -> None:
    for shape in contours([box, *PARAGRAPH], 50, 70):
        assert all(0 <= x <= 50 and 0 <= y <= 70 for x, y in shape)


TABLE = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 15), st.integers(1, 6)),
    min_size=1,
    max_size=12,
    unique_by=lambda c: c[1],
)
"""(column, row, width): lines on a grid, one a row, 20 pixels high with 6 between."""


def lines_of(cells: list[tuple[int, int, int]]) -> list[tuple[float, float, float, float]]:
    boxes = []
    for column, row, width in cells:
        left, top = 50 + 60 * column, 30 + 26 * row
        boxes.append((left / 1000, top / 1000, (left + 50 * width) / 1000, (top + 20) / 1000))
    return boxes


@given(TABLE)
def test_no_line_runs_through_a_word_and_no_word_is_outside(cells: list[tuple[int, int, int]]) -> None:
    boxes = lines_of(cells)
    drawn = Image.new("L", (1000, 1000))
    pen = ImageDraw.Draw(drawn)
    for shape in contours(boxes, 1000, 1000):
        pen.polygon(shape, fill=255)
        for (x, y), (end_x, end_y) in pairwise([*shape, shape[0]]):
            assert x == end_x or y == end_y
            for box in boxes:
                left, top, right, bottom = (1000 * edge for edge in box)
                across = min(x, end_x) < right - 1 and max(x, end_x) > left + 1
                down = min(y, end_y) < bottom - 1 and max(y, end_y) > top + 1
                assert not (across and down), (box, (x, y), (end_x, end_y))
    for box in boxes:
        left, top, right, bottom = (round(1000 * edge) for edge in box)
        assert drawn.crop((left + 1, top + 1, right - 1, bottom - 1)).getextrema() == (255, 255)


def test_a_picture_is_tinted_inside_and_not_between() -> None:
    page = Image.new("RGB", (1000, 1000), "white")
    marked = outline(page, PARAGRAPH, colour="#ff0000")
    assert marked.getpixel((500, 110)) == (255, 204, 204)
    assert marked.getpixel((500, 123)) == (255, 204, 204)  # between two of its lines: no stroke
    assert marked.getpixel((700, 165)) == (255, 255, 255)
    assert marked.getpixel((500, 98)) == (255, 0, 0)
