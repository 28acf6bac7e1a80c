"""Exact scores: checked by hand on small vectors, and page by page against a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visrag_integrations.errors import EmbedderError
from visrag_integrations.scores.exact import cosine, maxsim, maxsims

RNG = np.random.default_rng(7)


def test_cosine_by_hand() -> None:
    assert cosine([3, 4], [[4, 3], [-3, -4], [4, -3]]) == pytest.approx([24 / 25, -1.0, 0.0])


def test_cosine_ignores_length() -> None:
    vector = RNG.standard_normal(16)
    assert cosine(vector, [vector, 100 * vector]) == pytest.approx([1.0, 1.0])


def test_maxsim_takes_the_best_page_vector_for_every_query_vector() -> None:
    root = math.sqrt(0.5)
    page = [[1, 0], [root, root]]
    assert maxsim([[0, 1]], page) == pytest.approx(root)
    assert maxsim([[0, 1], [1, 0]], page) == pytest.approx(root + 1)


def test_a_negative_best_match_stays_negative() -> None:
    assert maxsim([[1, 0]], [[-1, 0]]) == -1.0


def test_alone_equals_in_a_batch_of_mixed_lengths() -> None:
    query = RNG.standard_normal((4, 8))
    pages = [RNG.standard_normal((n, 8)) for n in (1, 9, 0, 3)]
    assert maxsims(query, pages) == [maxsim(query, page) for page in pages]
    vectors = list(RNG.standard_normal((5, 8)))
    assert cosine(vectors[0], vectors) == [cosine(vectors[0], [vector])[0] for vector in vectors]


def test_empty_lists() -> None:
    assert cosine([1.0], []) == []
    assert maxsims([[1.0]], []) == []
    assert maxsim(np.zeros((1, 4)), np.zeros((0, 4))) == 0.0


def test_generators_and_float16_are_taken() -> None:
    vector = np.array([1, 2, 3], np.float16)
    assert cosine(vector, (v for v in [vector])) == pytest.approx([1.0])


@pytest.mark.parametrize(("query", "page"), [([1, 2], [[1, 2]]), ([[1, 2]], [1, 2]), ([[1, 2]], [[1, 2, 3]])])
def test_wrong_shapes_are_named(query: list[int], page: list[int]) -> None:
    with pytest.raises(EmbedderError, match="shape"):
        maxsim(query, page)
