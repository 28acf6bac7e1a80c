"""Pieces of lines at one height, side by side, and one run below the other: what columns and rows are made of."""

from __future__ import annotations

import itertools
import operator
import statistics

from visrag_integrations.readers.columns import LinePiece

# Of a piece's height, cut off above and below before bands are made: boxes of fonts reach into the lines around them.
SHARED_EDGE = 0.22
# Empty space between two bands, in line heights, that parts what is above it from what is below; twice the usual gap
# of the page where lines are set far apart. Paragraphs are less than two lines apart, a footer or a figure more.
_APART = 1.5
# The narrowest gutter, in line heights: printers leave a line's height between columns, tables may leave less.
GUTTER = 0.6
# A page can have thousands of pieces, and each edge is asked for several times.
_LEFT, _TOP, _RIGHT, _BOTTOM = map(operator.attrgetter, ("left", "top", "right", "bottom"))


def bands_of(pieces: list[LinePiece]) -> list[list[LinePiece]]:
    """Pieces that stand at one height, directly or through others, from the top to the bottom of the page."""
    bands: list[list[LinePiece]] = []
    end = 0.0
    for piece in sorted(pieces, key=_core_top):
        edge = SHARED_EDGE * (piece.bottom - piece.top)
        if bands and piece.top + edge < end:
            bands[-1].append(piece)
            end = max(end, piece.bottom - edge)
        else:
            bands.append([piece])
            end = piece.bottom - edge
    return bands


def _core_top(piece: LinePiece) -> float:
    return piece.top + SHARED_EDGE * (piece.bottom - piece.top)


def groups_of(pieces: list[LinePiece], gutter: float) -> list[list[LinePiece]]:
    """Pieces side by side, left to right, cut where a gap as wide as a gutter goes from top to bottom."""
    groups: list[list[LinePiece]] = []
    end = 0.0
    for piece in sorted(pieces):
        if groups and piece.left - end < gutter:
            groups[-1].append(piece)
            end = max(end, piece.right)
        else:
            groups.append([piece])
            end = piece.right
    return groups


def runs_of(bands: list[list[LinePiece]], gutter: float) -> list[tuple[list[list[LinePiece]], bool]]:
    """Bands one below the other that have a gutter in common, or none of which has one, and whether they have.

    Heading over both columns      a run of its own
    left column   right column     a run with one gutter
    left column   right column
    """
    runs: list[tuple[list[list[LinePiece]], bool]] = []
    known: list[tuple[float, float]] = []  # the gutters of the last run
    steps = _steps(bands)
    widest = _widest_step(steps[1:], gutter)
    for band, step in zip(bands, steps, strict=True):
        own = _gaps(band, gutter)
        if runs and step <= widest:
            common = _common(known, own, band, gutter)
            if common is not None:
                known = common
                runs[-1][0].append(band)
                continue
        runs.append(([band], bool(own)))
        known = own
    return runs


def _steps(bands: list[list[LinePiece]]) -> list[float]:
    """The empty space above each band; nothing is known of what is above the first."""
    steps: list[float] = []
    end = 0.0
    for band in bands:
        steps.append(min(map(_TOP, band)) - end)
        end = max(map(_BOTTOM, band))
    return steps


def _widest_step(steps: list[float], gutter: float) -> float:
    """The widest gap between two bands of one run: beyond it a footer, a heading or another part of the page begins."""
    if not steps:
        return 0.0
    usual = statistics.median_low(steps)
    return max(_APART * gutter / GUTTER, 2 * usual)


def _gaps(pieces: list[LinePiece], gutter: float) -> list[tuple[float, float]]:
    """The gaps between groups side by side, as left and right edge."""
    if len(pieces) == 1:
        return []
    groups = groups_of(pieces, gutter)
    gaps: list[tuple[float, float]] = []
    for one, other in itertools.pairwise(groups):
        gaps.append((max(map(_RIGHT, one)), min(map(_LEFT, other))))
    return gaps


def _common(
    known: list[tuple[float, float]], own: list[tuple[float, float]], band: list[LinePiece], gutter: float
) -> list[tuple[float, float]] | None:
    """The gutters that a run has with one more band; None where the band ends the run."""
    if not known and not own:
        return []  # one column goes on
    if not known:
        return None
    left = min(map(_LEFT, band))
    right = max(map(_RIGHT, band))
    # What lies outside of the band is free too: the last line of a column stands beside nothing.
    free = [(float("-inf"), left), *own, (right, float("inf"))]
    shared: list[tuple[float, float]] = []
    for first, last in known:
        for begin, end in free:
            if min(last, end) - max(first, begin) >= gutter:
                shared.append((max(first, begin), min(last, end)))
    return shared or None
