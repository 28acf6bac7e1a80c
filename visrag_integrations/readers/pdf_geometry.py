"""Sizes of PDF pages and what a PDF says about itself, the same for every engine."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from visrag_integrations.images import fit_size
from visrag_integrations.readers.content import RenderSettings, clean_text

MAX_ZOOM = 8.0
"""At most so many pixels a point (576 dpi): beyond that, a small page only costs more."""

_DRAWN_DPI = 200  # as construction drawings are scanned and printed: letters of 1.8 mm have 10 pixels

_INFO = ("title", "author", "subject", "creator", "producer")
_INFO_DATES = ("creationdate", "moddate")
# D:20220509144635-05'00', of which everything after the year may be missing (ISO 32000-1, 7.9.4).
_DATE = re.compile(r"D?:?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-])(\d\d)'?(\d\d)?)?")


def render_size(width: float, height: float, max_pixels: int) -> tuple[int, int]:
    """The pixels of a page of `width` x `height` points: the whole budget, in the page's shape.

    >>> render_size(1_000_000, 1_000_000, 250_000), render_size(10, 20, 250_000)
    ((500, 500), (80, 160))
    """
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise ValueError(f"the page has no size that can be drawn: {width} x {height} points")
    return fit_size(max(1.0, width * MAX_ZOOM), max(1.0, height * MAX_ZOOM), max_pixels)


def own_size(
    size: tuple[float, float], pictures: Sequence[tuple[int, int]], settings: RenderSettings
) -> tuple[int, int]:
    """The pixels that a page of this size in points has of its own: of its scan, or 200 an inch where it is drawn.

    >>> own_size((595, 842), [(2480, 3508)], RenderSettings(1000, 10**8))
    (2480, 3508)
    """
    if pictures:
        return fit_size(*max(pictures), settings.max_image_pixels)
    width, height = (max(1.0, edge * _DRAWN_DPI / 72) for edge in size)
    return fit_size(width, height, settings.max_image_pixels)


def document_info(info: Mapping[str, object]) -> dict[str, str]:
    """What a PDF says about itself, under the names all engines share; what is empty is left out.

    >>> document_info({"Title": "Report", "Author": "", "ModDate": "D:2021"})
    {'title': 'Report', 'moddate': '2021'}
    """
    known: dict[str, str] = {}
    for key, value in info.items():  # PDFium writes "CreationDate", PyMuPDF "creationDate"
        name = key.lower()
        if name in _INFO:
            known[name] = clean_text(str(value or ""))
        elif name in _INFO_DATES:
            known[name] = iso_date(value)
    return {name: known[name] for name in (*_INFO, *_INFO_DATES) if known.get(name)}


def iso_date(text: object) -> str:
    """A PDF date in ISO 8601; what is not a PDF date is given back as it is, nothing as "".

    >>> iso_date("D:20220509144635-00'00'"), iso_date("D:2021"), iso_date(None)
    ('2022-05-09T14:46:35-00:00', '2021', '')
    """
    match = _DATE.match(str(text or ""))
    if match is None:
        return str(text or "")
    year, month, day, hour, minute, second, utc, sign, zone_hour, zone_minute = match.groups()
    date = "-".join(filter(None, (year, month, day)))
    time = ":".join(filter(None, (hour, minute, second)))
    if not time:
        return date
    zone = ""
    if utc:
        zone = "+00:00"
    elif sign:
        zone = f"{sign}{zone_hour}:{zone_minute or '00'}"
    return f"{date}T{time}{zone}"
