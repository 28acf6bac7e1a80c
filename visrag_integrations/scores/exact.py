"""Cosine and MaxSim, exact: the reference the store is tested against. A page's score does not depend on the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visrag_integrations.errors import EmbedderError

DoubleArray = NDArray[np.float64]


def cosine(query: ArrayLike, vectors: Iterable[ArrayLike]) -> list[float]:
    """The cosine of the query `(d,)` with every vector `(d,)`, in order; 0 where a vector is all zeros.

    >>> cosine([1, 0], [[2, 0], [0, 3], [-1, 0], [0, 0]])
    [1.0, 0.0, -1.0, 0.0]
    """
    asked = _unit(query, 1, "The query")
    return [_dot(asked, _unit(vector, 1, f"Vector {place}", asked)) for place, vector in enumerate(vectors)]


def maxsim(query: ArrayLike, page: ArrayLike) -> float:
    """Late interaction: for every query vector its best cosine on the page, summed. `(m, d)` with `(n, d)`.

    A page without vectors (n = 0) scores 0.

    >>> maxsim([[1, 0], [0, 1]], [[1, 0], [3, 4]])
    1.8
    """
    asked = _unit(query, 2, "The query")
    found = _unit(page, 2, "The page", asked)
    if not len(found) or not len(asked):
        return 0.0
    similarities = asked @ found.T  # (m, n)
    return float(similarities.max(axis=1).sum())


def maxsims(query: ArrayLike, pages: Iterable[ArrayLike]) -> list[float]:
    """`maxsim` of the query with every page, in order.

    >>> maxsims([[1, 0]], [[[1, 0]], [[0, 1], [-1, 0]]])
    [1.0, 0.0]
    """
    return [maxsim(query, page) for page in pages]


def _unit(values: ArrayLike, dimensions: int, name: str, like: DoubleArray | None = None) -> DoubleArray:
    """The vectors at unit length, in double precision."""
    array: Any = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or (like is not None and array.shape[-1] != like.shape[-1] and array.size):
        wanted = ("(d,)", "(n, d)")[dimensions - 1]
        alike = "" if like is None else f" with d = {like.shape[-1]}"
        raise EmbedderError(f"{name} has the shape {array.shape}; it must be {wanted}{alike}.")
    lengths = np.linalg.norm(array, axis=-1, keepdims=True)
    unit: DoubleArray = np.divide(array, lengths, out=np.zeros_like(array), where=lengths > 0)
    return unit


def _dot(first: DoubleArray, second: DoubleArray) -> float:
    return float(first @ second)
