"""A page's picture with the evidence that was found on it outlined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from visrag_integrations import images
from visrag_integrations.types import Evidence, Page, Verdict

if TYPE_CHECKING:
    from PIL.Image import Image

STROKES: dict[Verdict, tuple[str, bool]] = {
    "supported": ("#0b7a55", False),
    "partly": ("#c77700", True),
    "unchecked": ("#5b6b8c", True),
}
"""Colour of an outline and whether it is dashed, by verdict: never told by colour alone."""


def outlined(page: Page, evidence: Evidence | Iterable[Evidence] = (), *, max_pixels: int | None = None) -> Image:
    """The page's picture with the evidence that was found on it outlined; supported solid, the rest dashed.

    Args:
        page: With a picture.
        evidence: Grounded evidence; what is of another page is passed over.
        max_pixels: Scale the picture down to so many.

    Raises:
        PictureError: The page has no picture, or it cannot be opened.
    """
    if isinstance(evidence, Evidence):
        evidence = [evidence]
    picture = images.to_rgb(page.open_image())
    if max_pixels is not None:
        picture = images.fit(picture, max_pixels)
    for entry in evidence:
        if entry.grounding is None or entry.page is None or entry.page.id != page.id:
            continue
        colour, dashed = STROKES.get(entry.grounding.verdict, STROKES["unchecked"])
        picture = images.outline(picture, entry.grounding.boxes, colour=colour, dashed=dashed)
    return picture
