"""`serve` and `mcp` take the embedder of the collection, also after another process has filled it anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from letters import NEW, OLD, Letters, filled
from qdrant_client import QdrantClient
from starlette.testclient import TestClient

from visrag_integrations import PageRetriever, QdrantPageStore
from visrag_integrations.errors import CheckpointError, StoreMismatchError
from visrag_integrations.ingestion import reindex
from visrag_integrations.retrieval import PageReranker, Search
from visrag_integrations.servers.http import create_app
from visrag_integrations.servers.web import following
from visrag_integrations.servers.web.following import FollowingRetriever


class Closing(Letters):
    """Says whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    memory = QdrantClient(":memory:")
    filled(memory)
    yield memory
    memory.close()


def by_reindex(client: QdrantClient, embedder: Letters = NEW) -> None:
    reindex(QdrantPageStore(client, pictures=False), embedder=embedder, progress=False)


def retriever_on(client: QdrantClient, load: Callable[[str], Any]) -> FollowingRetriever:
    return FollowingRetriever(Closing(), QdrantPageStore(client, pictures=False), load=load)


def test_the_new_embedder_is_loaded_once_and_the_old_one_closed(client: QdrantClient) -> None:
    loaded: list[str] = []

    def load(name: str) -> Closing:
        loaded.append(name)
        return Closing(name, turn=9)

    retriever = retriever_on(client, load)
    old: Any = retriever.embedder
    assert retriever.retrieve("the moon", 1)[0].page.number == 3
    by_reindex(client)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: retriever.retrieve("the moon", 1)[0].page.number, range(16)))
    assert found == [3] * 16
    assert (loaded, retriever.embedder.name, old.closed) == (["letters-b"], "letters-b", True)
    by_reindex(client, Closing("letters-c", turn=4))
    retriever._load = lambda name: Closing(name, turn=4)
    assert retriever.retrieve("the moon", 1)[0].page.number == 3
    retriever.close()
    assert retriever.embedder.closed  # type: ignore[attr-defined]


def test_a_question_embedded_before_is_embedded_again(client: QdrantClient) -> None:
    retriever = retriever_on(client, lambda name: Closing(name, turn=9))
    first, second = retriever.embed([Search("the moon", 1), Search("a violin", 1)])
    by_reindex(client)
    assert retriever.find(first)[0].page.number == 3  # finds out
    assert retriever.find(second)[0].page.number == 1, "embedded by the old one, found after the switch"


def test_searches_that_come_while_it_is_loaded_are_right(client: QdrantClient) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(name: str) -> Closing:
        begun.set()
        go_on.wait()
        return Closing(name, turn=9)

    retriever = retriever_on(client, load)
    embedded = retriever.embed([Search("the moon", 1)])[0]
    by_reindex(client)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(retriever.retrieve, "the moon", 1)
        begun.wait()
        others = [pool.submit(retriever.retrieve, "a violin", 1), pool.submit(retriever.find, embedded)]
        go_on.set()
        assert first.result()[0].page.number == 3
        assert [other.result()[0].page.number for other in others] == [1, 3]


def test_what_cannot_be_loaded_is_a_503_with_the_reason(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def load(name: str) -> Closing:
        tries.append(name)
        if len(tries) == 1:
            raise CheckpointError("/models/secret/weights.safetensors lacks the key 'lm_head'.")
        return Closing(name, turn=9)

    retriever = retriever_on(client, load)
    with TestClient(create_app(retriever)) as web:
        ask = {"text": "the moon", "top_k": 1}
        assert web.post("/search", json=ask).json()["pages"][0]["page"] == 3
        by_reindex(client)
        for _ in range(2):
            answer = web.post("/search", json=ask)
            assert answer.status_code == 503
            said = answer.json()["error"]["message"]
            assert "filled anew" in said
            assert "lacks the key 'lm_head'" in said
            assert "/models" not in said
            assert "Retry-After" in answer.headers
        assert tries == ["letters-b"], "not tried again for each request"
        monkeypatch.setattr(following, "_TRIED_AGAIN_S", 0.0)
        assert web.post("/search", json=ask).json()["pages"][0]["page"] == 3


def test_a_server_whose_embedder_was_given_says_that_it_is_another_ones(client: QdrantClient) -> None:
    with TestClient(create_app(PageRetriever(OLD, QdrantPageStore(client, pictures=False)))) as web:
        assert web.post("/search", json={"text": "the moon"}).status_code == 200
        by_reindex(client)
        answer = web.post("/search", json={"text": "the moon"})
        assert answer.status_code == 503
        assert "another embedder" in answer.json()["error"]["message"]


def test_an_embedder_of_the_same_name_that_makes_other_vectors_is_refused(client: QdrantClient) -> None:
    retriever = retriever_on(client, lambda name: Closing(name, dimension=13))
    by_reindex(client)
    with pytest.raises(StoreMismatchError, match=r"'letters-b', which cannot be used here"):
        retriever.retrieve("the moon")


def test_a_reranker_whose_own_collection_is_another_embedders_loads_nothing(client: QdrantClient) -> None:
    patches = QdrantClient(":memory:")
    filled(patches)
    reranker = PageReranker(OLD, QdrantPageStore(patches, pictures=False))
    loaded: list[str] = []
    retriever = FollowingRetriever(
        Closing(), QdrantPageStore(client, pictures=False), load=loaded.append, reranker=reranker
    )
    assert retriever.retrieve("the moon", 1)[0].page.number == 3
    by_reindex(patches)
    for _ in range(2):
        with pytest.raises(StoreMismatchError, match="letters-b"):
            retriever.retrieve("the moon", 1)
    assert loaded == []
    assert not retriever.embedder.closed  # type: ignore[attr-defined]
    patches.close()
