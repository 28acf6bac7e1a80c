"""Page pictures for the web page: small enough to travel in a message, with the evidence outlined."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from visrag_integrations import images
from visrag_integrations.errors import PictureError
from visrag_integrations.grounding import find_passage
from visrag_integrations.types import Box, Page

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

MAX_PIXELS = 1_000_000
"""Of a picture on the web page; larger ones are scaled down."""
_QUALITY = 80
_LINE, _FILL = (217, 70, 12), (255, 196, 61, 56)


def evidence_boxes(page: Page, texts: Sequence[str]) -> list[Box]:
    """Where the texts stand on the page."""
    return [box for text in texts for box in find_passage(page, text)]


def picture_uri(page: Page, boxes: Sequence[Box] = ()) -> str:
    """The page's picture with the boxes outlined on it, as a data URI; "" where it cannot be opened."""
    try:
        picture = images.fit(images.to_rgb(page.open_image()), MAX_PIXELS)
        data = images.encode(_outlined(picture, boxes) if boxes else picture, "JPEG", _QUALITY)
    except (PictureError, OSError) as err:
        logger.warning("no picture of page %d of %r is shown: %s", page.number, page.source, err)
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _outlined(picture: Image, boxes: Sequence[Box]) -> Image:
    """A copy with a rectangle a little larger than each box."""
    from PIL import Image, ImageDraw

    marks = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(marks)
    line = max(2, picture.width // 400)
    for left, top, right, bottom in boxes:
        x0, y0 = left * picture.width - 2 * line, top * picture.height - 2 * line
        x1, y1 = right * picture.width + 2 * line, bottom * picture.height + 2 * line
        draw.rounded_rectangle((x0, y0, x1, y1), radius=3 * line, outline=_LINE, fill=_FILL, width=line)
    return Image.alpha_composite(picture.convert("RGBA"), marks).convert("RGB")
