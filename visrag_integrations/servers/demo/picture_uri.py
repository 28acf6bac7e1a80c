"""Page pictures for the web page: small enough to travel in a message, with the evidence outlined."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from visrag_integrations import images
from visrag_integrations.errors import PictureError
from visrag_integrations.grounding import outlined
from visrag_integrations.types import Evidence, Page

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

# A page of text can be read at this size when it is enlarged; every picture travels as base64 in a message, to each
# visitor anew, so more pixels make an answer come later.
MAX_PIXELS = 1_000_000
"""Of a picture on the web page; larger ones are scaled down."""
_QUALITY = 80  # of JPEG; small print gets blurred edges below it


def picture_uri(page: Page, evidence: Sequence[Evidence] = ()) -> str:
    """The page's picture with the grounded evidence outlined on it, as a data URI; "" where it cannot be opened."""
    try:
        return picture_as_uri(outlined(page, evidence, max_pixels=MAX_PIXELS), MAX_PIXELS)
    except (PictureError, OSError) as err:
        logger.warning("no picture of page %d of %r is shown: %s", page.number, page.source, err)
        return ""


def picture_as_uri(picture: Image, max_pixels: int) -> str:
    """A picture as a data URI, scaled down to so many pixels."""
    data = images.encode(images.fit(images.to_rgb(picture), max_pixels), "JPEG", _QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
