"""Maximal marginal relevance: pages that fit the question and differ from each other (Carbonell and Goldstein, 1998).

LangChain and LlamaIndex have it for single vectors; this one also takes multi-vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visrag_integrations.errors import SettingError


def most_marginal(
    query: NDArray[np.float32], embeddings: Sequence[NDArray[np.float32]], k: int, lambda_mult: float = 0.5
) -> list[int]:
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
    worth = list(fit)  # nothing is chosen yet, so the first choice is the best fit
    closest = [-1.0] * len(embeddings)  # the cosine to the most alike of the chosen; -1 is the lowest there is
    left = list(range(len(embeddings)))
    chosen: list[int] = []
    while left and len(chosen) < k:
        best = max(left, key=worth.__getitem__)
        left.remove(best)
        chosen.append(best)
        for place in left:
            closest[place] = max(closest[place], similarity(embeddings[best], embeddings[place]))
            worth[place] = lambda_mult * fit[place] - (1 - lambda_mult) * closest[place]
    return chosen


def similarity(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The cosine of two vectors; of two multi-vectors the mean best cosine of the first's vectors, from -1 to 1."""
    cosines: Any = _unit(np.atleast_2d(first)) @ _unit(np.atleast_2d(second)).T  # (n, m)
    if not cosines.size:
        return 0.0
    return float(cosines.max(axis=1).mean())


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """At length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
