"""A score as people read it: one form for the command line, reports, notebooks and MCP."""

from __future__ import annotations

# Rerankers give pages that do not fit some 1e-5; what is below this is noise, and a row of zeros would hide its size.
_AS_IT_IS = 1e-9


def shown_score(score: float) -> str:
    """Three digits that count, so that small scores can be told apart; JSON has all of them.

    >>> [shown_score(score) for score in (0.97449, 0.0031, 0.0004, 0.00004, 60.325, 1234.2, -0.25, 0)]
    ['0.974', '0.0031', '0.0004', '0.00004', '60.3', '1234', '-0.25', '0']
    """
    if abs(score) >= 999.5:  # as BM25 and MaxSim of long pages have: no digit before the point is left out
        return f"{score:.0f}"
    short = f"{score:.3g}"
    digits, _, exponent = short.partition("e")
    if not exponent or abs(score) < _AS_IT_IS:
        return short
    # "4.12e-05" is 4.12 moved by five places: 0.0000412, seven digits after the point.
    after_point = len(digits.partition(".")[2]) - int(exponent)
    return f"{score:.{after_point}f}"
