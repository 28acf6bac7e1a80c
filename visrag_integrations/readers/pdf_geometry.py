"""Sizes, boxes and dates of PDF pages, the same for every engine."""

from __future__ import annotations

import math
import re

from visrag_integrations.images import fit_size

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
