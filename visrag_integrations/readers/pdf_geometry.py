"""Sizes, boxes and dates of PDF pages, the same for every engine."""

from __future__ import annotations

import math
import re

from visrag_integrations.images import fit_size
from visrag_integrations.types import Box

MAX_ZOOM = 8.0
"""At most so many pixels a point (576 dpi): beyond that, a small page only costs more."""

_DATE = re.compile(r"D?:?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-])(\d\d)'?(\d\d)?)?")


def render_size(width: float, height: float, max_pixels: int) -> tuple[int, int]:
    """The pixels of a page of `width` x `height` points: the whole budget, in the page's shape.

    >>> render_size(1_000_000, 1_000_000, 250_000), render_size(10, 20, 250_000)
    ((500, 500), (80, 160))
    """
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise ValueError(f"the page has no size that can be drawn: {width} x {height} points")
    return fit_size(max(1.0, width * MAX_ZOOM), max(1.0, height * MAX_ZOOM), max_pixels)


def fraction_box(x0: float, y0: float, x1: float, y1: float, width: float, height: float) -> Box:
    """A box in page units as fractions of the page, held inside it.

    >>> fraction_box(10, 0, 120, 50, 100, 100)
    (0.1, 0.0, 1.0, 0.5)
    """
    left, right = sorted((x0 / width, x1 / width))
    top, bottom = sorted((y0 / height, y1 / height))
    left, top, right, bottom = (round(min(1.0, max(0.0, edge)), 5) for edge in (left, top, right, bottom))
    return left, top, right, bottom


def iso_date(text: object) -> str:
    """A PDF date in ISO 8601; what is no PDF date is given back as it is, nothing as "".

    >>> iso_date("D:20220509144635-00'00'"), iso_date("D:2021"), iso_date(None)
    ('2022-05-09T14:46:35-00:00', '2021', '')
    """
    match = _DATE.match(str(text)) if text else None
    if match is None:
        return str(text or "")
    year, month, day, hour, minute, second, utc, sign, zone_hour, zone_minute = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    time = ":".join(part for part in (hour, minute, second) if part)
    zone = "+00:00" if utc else f"{sign}{zone_hour}:{zone_minute or '00'}" if sign else ""
    return f"{date}T{time}{zone}" if time else date
