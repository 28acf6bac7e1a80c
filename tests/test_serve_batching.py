"""Queries of concurrent requests are embedded together, and each still gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastapi  # noqa: F401  (what these tests need)
import httpx
import pytest
from fakes import ScriptedGenerator, ScriptedRetriever
from web_server import WORDS, HeldEmbedder, library, picture, running, wait_until

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, VisRAG
from visrag_integrations.errors import EmbedderError, EndpointError, SettingError
from visrag_integrations.retrieval import Search
from visrag_integrations.servers.http import create_app
from visrag_integrations.servers.http.batching import QueryBatcher
from visrag_integrations.types import ScoredPage


def fails(query: str) -> Exception | None:
    if "bad" in query:
        return EmbedderError("this query cannot be embedded")
    return EndpointError("nobody is there") if "away" in query else None


@pytest.fixture
def embedder() -> HeldEmbedder:
    return HeldEmbedder(fails)


@pytest.fixture
def retriever(embedder: HeldEmbedder) -> Iterator[PageRetriever]:
    with QdrantPageStore(":memory:") as store:
        yield library(store, embedder)


@pytest.fixture
def batcher(retriever: PageRetriever) -> Iterator[QueryBatcher]:
    batcher = QueryBatcher(retriever, max_batch=8)
    yield batcher
    batcher.close()


def hold(batcher: QueryBatcher, embedder: HeldEmbedder) -> None:
    """Let the embedder be busy with one query."""
    embedder.hold()
    batcher.submit(Search("first"))
    assert embedder.asked.wait(10)


def ids(hits: list[ScoredPage]) -> list[tuple[str, float]]:
    return [(hit.page.id, round(hit.score, 5)) for hit in hits]


def test_what_waits_is_one_batch_and_nothing_waits_for_it(batcher: QueryBatcher, embedder: HeldEmbedder) -> None:
    assert batcher.retrieve("alone")
    assert embedder.batches == [["alone"]]
    hold(batcher, embedder)
    futures = [batcher.submit(Search(f"query {n}")) for n in range(11)]
    embedder.go.set()
    for future in futures:
        future.result(10)
    assert embedder.batches[2:] == [[f"query {n}" for n in range(8)], [f"query {n}" for n in range(8, 11)]]


def test_searches_of_one_batch_need_not_be_alike(
    batcher: QueryBatcher, embedder: HeldEmbedder, retriever: PageRetriever
) -> None:
    searches = [
        Search("violin", 3),
        Search("glacier", 1, mode="lexical"),
        Search("orchard", 2, {"year": {"gte": 2004}}),
        Search("lantern quarry", 5, {"year": {"lt": 2003}}, "hybrid"),
        Search("harbour", 8, score_threshold=0.05),
    ]
    hold(batcher, embedder)
    futures = [batcher.submit(search) for search in searches]
    embedder.go.set()
    found = [ids(future.result(10)) for future in futures]
    assert len(embedder.batches) == 2
    alone = [
        retriever.retrieve(s.query, s.top_k, filter=s.filter, mode=s.mode, score_threshold=s.score_threshold)
        for s in searches
    ]
    assert found == [ids(hits) for hits in alone]
    assert all(found)


@pytest.mark.parametrize("bad", [Search("bad"), Search("x", mode="fuzzy"), Search("x", top_k=0), Search("")])  # type: ignore[arg-type]
def test_one_bad_query_fails_alone(batcher: QueryBatcher, embedder: HeldEmbedder, bad: Search) -> None:
    hold(batcher, embedder)
    good, worse, better = batcher.submit(Search("violin")), batcher.submit(bad), batcher.submit(Search("quarry"))
    embedder.go.set()
    assert good.result(10)
    assert better.result(10)
    with pytest.raises((EmbedderError, SettingError)):
        worse.result(10)


def test_an_embedder_that_is_away_is_not_asked_for_each(batcher: QueryBatcher, embedder: HeldEmbedder) -> None:
    hold(batcher, embedder)
    futures = [batcher.submit(Search(f"away {n}")) for n in range(5)]
    embedder.go.set()
    for future in futures:
        with pytest.raises(EndpointError):
            future.result(10)
    assert len(embedder.batches) == 2


def test_who_went_away_is_not_embedded(batcher: QueryBatcher, embedder: HeldEmbedder) -> None:
    hold(batcher, embedder)
    gone, there = batcher.submit(Search("gone")), batcher.submit(Search("there"))
    assert gone.cancel()
    embedder.go.set()
    assert there.result(10)
    assert embedder.batches[1] == ["there"]


def test_texts_do_not_wait_for_pictures(batcher: QueryBatcher, retriever: PageRetriever) -> None:
    release = threading.Event()

    def slow() -> Any:
        assert release.wait(10)
        return picture(3)

    with_picture = batcher.submit(Search(Query(image=slow)))
    assert batcher.submit(Search("violin")).result(10)
    assert not with_picture.done()
    release.set()
    assert with_picture.result(10)[0].page.text == "glacier glacier page 3"


def test_closing_finishes_what_waits(retriever: PageRetriever, embedder: HeldEmbedder) -> None:
    batcher = QueryBatcher(retriever)
    hold(batcher, embedder)
    waiting = batcher.submit(Search("violin"))
    embedder.go.set()
    batcher.close()
    assert waiting.result(0)
    assert batcher.retrieve("late")  # an app may be started again
    batcher.close()


def test_any_retriever_will_do() -> None:
    retriever = ScoredPage(Page("d", 1), 0.5)
    batcher = QueryBatcher(ScriptedRetriever(retriever))
    assert batcher.retrieve("x", 3, filter={"a": 1}) == [retriever]
    assert batcher.retriever.calls == [("x", 3, {"a": 1})]
    batcher.close()


def test_questions_join_the_batches_of_searches(retriever: PageRetriever, embedder: HeldEmbedder) -> None:
    rag = VisRAG(retriever, ScriptedGenerator("<answer>yes</answer>"), top_k=1)
    with running(create_app(retriever, rag)) as server, ThreadPoolExecutor() as pool:
        embedder.hold()
        first = pool.submit(httpx.post, f"{server.url}/search", json={"text": "first"})
        assert embedder.asked.wait(10)
        others = [
            pool.submit(httpx.post, f"{server.url}/ask", json={"question": "second?"}),
            pool.submit(httpx.get, f"{server.url}/search", params={"queries": ["third", "fourth"]}),
        ]
        batcher_is_asked = lambda: "visrag_requests_in_flight 4.0" in httpx.get(f"{server.url}/metrics").text  # noqa: E731
        wait_until(batcher_is_asked)
        embedder.go.set()
        assert first.result().status_code == 200
        assert [answer.result().status_code for answer in others] == [200, 200]
    assert sum(len(batch) for batch in embedder.batches) == 4
    assert rag.retriever is retriever  # the caller's own is left as it was


def test_sixty_four_at_once_each_get_their_own_answer(retriever: PageRetriever, embedder: HeldEmbedder) -> None:
    queries = [f"{WORDS[n % 8]} {WORDS[n * 3 % 8]} {n}" for n in range(64)]
    expected = [[hit.page.id for hit in retriever.retrieve(query, 1 + n % 5)] for n, query in enumerate(queries)]
    embedder.batches.clear()
    with running(create_app(retriever)) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def ask(n: int) -> list[str]:
            answer = client.post("/search", json={"text": queries[n], "top_k": 1 + n % 5})
            return [hit["id"] for hit in answer.raise_for_status().json()["pages"]]

        with ThreadPoolExecutor(64) as pool:
            embedder.hold()
            futures = [pool.submit(ask, n) for n in range(64)]
            assert embedder.asked.wait(20)
            wait_until(lambda: "visrag_requests_in_flight 65.0" in client.get("/metrics").text)
            embedder.go.set()
            assert [future.result(60) for future in futures] == expected
    assert sum(map(len, embedder.batches)) == 64
    assert max(map(len, embedder.batches)) == 32  # max_batch
    assert len(embedder.batches) <= 5
