"""Where on a page an answer stands, as people marked it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from visrag_integrations.errors import DatasetError
from visrag_integrations.types import Box, Page

# Edges of right boxes, as fractions of the page. Wider, and pixels of small pictures would be taken for fractions.
_FARTHEST_OUT = (-1.0, 2.0)


class PageBox(NamedTuple):
    """A box and the page it is on: left, top, right, bottom as fractions of the page, as the boxes of evidence are.

    >>> PageBox("a.pdf#page=3", 0.1, 0.2, 0.5, 0.25).box
    (0.1, 0.2, 0.5, 0.25)
    """

    page: str  # its key, as in the judgements; see `page_key`
    left: float
    top: float
    right: float
    bottom: float

    @property
    def box(self) -> Box:
        """The box without its page."""
        return self[1:]


@dataclass(frozen=True)
class MarkedBox:
    """Where on a page the answer stands, as a person marked it.

    Attributes:
        box: Left, top, right, bottom: fractions of the page, or pixels of the picture that the set has of it.
        in_pixels: Which of the two.
        annotator: Who marked it; "" where the set does not say. Two people may mark the same thing.
    """

    box: Box
    in_pixels: bool = False
    annotator: str = ""


def boxes_on(page: Page, marks: Iterable[MarkedBox]) -> dict[MarkedBox, Box]:
    """Each mark as a box in fractions of the page.

    Args:
        page: The set's own (`EvaluationSet.pages`), not the stored one, whose picture may be smaller. It is opened,
            once, where a mark is in pixels.
        marks: Of this page.
    """
    boxes: dict[MarkedBox, Box] = {}
    size: tuple[int, int] | None = None
    for mark in marks:
        if not mark.in_pixels:
            boxes[mark] = mark.box
            continue
        if size is None:
            with page.open_image() as picture:
                size = picture.size
        left, top, right, bottom = mark.box
        boxes[mark] = (left / size[0], top / size[1], right / size[0], bottom / size[1])
    return boxes


def page_boxes(value: Any, where: str) -> tuple[PageBox, ...]:
    """Boxes as a file has them: [page key, left, top, right, bottom] each, in fractions of the page.

    >>> page_boxes([["a.pdf#page=3", 0.1, 0.2, 0.5, 0.25]], "row 1")
    (PageBox(page='a.pdf#page=3', left=0.1, top=0.2, right=0.5, bottom=0.25),)

    Raises:
        DatasetError: They are no such list, or a box is not on its page.
    """
    form = "[page key, left, top, right, bottom]"
    if not isinstance(value, (list, tuple, type(None))):
        raise DatasetError(where, f"its boxes are {value!r:.80}; they are a list of {form}.")
    boxes: list[PageBox] = []
    for one in value or ():
        try:
            key, *edges = one
            left, top, right, bottom = map(float, edges)
        except (TypeError, ValueError):
            raise DatasetError(where, f"a box is {one!r:.80}; it is {form}.") from None
        boxes.append(PageBox(str(key), left, top, right, bottom))
        if not _is_on_its_page(boxes[-1].box):
            raise DatasetError(
                where, f"the box {one!r:.80} is not on its page. Boxes are fractions of it, from 0 to 1, not pixels."
            )
    return tuple(boxes)


def _is_on_its_page(box: Box) -> bool:
    """Whether a part of it is; it may stand out over the edges, but not as far as pixels would."""
    left, top, right, bottom = box
    near = all(_FARTHEST_OUT[0] <= edge <= _FARTHEST_OUT[1] for edge in box)  # not a number is not near either
    across = min(left, right) < 1 and max(left, right) > 0
    return near and across and min(top, bottom) < 1 and max(top, bottom) > 0
