"""Strict mode, as Qdrant Cloud switches it on: limits that are met, and what is refused in words."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf
from fake_qdrant import CLOUD, FakeQdrant, serving
from fakes import CountingEmbedder
from PIL import Image
from qdrant_client import models

from visrag_integrations import Page, PageRetriever, QdrantPageStore
from visrag_integrations.cli import main
from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.retrieval import PageReranker
from visrag_integrations.scores.exact import cosine, maxsims
from visrag_integrations.store import documents, picture_collection
from visrag_integrations.store.client_models import INFO_ID

DIM = 8
NO_EXACT = {"enabled": True, "search_allow_exact": False}


@dataclass
class Filler:
    name: str = "filler"
    kind: str = "multi"
    dimension: int = DIM
    pooling: str | None = "rows"


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with serving() as fake:
        yield fake


def pages(count: int, doc_id: str = "d", **fields: Any) -> list[Page]:
    metadata = {"total_pages": count}
    return [
        Page(doc_id, n, text=f"word{n} common", source=f"{doc_id}.pdf", metadata=metadata, **fields)
        for n in range(1, count + 1)
    ]


def patches(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((count, 6, DIM)).astype(np.float32))


def filled(server: FakeQdrant, count: int = 40, **settings: Any) -> QdrantPageStore:
    store = QdrantPageStore(server.url, pictures=False, storage="float32", pooled_vectors=2, **settings)
    store.prepare(Filler())
    store.add_pages(pages(count), patches(count))
    return store


LIMITS = [
    {},
    {"search_allow_exact": False},
    {"search_max_oversampling": 3.0},
    {"max_query_limit": 25},
    {"condition_max_size": 20},
    {"max_timeout": 5},
    {"upsert_max_batchsize": 7},
    {"search_allow_exact": False, "max_query_limit": 30, "condition_max_size": 24, "max_timeout": 7},
]


@pytest.mark.parametrize("limits", LIMITS, ids=[" ".join(limits) or "none" for limits in LIMITS])
def test_everything_works_within_limits(server: FakeQdrant, limits: dict[str, Any]) -> None:
    server.strict = {**CLOUD, **limits}
    given, query = patches(40), patches(1)[0][:3]
    with filled(server) as store:
        assert store.count() == 40
        assert store.count({"number": {"gte": 31}}) == 10
        assert len(list(store.scroll({"number": {"lt": 31}}))) == 30
        assert next(store.documents()).pages == 40
        ids = [page.id for page in pages(40)]
        assert len(store.get_pages(ids)) == 40
        exact = dict(zip(ids, maxsims(query, given), strict=True))
        assert store.score(query, ids) == pytest.approx(exact, abs=1e-4)
        best = sorted(exact, key=exact.__getitem__, reverse=True)
        dense = store.search(query, top_k=5)
        assert [hit.score for hit in dense] == pytest.approx([exact[hit.page.id] for hit in dense], abs=1e-4)
        if not limits.keys() & {"max_query_limit"}:
            assert [hit.page.id for hit in dense] == best[:5]
        found = store.search(query, text="word7 common", top_k=5, mode="hybrid")
        assert 7 in [hit.page.number for hit in found]
        assert store.search(None, text="word9", mode="lexical")[0].page.number == 9
        store.delete(doc_id="d")
        assert store.count() == 0


@pytest.mark.parametrize("most", [1, 5, 20, 63, 64])
def test_more_documents_than_one_condition_may_name(
    server: FakeQdrant, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of documents, filters of many values and what is not among them: each in parts of what is allowed."""
    monkeypatch.setattr(documents, "_READ_WHOLE", 2)  # else so few pages are read together, and no document is named
    server.strict = {**CLOUD, "condition_max_size": most}
    names = [f"d{number}" for number in range(150)]
    with QdrantPageStore(server.url, pictures=False, storage="float32", pooled_vectors=2) as store:
        store.prepare(Filler())
        given = [page for name in names for page in pages(1, name)]
        store.add_pages(given, patches(len(given)))
        before = len(server.requests)
        assert sorted(document.doc_id for document in store.documents()) == sorted(names)
        assert any(request.endswith("/facet") for request in server.requests[before:])
        assert store.count({"doc_id": names[:100]}) == 100
        assert store.count({"doc_id": {"nin": names[:100]}}) == 50
        assert store.count({"$doc_ids": names[20:120]}) == 100
        query = patches(1)[0][:3]
        for mode in ("dense", "lexical", "hybrid"):
            found = store.search(query, text="word1", top_k=3, mode=mode, filter={"doc_id": names[30:130]})
            assert len(found) == 3, mode
            assert {hit.page.doc_id for hit in found} <= set(names[30:130]), mode


def kept_pictures(server: FakeQdrant) -> list[dict[str, Any]]:
    """What the server has of each picture."""
    records, _ = server.memory.scroll("pages.pictures", limit=1000)
    return [record.payload["visrag"] for record in records if str(record.id) != INFO_ID and record.payload]


@pytest.mark.parametrize("limit", ["condition_max_size", "upsert_max_batchsize", "max_query_limit"])
@pytest.mark.parametrize("most", [1, 3, 10, 64, 255])
def test_pictures_on_a_server_go_within_its_limits(
    server: FakeQdrant, limit: str, most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.strict = {**CLOUD, limit: most}
    with QdrantPageStore(server.url, storage="float32", pooled_vectors=2) as store:
        store.prepare(Filler())
        given = [replace(page, picture=Image.new("RGB", (30, 10 + page.number))) for page in pages(20)]
        for _ in range(2):  # the second time, pictures are there already and are said to be in use
            store.add_pages(given, patches(20))
        assert store.get_pages([given[3].id])[0].open_image().size
        assert len(kept_pictures(server)) == 20
        assert store.delete(doc_id="d") == 20
        assert store.count() == 0
        assert "could not be removed" not in caplog.text
        assert [picture["due"] > 0 for picture in kept_pictures(server)] == [True] * 20, "they were saved just now"
        now = picture_collection.time.time
        for turn in range(1, 21):  # at least one goes each time
            ahead = turn * (picture_collection.SPARED + 1)
            monkeypatch.setattr(picture_collection.time, "time", lambda ahead=ahead: now() + ahead)
            store.add_pages(given[:1], patches(1))
            store.delete(doc_id="d")
            if len(kept_pictures(server)) == 1:
                break
        assert len(kept_pictures(server)) == 1, "only the one that was saved just now"


def test_limits_are_read_once_and_only_where_one_was_met(server: FakeQdrant) -> None:
    server.strict = {**CLOUD, "search_allow_exact": False}
    with filled(server) as store:
        before = len(server.requests)
        for _ in range(3):
            assert store.count() == 40
        asked = server.requests[before:]
        assert asked.count("GET /collections/pages") == 1
        assert asked.count("POST /collections/pages/points/count") == 1
    server.strict = {}
    with QdrantPageStore(server.url, "free", pictures=False) as store:
        store.prepare(Filler())
        store.count()
        before = len(server.requests)
        store.count()
        assert server.requests[before:] == ["POST /collections/free/points/count"]


def test_a_count_is_never_an_estimate(server: FakeQdrant) -> None:
    """A server that may not count exactly could answer anything: it is not asked."""
    server.strict = {**CLOUD, **NO_EXACT, "max_query_limit": 7}
    with filled(server) as store:
        assert store.count() == 40
        counts = [call for call in server.log if call.path.endswith("/count")]
        assert all(call.body["exact"] for call in counts)


@pytest.mark.parametrize("by_options", [True, False])
def test_without_pooling_a_server_that_forbids_exact_searches_is_refused_by_name(
    server: FakeQdrant, by_options: bool
) -> None:
    options = {"strict_mode_config": models.StrictModeConfig(**NO_EXACT)} if by_options else None
    server.strict = {} if by_options else NO_EXACT
    with QdrantPageStore(server.url, pooling=None, server_options=options) as store:
        with pytest.raises(SettingError, match=r"search_allow_exact.*pooling='rows'"):
            store.prepare(Filler(pooling=None))
        assert [each.name for each in server.memory.get_collections().collections] == []
        assert [each.alias_name for each in server.memory.get_aliases().aliases] == []
    with QdrantPageStore(server.url, pooling="rows", server_options=options) as store:
        store.prepare(Filler())
        assert store.count() == 0


def test_single_vectors_need_no_pooling(server: FakeQdrant) -> None:
    server.strict = {**CLOUD, **NO_EXACT}
    embedder = CountingEmbedder()
    with QdrantPageStore(server.url, pictures=False) as store:
        store.prepare(embedder)
        made = [Page("d", n, text="alpha " * n + "beta") for n in range(1, 6)]
        vectors = embedder.embed_pages(made)
        store.add_pages(made, vectors)
        (query,) = embedder.embed_queries(["alpha beta beta"])
        exact = dict(zip([page.id for page in made], cosine(query, vectors), strict=True))
        assert store.score(query, list(exact)) == pytest.approx(exact, abs=1e-4)
        fused = store.search(query, text="alpha", mode="hybrid", top_k=5)
        assert {hit.page.number for hit in fused} == {1, 2, 3, 4, 5}


def test_a_reranker_scores_exactly(server: FakeQdrant) -> None:
    server.strict = {**CLOUD, **NO_EXACT, "max_query_limit": 6}

    class Late(Filler):
        def embed_pages(self, pages: Any) -> list[np.ndarray]:
            return patches(len(list(pages)))

        def embed_queries(self, queries: Any) -> list[np.ndarray]:
            return [patches(1)[0][:3] for _ in queries]

    with filled(server, 12) as store:
        retriever = PageRetriever(Late(), store)
        found = retriever.retrieve("common", top_k=5)
        again = PageReranker(Late(), store).rerank("common", found)
        exact = maxsims(patches(1)[0][:3], patches(12))
        assert [hit.score for hit in again] == pytest.approx([exact[hit.page.number - 1] for hit in again], abs=1e-4)


@pytest.mark.parametrize(
    "filter",
    [
        {"number": 3},
        {"number": {"gte": 2, "lt": 9}},
        {"doc_id": "d"},
        {"source": "d.pdf"},
        {"total_pages": 40},
        {"total_pages": {"gt": 3}},
        {"sources": "d.pdf"},
        {"page_label": "iv"},
        {"page_label": None},
        {"tenant": ""},
        {"tenant": "acme"},
        {"$metadata": {"page": 0}},
        {"$metadata": {"tenant": "acme"}},
        {"$metadata": {"page": {"gte": 3}}},
        {"$ids": [Page("d", 1).id]},
        {"$doc_ids": ["d"]},
        {"$not": {"number": 3}},
    ],
    ids=str,
)
def test_own_keys_are_indexed(server: FakeQdrant, filter: dict[str, Any]) -> None:
    """The same pages as in memory, where nothing needs an index."""
    server.strict = CLOUD
    with filled(server) as store, QdrantPageStore(":memory:", pictures=False) as other:
        other.prepare(Filler())
        made = [*pages(3, "host", given_id="mine"), *pages(2, "labelled", tenant="acme")]
        made.append(Page("e", 1, metadata={"page_label": "iv"}))
        for each in (store, other):
            each.add_pages(made, patches(len(made)))
        other.add_pages(pages(40), patches(40))
        expected = other.count(filter)
        assert store.count(filter) == expected


def test_a_users_key_needs_an_index_and_the_error_says_how(server: FakeQdrant) -> None:
    server.strict = CLOUD
    with filled(server) as store, pytest.raises(StoreError, match=r'indexed_fields=\{"org": "keyword"\}'):
        store.count({"org": "acme"})
    with QdrantPageStore(server.url, pictures=False, indexed_fields={"org": "keyword"}) as store:
        store.prepare(Filler())
        assert store.count({"org": "acme"}) == 0


def test_pictures_are_kept_on_a_strict_server(server: FakeQdrant) -> None:
    server.strict = {**CLOUD, **NO_EXACT, "max_query_limit": 300}
    embedder = CountingEmbedder()
    with QdrantPageStore(server.url) as store:
        store.prepare(embedder)
        page = Page("d", 1, text="alpha", picture=Image.new("RGB", (30, 10)))
        store.add_pages([page], embedder.embed_pages([page]))
        (hit,) = store.search(embedder.embed_queries(["alpha"])[0])
        assert hit.page.open_image().size == (30, 10)
        store.delete(doc_id="d")
        assert store.count() == 0


def test_by_grpc_too() -> None:
    with serving(grpc=True) as server:
        server.strict = {**CLOUD, **NO_EXACT, "max_query_limit": 30}
        with filled(server, **server.options) as store:
            assert store.count() == 40
            assert len(store.score(patches(1)[0][:3], [page.id for page in pages(40)])) == 40
            assert len(store.search(patches(1)[0][:3], text="word3 common", mode="hybrid")) == 5


def test_an_older_collection_gets_the_indexes_from_a_writer(server: FakeQdrant) -> None:
    with filled(server) as store:
        store.count()
    (real,) = [name for name in server.made if not name.endswith(".pictures")]
    server.made[real].indexes.pop("metadata.total_pages")
    server.made[real].strict = CLOUD
    with QdrantPageStore(server.url, pictures=False) as store:
        with pytest.raises(StoreError, match="Index required"):
            store.count({"total_pages": 40})
        store.prepare(Filler())
        assert store.count({"total_pages": 40}) == 40


# --- pooled vectors where nothing else can be searched ----------------------------------------------------------------


def made_on(server: FakeQdrant) -> list[str]:
    """The collections there are, without those for pictures."""
    names = [each.name for each in server.memory.get_collections().collections]
    return [name for name in names if not name.endswith(".pictures")]


def test_pooled_vectors_are_kept_where_exact_searches_are_forbidden(
    server: FakeQdrant, caplog: pytest.LogCaptureFixture
) -> None:
    server.strict = {**CLOUD, **NO_EXACT}
    given, query = patches(12), patches(1)[0][:3]
    for _ in range(2):
        with QdrantPageStore(server.url, pictures=False) as store:
            store.prepare(Filler(pooling=None))
            store.add_pages(pages(12), given)
            assert store.info is not None
            assert (store.info.pooling, store.info.pooled, store.info.storage) == ("rows", 32, "float16")
            best = store.search(query, top_k=1)[0]
            exact = maxsims(query, given)
            assert best.score == pytest.approx(max(exact), abs=0.01)
    assert len(made_on(server)) == 1, "the one that could not be searched is gone"
    said = [record.getMessage() for record in caplog.records if "pooled vectors" in record.getMessage()]
    assert len(said) == 1


@pytest.mark.parametrize("wish", [{}, {"server_options": {"replication_factor": 2}}, {"tenant": "acme"}])
def test_a_server_that_allows_them_keeps_no_pooled_vectors(server: FakeQdrant, wish: dict[str, Any]) -> None:
    server.strict = CLOUD
    with QdrantPageStore(server.url, pictures=False, **wish) as store:
        store.prepare(Filler(pooling=None))
        assert store.info is not None
        assert store.info.pooling is None
    assert made_on(server) == ["pages.v1"]


def test_eight_that_prepare_at_once_agree_on_pooled_vectors(server: FakeQdrant) -> None:
    server.strict = {**CLOUD, **NO_EXACT}
    together = threading.Barrier(8)

    def fill(number: int) -> None:
        with QdrantPageStore(server.url, pictures=False) as store:
            together.wait()
            store.prepare(Filler(pooling=None))
            store.add_pages(pages(2, f"d{number}"), patches(2))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fill, range(8)))
    assert len(made_on(server)) == 1
    with QdrantPageStore(server.url, pictures=False) as store:
        assert store.count() == 16
        assert store.info is not None
        assert store.info.pooling == "rows"


@pytest.mark.parametrize("by", ["prepare", "recreate", "reindex", "import"])
def test_every_way_of_making_a_collection_pools_there(server: FakeQdrant, by: str, tmp_path: Path) -> None:
    with QdrantPageStore(server.url, pictures=False) as store:
        store.prepare(Filler(pooling=None))
        store.add_pages(pages(3), patches(3))
        store.export(tmp_path / "index.zip")
    server.strict = {**CLOUD, **NO_EXACT}
    if by == "import":
        QdrantPageStore.import_from(tmp_path / "index.zip", server.url, "other", pictures=False).close()
    with QdrantPageStore(server.url, "pages" if by != "import" else "other", pictures=False) as store:
        if by == "prepare":
            store.forget()
            store.prepare(Filler(pooling=None))
        elif by == "recreate":
            store.prepare(Filler(pooling=None), recreate=True)
        elif by == "reindex":
            staged = store.next_version([Filler(pooling=None)])
            staged.prepare(Filler(pooling=None))
            staged.add_pages(pages(3), patches(3))
            assert store.take_over(staged)
        assert store.info is not None
        assert store.info.pooling == "rows"
        assert store.count() == (3 if by in ("reindex", "import") else 0)
        assert len(store.search(patches(1)[0][:3], top_k=5)) == store.count()


def test_what_a_kill_left_before_it_was_refused_is_in_nobodys_way(server: FakeQdrant) -> None:
    """It was made, found to be unsearchable, and not removed any more."""
    server.strict = {**CLOUD, **NO_EXACT}

    def plan(_: int, method: str, path: str) -> Any:
        return (403, "Forbidden: Global manage access is required") if method == "DELETE" else None

    server.plan = plan
    with QdrantPageStore(server.url, pictures=False) as store, pytest.raises(StoreError, match="may not manage"):
        store.prepare(Filler(pooling=None))
    assert made_on(server) == ["pages.v1"]
    server.plan = lambda *_: None
    with QdrantPageStore(server.url, pictures=False, pooling="rows") as store:
        store.prepare(Filler(pooling=None))
        assert store.info is not None
        assert store.info.pooling == "rows"
    assert len(made_on(server)) == 1


def test_the_command_line_works_where_exact_searches_are_forbidden(
    server: FakeQdrant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CPU preset: its embedder makes many vectors a page, and says nothing of pooling."""
    server.strict = {**CLOUD, **NO_EXACT}
    draw_pdf(tmp_path / "one.pdf", ["violin strings are four", "taxes are due in April"])
    place = ["--preset", "cpu", "--index", server.url]
    reading = ["--backend", "pdfium", "--ocr", "never", "--workers", "1"]
    typed = [sys.executable, "-m", "visrag_integrations.cli", "index", str(tmp_path / "one.pdf"), *place, *reading]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("keeps pooled vectors")) == (0, 1), done.stderr
    assert main(["index", str(tmp_path / "one.pdf"), *place, *reading]) == 0
    assert "pooled vectors" not in capsys.readouterr().err
    for mode in ("dense", "lexical", "hybrid"):
        assert main(["search", "violin", *place, "-k", "1", "--mode", mode, "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["pages"]
        assert found["page"] == 1
    assert main(["ask", "When are taxes due?", *place, "--json"]) == 0
    assert "April" in json.loads(capsys.readouterr().out)["answer"]
    assert main(["reindex", *place]) == 0
    assert main(["search", "violin", *place, "-k", "1"]) == 0


@pytest.mark.parametrize(
    ("said", "pooling"), [("rows", "rows"), ("hierarchical", "hierarchical"), ("none", None), ("auto", None)]
)
def test_pooling_can_be_typed(tmp_path: Path, said: str, pooling: str | None) -> None:
    draw_pdf(tmp_path / "one.pdf", ["violin strings are four"])
    index = str(tmp_path / "index")
    reading = ["--preset", "cpu", "--backend", "pdfium", "--ocr", "never", "--workers", "1"]
    assert main(["index", str(tmp_path / "one.pdf"), "--index", index, "--pooling", said, *reading]) == 0
    with QdrantPageStore(index) as store:
        assert store.info is not None
        assert store.info.pooling == pooling


def test_the_command_that_is_advised_can_be_typed(
    server: FakeQdrant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.strict = {**CLOUD, **NO_EXACT}
    draw_pdf(tmp_path / "one.pdf", ["violin strings are four"])
    typed = ["index", str(tmp_path / "one.pdf"), "--preset", "cpu", "--index", server.url]
    typed += ["--backend", "pdfium", "--ocr", "never", "--workers", "1", "--pooling"]
    assert main([*typed, "none"]) == 2
    assert "--pooling rows" in capsys.readouterr().err
    assert main([*typed, "rows"]) == 0
