"""How far numbers are from those they must be. What is no number, on either side, is as far as can be.

`min(1.0, nan)` is 1.0 in Python, and `nan < 0.999` is false: a check that only compares lets NaN through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def largest_difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Over all numbers; infinite where shapes differ or something is no number.

    >>> largest_difference([[1.0, 2.0]], [[1.0, 2.5]]), largest_difference([1.0], [float("nan")])
    (0.5, inf)
    """
    if len(found) != len(expected):
        return float("inf")
    most = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if not _comparable(one, other):
            return float("inf")
        if one.size:
            most = max(most, float(np.abs(one - other).max()))
    return most


def least_cosine(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Over all vectors, those of a matrix one by one; -1 where shapes differ or something is no number.

    >>> least_cosine([[3.0, 4.0]], [[3.0, 4.0]]), least_cosine([[1.0, 0.0]], [[float("nan"), 0.0]])
    (1.0, -1.0)
    """
    if len(found) != len(expected):
        return -1.0
    least = 1.0
    for ours, theirs in zip(found, expected, strict=True):
        one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if not _comparable(one, other):
            return -1.0
        lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        least = min(least, float(((one * other).sum(-1) / np.maximum(lengths, 1e-30)).min()))
    return least


def _comparable(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool(np.isfinite(one).all() and np.isfinite(other).all())
