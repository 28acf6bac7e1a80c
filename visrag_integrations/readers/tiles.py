"""Tall pictures in pieces the size of a page: a web page, a long receipt, a screenshot of a conversation.

Neighbours overlap, so that a line that is cut by one edge stands whole in the next piece.
"""

from __future__ import annotations

# Of a tile's height: two lines of a heading, or four of text. More would show much twice.
OVERLAP = 0.08
# The last tile takes in a rest that is smaller than this share of a tile, instead of leaving a piece of its own.
SMALL_REST = 0.15


def tiles_of(height: int, tile: int) -> list[tuple[int, int]]:
    """Top and bottom of every piece of a picture of this height, from the top.

    >>> tiles_of(1000, 1400), tiles_of(3000, 1000)
    ([(0, 1000)], [(0, 1000), (920, 1920), (1840, 2840), (2760, 3000)])
    >>> tiles_of(1100, 1000)  # a small rest is no tile of its own
    [(0, 1100)]
    """
    step = tile - int(tile * OVERLAP)
    found: list[tuple[int, int]] = []
    top = 0
    while True:
        bottom = top + tile
        if height - bottom <= tile * SMALL_REST:
            found.append((top, height))
            return found
        found.append((top, bottom))
        top += step
