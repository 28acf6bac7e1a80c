"""What a record of an evaluation says of the reranker: enough to tell its results from another one's."""

from types import SimpleNamespace

import pytest

from visrag_integrations.interfaces.retrievers import reranker_name

EMBEDDER = SimpleNamespace(name="colqwen2")
CROSS_ENCODER = SimpleNamespace(name="bge", reads="text", min_score=0.5)


@pytest.mark.parametrize(
    ("retriever", "said"),
    [
        (SimpleNamespace(), None),
        (SimpleNamespace(reranker=None, candidates=20), None),
        (SimpleNamespace(reranker=SimpleNamespace(), candidates=20), None),  # a user's own, with nothing but `rerank`
        (SimpleNamespace(reranker=SimpleNamespace(embedder=EMBEDDER), candidates=20), "colqwen2, candidates=20"),
        (SimpleNamespace(reranker=SimpleNamespace(embedder=EMBEDDER)), "colqwen2"),
        (SimpleNamespace(reranker=CROSS_ENCODER, candidates=50), "bge, reads=text, min_score=0.5, candidates=50"),
    ],
)
def test_a_reranker_is_named_with_what_it_was_given(retriever: object, said: str | None) -> None:
    assert reranker_name(retriever) == said
