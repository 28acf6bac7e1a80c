"""Bars beside numbers, drawn as small SVG pictures.

Drawn here and not by a plotting library: the file needs no extra, follows a dark theme and prints, and a screen reader
gets the numbers from the table that they stand in. A bar says nothing that the cell beside it does not say.
"""

from __future__ import annotations

from visrag_integrations.evaluation.statistics import Interval

# Drawn 100 wide and stretched to its cell; lines keep their width (vector-effect in report.css).
_START = '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'


def share_bar(share: float, interval: Interval | None = None, css_class: str = "first") -> str:
    """A bar from 0 to 1, with a line from one end of the interval to the other.

    >>> '<rect class="first" width="25.0" height="10"/></svg>' in share_bar(0.25)
    True
    """
    drawn = f'<rect class="track" width="100" height="10"/><rect class="{css_class}" width="{_x(share)}" height="10"/>'
    if interval is not None:
        low, high = map(_x, interval)
        drawn += f'<path class="interval" d="M{low} 5H{high}M{low} 2V8M{high} 2V8"/>'
    return f"{_START}{drawn}</svg>"


def difference_bar(difference: float, interval: Interval) -> str:
    """A bar from the middle, which is no difference, to the left (-1) or to the right (1)."""
    left, right = sorted((0.0, difference))
    low, high = (_x(0.5 + end / 2) for end in interval)
    drawn = (
        '<rect class="track" width="100" height="10"/>'
        f'<rect class="first" x="{_x(0.5 + left / 2)}" width="{_x((right - left) / 2)}" height="10"/>'
        f'<path class="middle" d="M50 0V10"/><path class="interval" d="M{low} 5H{high}M{low} 2V8M{high} 2V8"/>'
    )
    return f"{_START}{drawn}</svg>"


def _x(share: float) -> str:
    """Where a share from 0 to 1 is; what is outside stops at the edge."""
    return f"{100 * min(1.0, max(0.0, share)):.1f}"
