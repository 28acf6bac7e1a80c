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
    cosines = []
    for place, vector in enumerate(vectors):
        # One dot product each: a matrix product would round a score differently beside other vectors.
        cosines.append(float(asked @ _unit(vector, 1, f"Vector {place}", asked)))
    return cosines


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
    other_length = like is not None and array.shape[-1:] != like.shape[-1:]
    if array.ndim != dimensions or (other_length and array.size):  # no vectors at all have no length
        wanted = ("(d,)", "(n, d)")[dimensions - 1]
        if like is not None:
            wanted += f" with d = {like.shape[-1]}"
        raise EmbedderError(f"{name} has the shape {array.shape}; it must be {wanted}.")
    lengths = np.linalg.norm(array, axis=-1, keepdims=True)
    unit: DoubleArray = np.divide(array, lengths, out=np.zeros_like(array), where=lengths > 0)
    return unit
