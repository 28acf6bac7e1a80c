"""Maximal marginal relevance over any kind of embedding: pages that fit the question and differ from each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visrag_integrations.errors import SettingError

Array = NDArray[np.float32]


def most_marginal(query: Array, embeddings: Sequence[Array], k: int, lambda_mult: float = 0.5) -> list[int]:
    """The places of the chosen embeddings, best first.

    Args:
        query: `(dim,)` or `(n, dim)`.
        embeddings: Of the same kind.
        k: At most so many.
        lambda_mult: 1 asks for the best fit only, 0 for the largest variety.

    >>> near, same, other = np.float32([1, 0.1]), np.float32([1, 0.11]), np.float32([0.6, -0.8])
    >>> most_marginal(np.float32([1, 0]), [near, same, other], k=2)
    [0, 2]
    """
    if not 0 <= lambda_mult <= 1:
        raise SettingError(f"lambda_mult is {lambda_mult!r}; it is a number from 0 (variety) to 1 (fit).")
    fit = [similarity(query, embedding) for embedding in embeddings]
    closest = [-np.inf] * len(embeddings)
    chosen: list[int] = []
    while len(chosen) < min(k, len(embeddings)):
        left = [place for place in range(len(embeddings)) if place not in chosen]
        best = max(left, key=lambda place: _worth(fit[place], closest[place], lambda_mult))
        chosen.append(best)
        closest = [
            max(before, similarity(embeddings[best], embedding))
            for before, embedding in zip(closest, embeddings, strict=True)
        ]
    return chosen


def similarity(first: Array, second: Array) -> float:
    """The cosine of two vectors; of two multi-vectors the mean best cosine of the first's vectors, from -1 to 1."""
    found: Any = _unit(np.atleast_2d(first)) @ _unit(np.atleast_2d(second)).T
    return float(found.max(axis=1).mean()) if found.size else 0.0


def _worth(fit: float, closest: float, lambda_mult: float) -> float:
    return fit if closest == -np.inf else lambda_mult * fit - (1 - lambda_mult) * closest


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Array = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
