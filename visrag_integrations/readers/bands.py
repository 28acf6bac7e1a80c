"""Pieces of lines at one height, side by side, and one run below the other: what columns and rows are made of."""

from __future__ import annotations

import itertools
import statistics

from visrag_integrations.readers.columns import LinePiece

# Of a piece's height, cut off above and below before bands are made: boxes of fonts reach into the lines around them.
SHARED_EDGE = 0.22
# Empty space between two bands, in line heights, that parts what is above it from what is below; twice the usual gap
# of the page where lines are set far apart. Paragraphs are less than two lines apart, a footer or a figure more.
_APART = 1.5
# The narrowest gutter, in line heights: printers leave a line's height between columns, tables may leave less.
GUTTER = 0.6


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
    widest = _widest_step(bands, gutter)
    end = float("inf")
    for band in bands:
        own = _gaps(band, gutter)
        near = min(piece.top for piece in band) - end <= widest
        end = max(piece.bottom for piece in band)
        if runs and near:
            common = _common(known, own, band, gutter)
            if common is not None:
                known = common
                runs[-1][0].append(band)
                continue
        runs.append(([band], bool(own)))
        known = own
    return runs


def _widest_step(bands: list[list[LinePiece]], gutter: float) -> float:
    """The widest gap between two bands of one run: beyond it a footer, a heading or another part of the page begins."""
    gaps: list[float] = []
    for one, other in itertools.pairwise(bands):
        gaps.append(min(piece.top for piece in other) - max(piece.bottom for piece in one))
    if not gaps:
        return 0.0
    usual = statistics.median_low(gaps)
    return max(_APART * gutter / GUTTER, 2 * usual)


def _gaps(pieces: list[LinePiece], gutter: float) -> list[tuple[float, float]]:
    """The gaps between groups side by side, as left and right edge."""
    if len(pieces) == 1:
        return []
    groups = groups_of(pieces, gutter)
    gaps: list[tuple[float, float]] = []
    for one, other in itertools.pairwise(groups):
        gaps.append((max(piece.right for piece in one), min(piece.left for piece in other)))
    return gaps


def _common(
    known: list[tuple[float, float]], own: list[tuple[float, float]], band: list[LinePiece], gutter: float
) -> list[tuple[float, float]] | None:
    """The gutters that a run has with one more band; None where the band ends the run."""
    if not known and not own:
        return []  # one column goes on
    if not known:
        return None
    left = min(piece.left for piece in band)
    right = max(piece.right for piece in band)
    # What lies outside of the band is free too: the last line of a column stands beside nothing.
    free = [(float("-inf"), left), *own, (right, float("inf"))]
    shared: list[tuple[float, float]] = []
    for first, last in known:
        for begin, end in free:
            if min(last, end) - max(first, begin) >= gutter:
                shared.append((max(first, begin), min(last, end)))
    return shared or None
