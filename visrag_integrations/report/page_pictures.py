"""The pictures of pages inside an HTML file: each once, however often it is shown, with outlines drawn over it."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from visrag_integrations import images
from visrag_integrations.errors import PictureError, printable
from visrag_integrations.ocr.turning import QuarterTurn, turned_box
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.turning import turn_to_read
from visrag_integrations.report.verdict_signs import VERDICTS
from visrag_integrations.types import Box, Grounding, Page

logger = logging.getLogger(__name__)

PICTURE_PIXELS = 1_200_000
"""Pixels of a page's picture in the report; larger ones are scaled down. Small print of a page can still be read."""
INLINE_PIXELS = 600_000
"""The same inside a notebook, which keeps every picture it shows."""
JPEG_QUALITY = 80

# Of the page's height or width: room around the evidence in a close-up, and how much of the page it shows at most.
_CLOSE_UP_MARGIN = 0.02
_CLOSE_UP_HEIGHT = 0.25


class EmbeddedPicture(NamedTuple):
    """A picture as it stands in the file."""

    uri: str
    width: int
    height: int


class Outlines(NamedTuple):
    """Boxes that are drawn alike."""

    css_class: str
    boxes: Sequence[Box]


@dataclass
class ReportPictures:
    """The page pictures of one HTML file.

    Attributes:
        name: What the ids of the pictures begin with.
        pixels: Larger pictures are scaled down to this.
        found: The pictures that were opened, by page id.
        missing: Why there is none, by page id.
    """

    name: str = "p"
    pixels: int = PICTURE_PIXELS
    found: dict[str, EmbeddedPicture] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def figure(self, page: Page, label: str, grounding: Grounding | None = None) -> str:
        """The page's picture with what was found outlined on it, or a note that there is none."""
        outlines: list[Outlines] = []
        if grounding is not None:
            outlines.append(Outlines(VERDICTS[grounding.verdict].css_class, grounding.boxes))
        return self.outlined(page, label, outlines)

    def outlined(self, page: Page, label: str, outlines: Sequence[Outlines]) -> str:
        """The page's picture with boxes on it, those that come later above the others."""
        self._open(page)
        if page.id in self.missing:
            return f'<p class="missing">No picture: {escaped(self.missing[page.id])}</p>'
        picture = self.found[page.id]
        return (
            f'<svg class="page" viewBox="0 0 {picture.width} {picture.height}" role="img" '
            f'aria-label="{escaped(label)}">'
            f'<use href="#{self.name}{page.id}"/>{"".join(_drawn(one, picture) for one in outlines)}</svg>'
        )

    def close_up(self, page: Page, label: str, grounding: Grounding | None) -> str:
        """The part of the page around the first boxes, large enough to read; "" where there is nothing to show.

        The page's figure comes first: it opens the picture.
        """
        if grounding is None or not grounding.boxes or page.id not in self.found:
            return ""
        picture = self.found[page.id]
        turn = turn_to_read(page, grounding.boxes, picture.width / picture.height)
        words = [turned_box(word.box, turn) for word in page.words]
        boxes = [turned_box(box, turn) for box in grounding.boxes]
        left, top, right, bottom = _close_up_area(words, boxes)
        if not left < right:
            return ""
        width, height = picture.width, picture.height
        if turn in (90, 270):
            width, height = height, width
        view = f"{left * width:.1f} {top * height:.1f} {(right - left) * width:.1f} {(bottom - top) * height:.1f}"
        outlines = Outlines(VERDICTS[grounding.verdict].css_class, grounding.boxes)
        drawn = f'<use href="#{self.name}{page.id}"/>{_drawn(outlines, picture)}'
        if turn:
            drawn = f'<g transform="{_turning(turn, picture)}">{drawn}</g>'
        return (
            f'<div class="scroll"><svg class="page closeup" viewBox="{view}" role="img" '
            f'aria-label="Close-up of {escaped(label)}">{drawn}</svg></div>'
        )

    def html(self) -> str:
        """The pictures themselves, drawn nowhere until a figure uses them."""
        drawn: list[str] = []
        for page_id, (uri, width, height) in self.found.items():
            drawn.append(f'<image id="{self.name}{page_id}" href="{uri}" width="{width}" height="{height}"/>')
        return '<svg class="store" aria-hidden="true"><defs>\n' + "\n".join(drawn) + "\n</defs></svg>"

    def _open(self, page: Page) -> None:
        if page.id in self.found or page.id in self.missing:
            return
        try:
            picture = images.fit(images.to_rgb(page.open_image()), self.pixels)
            data = base64.b64encode(images.encode(picture, "JPEG", JPEG_QUALITY)).decode("ascii")
        except (PictureError, OSError) as error:
            logger.warning(
                "The report shows no picture of page %d of %s: %s", page.number, printable(page.source), error
            )
            # The error may name a file, and reports go to others; the log has it.
            self.missing[page.id] = str(error) if page.picture is None else "it cannot be opened"
        else:
            self.found[page.id] = EmbeddedPicture(f"data:image/jpeg;base64,{data}", picture.width, picture.height)


def _turning(turn: QuarterTurn, picture: EmbeddedPicture) -> str:
    """What turns a picture clockwise about its corner and brings it back to where pictures begin, as SVG says it."""
    if turn == 90:
        return f"translate({picture.height} 0) rotate(90)"
    if turn == 180:
        return f"translate({picture.width} {picture.height}) rotate(180)"
    return f"translate(0 {picture.width}) rotate(270)"


def _close_up_area(words: Sequence[Box], boxes: Sequence[Box]) -> Box:
    """As wide as the page's text, from the first box down to the last below it, but not all of a long passage."""
    left, top, right, bottom = boxes[0]
    if bottom - top > right - left:  # written from top to bottom: all of it, from the first box to the last
        edges = list(zip(*boxes, strict=True))
        area = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))
        first, upper, last, lower = (max(0.0, edge - _CLOSE_UP_MARGIN) for edge in area)
        return first, upper, min(1.0, last + 2 * _CLOSE_UP_MARGIN), min(1.0, lower + 2 * _CLOSE_UP_MARGIN)
    first_top = boxes[0][1]
    # Boxes above the first one are of another column, or of a sentence that the evidence has in another order.
    last_bottom = max(box[3] for box in boxes if box[1] >= first_top)
    first_left = min((word[0] for word in words), default=0.0)
    last_right = max((word[2] for word in words), default=1.0)
    top = max(0.0, first_top - _CLOSE_UP_MARGIN)
    bottom = min(1.0, top + _CLOSE_UP_HEIGHT, last_bottom + _CLOSE_UP_MARGIN)
    return max(0.0, first_left - _CLOSE_UP_MARGIN), top, min(1.0, last_right + _CLOSE_UP_MARGIN), bottom


def _drawn(outlines: Outlines, picture: EmbeddedPicture) -> str:
    """Shapes around the boxes, drawn as their class says."""
    shapes: list[str] = []
    for corners in images.contours(outlines.boxes, picture.width, picture.height):
        points = " ".join(f"{x:g},{y:g}" for x, y in corners)
        shapes.append(f'<polygon points="{points}"/>')
    return f'<g class="{outlines.css_class}">{"".join(shapes)}</g>'
