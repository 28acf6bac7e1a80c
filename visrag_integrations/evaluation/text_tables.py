"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right.

    >>> aligned([["", "n"], ["all", "12"]])
    ['      n', 'all  12']
    """
    # Each column as wide as its widest cell, the header included.
    widths: list[int] = []
    for column in zip(*rows, strict=True):
        widths.append(max(map(len, column)))
    lines: list[str] = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(cell.rjust(width))
        lines.append("  ".join(cells))
    return lines
