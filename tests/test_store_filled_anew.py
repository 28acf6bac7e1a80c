"""A store that is open while others fill its collection anew goes on with nobody's old vectors."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_qdrant import serving
from letters import NEW, OLD, Letters, filled, written
from qdrant_client import QdrantClient

from visrag_integrations import PageRetriever, QdrantPageStore
from visrag_integrations.errors import StoreError, StoreMismatchError
from visrag_integrations.ingestion import reindex
from visrag_integrations.retrieval import PageReranker
from visrag_integrations.store import described
from visrag_integrations.store.client_models import INFO_ID

BOTH = ("letters-a", "letters-b")


@pytest.fixture(params=["memory", "server"])
def location(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A given client, or the URL of a server: for two stores on the same collections."""
    if request.param == "server":
        with serving() as server:
            yield server.url
    else:
        yield QdrantClient(":memory:")


def opened(location: Any) -> QdrantPageStore:
    return QdrantPageStore(location, pictures=False)


def question(embedder: Letters = OLD, text: str = "the moon") -> np.ndarray:
    return embedder.embed_queries([text])[0]


def names_both(err: BaseException) -> bool:
    return all(repr(name) in str(err) for name in BOTH)


def by_reindex(location: Any) -> None:
    reindex(opened(location), embedder=NEW, progress=False)


def by_recreating(location: Any) -> None:
    store = opened(location)
    store.prepare(NEW, recreate=True)
    store.add_pages(written(), NEW.embed_pages(written()))


def by_removing_and_filling(location: Any) -> None:
    opened(location).forget()
    filled(location, NEW)


def by_many_vectors(location: Any) -> None:
    """Another kind: there is no vector of the old name any more."""
    reindex(opened(location), embedder=Letters("letters-b", "multi", turn=9), progress=False)


def by_another_size(location: Any) -> None:
    reindex(opened(location), embedder=Letters("letters-b", dimension=13, turn=9), progress=False)


CHANGES = [by_reindex, by_recreating, by_removing_and_filling, by_many_vectors, by_another_size]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_the_first_search_after_it_is_refused_and_so_is_the_next(
    location: Any, change: Callable[[Any], None], mode: Any
) -> None:
    store = filled(location)
    assert store.search(question(), text="the moon", mode=mode, top_k=1)[0].page.number == 3
    change(location)
    for _ in range(2):
        with pytest.raises(StoreMismatchError) as caught:
            store.search(question(), text="the moon", mode=mode, top_k=1)
        assert names_both(caught.value)
    assert store.search(None, text="moon", mode="lexical", top_k=1)[0].page.number == 3, "words are the same"


def test_exact_scores_and_stored_vectors_are_not_the_new_embedders(location: Any) -> None:
    store = filled(location)
    ids = [page.id for page in written()]
    assert set(store.score(question(), ids)) == set(ids)
    by_reindex(location)
    with pytest.raises(StoreMismatchError):
        store.score(question(), ids)
    assert store.get_embeddings(ids, OLD) == {}
    assert store.embeddings_of_equals(written()) == {}


def test_a_retriever_is_refused_and_one_with_the_new_embedder_goes_on_on_the_same_store(location: Any) -> None:
    store = filled(location)
    old = PageRetriever(OLD, store)
    reranker = PageReranker(OLD, store)
    hits = old.retrieve("the moon", 2)
    assert [hit.page.number for hit in reranker.rerank("the moon", hits, 1)] == [3]
    by_reindex(location)
    with pytest.raises(StoreMismatchError) as caught:
        old.retrieve("the moon")
    assert names_both(caught.value)
    new = PageRetriever(NEW, store)
    assert new.retrieve("the moon", 1)[0].page.number == 3
    # What the store knows by now must not let the old one through.
    with pytest.raises(StoreMismatchError):
        old.retrieve("the moon")
    with pytest.raises(StoreMismatchError):
        reranker.rerank("the moon", hits)
    assert new.retrieve("the moon", 1)[0].page.number == 3


def test_a_question_that_was_embedded_before_is_refused_after(location: Any) -> None:
    store = filled(location)
    old = PageRetriever(OLD, store)
    (embedded,) = old.embed([_search("the moon")])
    by_reindex(location)
    store.prepare(NEW)  # another user of the same store
    with pytest.raises(StoreMismatchError):
        old.find(embedded)


def _search(text: str) -> Any:
    from visrag_integrations.retrieval import Search

    return Search(text)


def test_a_search_costs_no_request_more() -> None:
    with serving() as server, filled(server.url) as store:
        store.search(question())
        before = len(server.requests)
        store.search(question())
        assert server.requests[before:] == ["POST /collections/pages/points/query"]
        before = len(server.requests)
        store.score(question(), [written()[0].id])
        assert server.requests[before:] == ["POST /collections/pages/points/query"]


def test_a_second_embedder_that_is_added_or_removed_leaves_the_first_alone(location: Any) -> None:
    many = Letters("letters-c", "multi")
    store = filled(location)
    reindex(opened(location), embedder=[OLD, many], progress=False)
    assert store.search(question(), top_k=1)[0].page.number == 3
    assert store.info is not None
    assert len(store.info.embedders) == 2
    assert store.search(question(many), top_k=1)[0].page.number == 3
    reindex(opened(location), embedder=many, progress=False)
    with pytest.raises(StoreMismatchError, match="letters-a"):
        store.search(question())


def test_the_same_embedder_again_disturbs_nobody(location: Any) -> None:
    store = filled(location)
    reindex(opened(location), embedder=Letters("letters-a"), progress=False)
    assert store.search(question(), top_k=1)[0].page.number == 3
    assert store.get_pages([written()[2].id])[0].text == "the moon is far"


def test_another_checkpoint_of_the_same_name_is_another_embedder(location: Any) -> None:
    first, second = Letters(), Letters(turn=4)
    first.fingerprint, second.fingerprint = "one", "two"  # type: ignore[assignment]
    store = filled(location, first)
    reindex(opened(location), embedder=second, progress=False)
    with pytest.raises(StoreMismatchError, match=r"'two'.*'one'"):
        store.search(question(first))


def test_a_collection_that_is_gone_is_an_error_and_not_an_empty_result(
    location: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(described, "_AWAY_WAIT_S", 0.01)
    store = filled(location)
    opened(location).forget()
    with pytest.raises(StoreError, match="was removed"):
        store.search(question())


def test_a_search_that_finds_nothing_looks_again(location: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(location)
    assert store.search(question(), filter={"source": "nowhere.pdf"}) == []
    by_reindex(location)
    monkeypatch.setattr(described, "TRUSTED_S", 0.0)
    with pytest.raises(StoreMismatchError):
        store.search(question(), filter={"source": "nowhere.pdf"})


# --- writers --------------------------------------------------------------------------------------------------------


def test_a_stale_writer_is_refused(location: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(location)
    by_reindex(location)
    with pytest.raises(StoreMismatchError):
        store.prepare(OLD)  # asks the server, however lately it was read
    fresh = filled(location, NEW)
    reindex(opened(location), embedder=OLD, progress=False)
    monkeypatch.setattr(described, "TRUSTED_S", 0.0)
    more = written(["quartz"], "more")
    with pytest.raises(StoreMismatchError) as caught:
        fresh.add_pages(more, NEW.embed_pages(more))
    assert names_both(caught.value)
    assert "No pages were added" in str(caught.value)
    assert opened(location).count() == 4


def test_an_add_reads_again_what_is_ten_seconds_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(described.time, "monotonic", lambda: now[0])
    with serving() as server, filled(server.url) as store:
        requests = []
        for seconds in (0, 9, 2):  # the third is eleven seconds after the first
            now[0] += seconds
            before = len(server.requests)
            store.add_pages(written(), OLD.embed_pages(written()))
            requests.append(len(server.requests) - before)
        assert requests[0] == requests[1] == requests[2] - 1


def test_pages_of_a_writer_that_was_slower_are_left_out_and_told_of(
    location: Any, caplog: pytest.LogCaptureFixture
) -> None:
    slow = filled(location)
    by_reindex(location)
    more = written(["the moon the moon"], "more")
    slow.add_pages(more, OLD.embed_pages(more))  # within ten seconds of its last look
    store = opened(location)
    with caplog.at_level(logging.WARNING):
        found = [hit.page.doc_id for hit in store.search(question(NEW), top_k=10)]
    assert found == ["book"] * 4
    assert "1 of 5 pages" in caplog.text
    assert store.search(question(NEW), top_k=1)[0].page.number == 3


def test_pages_without_a_mark_are_not_refused() -> None:
    client = QdrantClient(":memory:")
    filled(client)
    records, _ = client.scroll("pages", limit=100, with_payload=True)
    for record in records:
        if str(record.id) != INFO_ID:
            own = dict((record.payload or {})["visrag"])
            assert own.pop("mark")
            client.overwrite_payload("pages", {**(record.payload or {}), "visrag": own}, points=[record.id])
    assert opened(client).search(question(), top_k=1)[0].page.number == 3


def test_the_mark_is_nobodys_metadata(location: Any) -> None:
    store = filled(location)
    (hit,) = store.search(question(), top_k=1)
    assert set(hit.page.metadata) <= {"total_pages"}
    assert store.count({"mark": "x"}) == 0


def test_folders_have_no_marks(tmp_path: Any) -> None:
    with filled(tmp_path / "index") as store:
        (record,) = store._engine.retrieve([written()[0].id])
        assert "mark" not in record.payload["visrag"]


# --- hosts ----------------------------------------------------------------------------------------------------------


def test_langchain_refuses_the_old_embedder(location: Any) -> None:
    pytest.importorskip("langchain_core")
    langchain = importlib.import_module("visrag_integrations.langchain")
    store = filled(location)
    searched = langchain.VisRAGVectorStore(store, OLD)
    retriever = langchain.VisRAGRetriever(retriever=PageRetriever(OLD, store), k=1)
    assert searched.similarity_search("the moon", k=1)
    assert retriever.invoke("the moon")
    by_reindex(location)
    for search in (
        lambda: searched.similarity_search("the moon", k=1),
        lambda: searched.similarity_search_by_vector(question().tolist(), k=1),
        lambda: searched.max_marginal_relevance_search("the moon", k=1),
        lambda: retriever.invoke("the moon"),
    ):
        with pytest.raises(StoreMismatchError) as caught:
            search()
        assert names_both(caught.value)


def test_llamaindex_refuses_the_old_embedder(location: Any) -> None:
    pytest.importorskip("llama_index.core")
    llamaindex = importlib.import_module("visrag_integrations.llamaindex")
    from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

    store = filled(location)
    searched = llamaindex.VisRAGVectorStore(store, OLD)
    retriever = llamaindex.VisRAGRetriever(retriever=PageRetriever(OLD, store), similarity_top_k=1)
    vector = question().tolist()
    assert searched.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=1)).nodes
    assert retriever.retrieve("the moon")
    by_reindex(location)
    for search in (
        lambda: searched.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=1)),
        lambda: searched.query(
            VectorStoreQuery(query_embedding=vector, similarity_top_k=1, mode=VectorStoreQueryMode.MMR)
        ),
        lambda: searched.query(VectorStoreQuery(query_str="the moon", similarity_top_k=1)),
        lambda: retriever.retrieve("the moon"),
    ):
        with pytest.raises(StoreMismatchError) as caught:
            search()
        assert names_both(caught.value)
