"""One model for all of LlamaIndex's objects that name it; closing one of them leaves it to the others."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import PixelEmbedder, ScriptedGenerator
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.vector_stores import VectorStoreQuery

from visrag_integrations import QdrantPageStore
from visrag_integrations.embedders import _named, register_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.shared import SHARED_GENERATORS
from visrag_integrations.llamaindex import (
    EVisRAGLLM,
    VisRAGEmbedding,
    VisRAGRerank,
    VisRAGRetriever,
    VisRAGVectorStore,
)
from visrag_integrations.types import Page


class CountedEmbedder(PixelEmbedder):
    made = 0
    closed = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Path]:
    """A folder whose pages were embedded by what is loaded as "counted"."""
    CountedEmbedder.made = CountedEmbedder.closed = 0
    register_embedder("counted", CountedEmbedder, replace=True)
    embedder, page = PixelEmbedder(), Page("d", 1, "apple", "a.pdf")
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(embedder)
        store.add_pages([page], embedder.embed_pages([page]))
    yield tmp_path / "index"
    gc.collect()
    del _named["counted"]


def ask_all(embedding: Any, retriever: Any, by_embedding: Any, by_name: Any, rerank: Any) -> list[Any]:
    query = VectorStoreQuery(query_str="apple", similarity_top_k=1)
    node = NodeWithScore(node=TextNode(text="apple"), score=0.0)
    return [
        len(embedding.get_query_embedding("apple")) if embedding else None,
        [hit.node.text for hit in retriever.retrieve("apple")] if retriever else None,
        by_embedding.query(query).ids if by_embedding else None,
        by_name.query(query).ids if by_name else None,
        len(rerank.postprocess_nodes([node], query_str="apple")) if rerank else None,
    ]


@pytest.mark.parametrize("first", range(5))
def test_one_name_is_one_model_for_all_and_closing_one_leaves_the_others(index: Path, first: int) -> None:
    with QdrantPageStore(":memory:") as store, QdrantPageStore(":memory:") as other:
        embedding = VisRAGEmbedding("counted")
        everyone: list[Any] = [
            embedding,
            VisRAGRetriever.from_index(index, "counted", similarity_top_k=1),
            VisRAGVectorStore(store, embedding),
            VisRAGVectorStore(other, "counted"),
            VisRAGRerank("counted"),
        ]
        for vector_store in everyone[2:4]:
            vector_store.add([TextNode(id_="7", text="apple")])
        expected = [PixelEmbedder.dimension, ["apple"], ["7"], ["7"], 1]
        assert ask_all(*everyone) == expected
        assert CountedEmbedder.made == 1

        everyone[first].close()
        assert CountedEmbedder.closed == 0
        rest = [None if place == first else one for place, one in enumerate(everyone)]
        assert ask_all(*rest) == [None if place == first else answer for place, answer in enumerate(expected)]
        assert CountedEmbedder.made == 1

        for one in everyone:
            one.close()
        assert CountedEmbedder.closed == 1


def test_a_closed_object_loads_its_model_again(index: Path) -> None:
    embedding = VisRAGEmbedding("counted")
    embedding.get_query_embedding("apple")
    embedding.close()
    embedding.close()
    assert len(embedding.get_query_embedding("apple")) == PixelEmbedder.dimension
    assert (CountedEmbedder.made, CountedEmbedder.closed) == (2, 1)
    embedding.close()


def test_what_was_given_is_not_closed(index: Path) -> None:
    embedder = CountedEmbedder()
    with QdrantPageStore(":memory:") as store:
        for one in (
            VisRAGEmbedding(embedder=embedder),
            VisRAGVectorStore(store, embedder),
            VisRAGVectorStore(store, VisRAGEmbedding(embedder=embedder)),
            VisRAGRerank(embedder),
            VisRAGRetriever.from_index(index, embedder),
        ):
            one.close()
        assert store.count() == 0  # still open
    assert CountedEmbedder.closed == 0


def test_closing_a_retriever_lets_go_of_the_index(index: Path) -> None:
    retriever = VisRAGRetriever.from_index(index, "counted")
    retriever.close()
    retriever.close()
    assert CountedEmbedder.closed == 1
    with QdrantPageStore(index) as store:
        assert store.count() == 1


def test_generators_by_name_are_one_engine_too() -> None:
    one, other = EVisRAGLLM("extractive"), EVisRAGLLM("extractive")
    hello = [ChatMessage("Say something.")]
    assert one.chat(hello).message.content == other.chat(hello).message.content
    (entry,) = [entry for key, entry in SHARED_GENERATORS._entries.items() if key == "extractive"]
    users = entry.users
    one.close()
    assert entry.users == users - 1
    assert other.chat(hello).message.content
    other.close()


def test_a_generator_that_was_given_is_not_closed() -> None:
    generator = ScriptedGenerator("a")
    generator.close = lambda: generator.queue.clear()  # type: ignore[attr-defined]
    llm = EVisRAGLLM(generator=generator)
    llm.close()
    assert llm.chat([ChatMessage("Hello")]).message.content == "a"


def test_the_older_name_of_the_argument_still_works() -> None:
    embedder = PixelEmbedder()
    with QdrantPageStore(":memory:") as store:
        assert VisRAGVectorStore(store=store, embedding=embedder).embedder is embedder
        assert VisRAGVectorStore(store=store, embedder=embedder).embedder is embedder
        with pytest.raises(SettingError, match="same argument"):
            VisRAGVectorStore(store=store, embedder=embedder, embedding=embedder)
    with pytest.raises(SettingError, match="embedder is int"):
        VisRAGRerank(embedding=7).postprocess_nodes([NodeWithScore(node=TextNode(text="a"))], query_str="a")
