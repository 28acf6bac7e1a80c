"""What requests and answers hold in bytes, and how many there are."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_qdrant import FakeQdrant, serving
from PIL import Image

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import EmbedderError, PageError, VisRAGError
from visrag_integrations.indexing import add_pages
from visrag_integrations.ingestion import index_documents
from visrag_integrations.store import client_writing, request_size
from visrag_integrations.store.engine import Point, SparseVector
from visrag_integrations.store.request_size import AnswerSizes

DIM = 8


@dataclass
class Filler:
    kind: str = "single"
    dimension: int = DIM
    name: str = "filler"
    fingerprint: str | None = None
    instruction: str | None = None
    pooling: str | None = None

    def embed_pages(self, pages: Any) -> list[np.ndarray]:
        return [np.full(self.dimension, 1 + page.number, np.float32) for page in pages]

    def embed_queries(self, queries: Any) -> list[np.ndarray]:
        return [np.ones(self.dimension, np.float32) for _ in queries]


def vectors(count: int, *shape: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((count, *(shape or (DIM,)))).astype(np.float32))


def points_written(server: FakeQdrant) -> list[Any]:
    return [request for request in server.log if (request.method, request.path[-7:]) == ("PUT", "/points")]


# --- written ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["orjson", "pydantic", "json"])
def test_what_is_written_is_read_back_exactly(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if encoder == "orjson":
        pytest.importorskip("orjson")
    else:
        monkeypatch.setitem(sys.modules, "orjson", None)
    if encoder == "json":
        monkeypatch.setitem(sys.modules, "pydantic_core", None)
    numbers = np.array([1.0, -1e-38, 3.4e38, 1 / 3, 16777217.0, 5e-7, -0.0, 1e-7], np.float32)
    payload = {
        "text": "Ünï 😀 \x00 \u2028",
        "whole": 2**63,
        "huge": 2**70,
        "real": 0.1,
        "none": None,
        "list": [1, "a"],
    }
    half = {"page_content": "\ud800"}  # half of a letter, which orjson refuses
    words = SparseVector([1, 2**32 - 1], [0.5, 1 / 3])
    given = [Point("a", {"page": numbers, "text": words}, payload), Point("b", {"page": numbers[None]}, half)]
    (body,) = client_writing.encoded_requests(given)
    first, second = json.loads(body.model_dump_json())["points"]
    assert np.array(first["vector"]["page"], np.float32).tobytes() == numbers.tobytes()
    assert first["vector"]["text"] == {"indices": [1, 2**32 - 1], "values": [0.5, 1 / 3]}
    assert first["payload"] == payload
    assert second["vector"]["page"] == [[float(number) for number in json.loads(json.dumps(first["vector"]["page"]))]]
    assert second["payload"] == half


def test_long_texts_go_in_requests_of_some_megabytes() -> None:
    with serving() as server, QdrantPageStore(server.url, pictures=False) as store:
        store.prepare(Filler())
        pages = [Page("register", number, text=f"entry{number} " * 80_000) for number in range(1, 20)]
        server.log.clear()
        store.add_pages(pages, vectors(19))
        sent = [request.sent for request in points_written(server)]
        assert sum(sent) > 19 * 500_000
        assert max(sent) < 6_000_000
        assert len(sent) <= 4
        assert store.count() == 19


@pytest.mark.parametrize("how", ["text", "metadata", "words"])
def test_a_page_that_is_too_large_fails_alone_and_by_name(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_size, "MAX_REQUEST", 60_000)
    text = {"text": "word " * 20_000, "words": " ".join(f"word{n}" for n in range(9_000)), "metadata": ""}[how]
    metadata = {"note": "x" * 70_000} if how == "metadata" else {}
    failed: list[tuple[int, Exception]] = []
    with serving() as server, QdrantPageStore(server.url, pictures=False) as store:
        store.prepare(Filler())
        pages = [Page("d", number, text="small", source="big.pdf") for number in range(1, 4)]
        pages[1] = Page("d", 2, text=text, source="big.pdf", metadata=metadata)
        server.log.clear()
        with pytest.raises(PageError, match=r"big\.pdf, page 2: takes 0\.\d MB"):
            store.add_pages(pages, vectors(3))
        added = add_pages(store, pages, vectors(3), lambda page, err: failed.append((page.number, err)))
        assert [page.number for page in added] == [1, 3]
        assert [number for number, _ in failed] == [2]
        assert sorted(store.page_numbers("d")) == [1, 3]
        assert max(request.sent for request in points_written(server)) < 60_000


def test_a_server_takes_fewer_numbers_than_a_folder(tmp_path: Path) -> None:
    just, over = np.ones((8191, 128), np.float32), np.ones((8192, 128), np.float32)
    filler, page = Filler("multi", 128), Page("large", 1, source="large.pdf")
    with serving() as server, QdrantPageStore(server.url, pictures=False, pooling=None) as store:
        store.prepare(filler)
        server.log.clear()
        with pytest.raises(EmbedderError, match=r"large\.pdf.*8192 x 128 numbers.*1048575"):
            store.add_pages([page], [over])
        assert not points_written(server)
        store.add_pages([page], [just])
        assert store.count() == 1
    for location in (tmp_path, ":memory:"):
        with QdrantPageStore(location, pictures=False, pooling=None) as store:
            store.prepare(filler)
            with pytest.raises(EmbedderError, match="1048576"):
                store.add_pages([page], [np.ones((8193, 128), np.float32)])


# --- read -------------------------------------------------------------------------------------------------------------


def test_answers_hold_as_many_points_as_fit() -> None:
    sizes = AnswerSizes()
    assert sizes.points([], with_text=False) == 256
    sizes.note_vectors({"page": np.ones(4096, np.float32), "text": SparseVector([1], [1.0])})
    assert sizes.points(["page"], with_text=True) == 256
    sizes.note_vectors({"patches": np.ones((10, 128), np.float32)})
    assert sizes.points(["patches"], with_text=False) == 64  # one of those that follow may be large
    sizes.note_vectors({"patches": np.ones((8191, 128), np.float32)})
    assert sizes.points(["patches"], with_text=False) == 1


@pytest.mark.parametrize("location", ["server", "folder"])
def test_large_vectors_are_read_in_parts(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_size, "_READ_AT_ONCE", 200_000)  # three pages of 40 x 80 numbers
    given = vectors(30, 40, 80)
    pages = [Page("d", number, text=f"w{number}") for number in range(1, 31)]
    with serving() as server:
        place = server.url if location == "server" else tmp_path / "index"
        with QdrantPageStore(place, pictures=False, pooling=None, storage="float32") as store:
            store.prepare(Filler("multi", 80))
            store.add_pages(pages, given)
        with QdrantPageStore(place, pictures=False) as store:  # which has met none of them
            server.log.clear()
            found = store.get_embeddings([page.id for page in pages])
            assert len(found) == 30
            for page, vector in zip(pages, given, strict=True):
                unit = vector / np.linalg.norm(vector, axis=1, keepdims=True)
                np.testing.assert_allclose(found[page.id], unit, atol=1e-5)
            assert store.export(tmp_path / "all.zip") == 30
            with QdrantPageStore.import_from(tmp_path / "all.zip", ":memory:") as again:
                assert again.count() == 30
        # At most the first four were asked for without knowing their size.
        assert all(request.answered < 4 * 40 * 80 * 22 + 20_000 for request in server.log)


# --- how many ---------------------------------------------------------------------------------------------------------


def fill(store: QdrantPageStore, kind: str) -> None:
    pages = [Page("d", number, text=f"common word{number % 7} rare{number}") for number in range(1, 61)]
    shape = (DIM,) if kind == "single" else (3, DIM)
    store.prepare(Filler(kind))
    store.add_pages(pages, vectors(60, *shape))


@pytest.mark.parametrize("kind", ["single", "multi", "pooled"])
@pytest.mark.parametrize("text", ["word3 rare40", "", "nowhere"])
def test_a_hybrid_search_finds_on_a_server_what_it_finds_in_memory(kind: str, text: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"pictures": False, "candidates": 10, "storage": "float32"}
    settings["pooling"] = "rows" if kind == "pooled" else None
    shape = (DIM,) if kind == "single" else (3, DIM)
    with serving() as server:
        places = (":memory:", server.url, tmp_path)
        stores = [QdrantPageStore(place, **settings) for place in places]
        for store in stores:
            fill(store, "single" if kind == "single" else "multi")
        for query in vectors(5, *shape, seed=3):
            results = [store.search(query, text=text, mode="hybrid", top_k=5) for store in stores]
            ids = [[hit.page.id for hit in found] for found in results]
            assert ids[0] == ids[1] == ids[2]
            assert len(ids[0]) == 5
            for found in results[1:]:
                assert [h.score for h in found] == pytest.approx([h.score for h in results[0]], abs=1e-4)
        for store in stores:
            store.close()


@pytest.mark.parametrize(("kind", "requests"), [("single", 1), ("multi", 3)])
def test_a_hybrid_search_takes_few_requests(kind: str, requests: int) -> None:
    """One; where all vectors of all pages are compared, each half is searched once only."""
    with serving() as server, QdrantPageStore(server.url, pictures=False, pooling=None) as store:
        fill(store, kind)
        query = vectors(1, *((DIM,) if kind == "single" else (3, DIM)))[0]
        store.search(query, text="word1", mode="hybrid")
        server.requests.clear()
        assert len(store.search(query, text="word1", mode="hybrid")) == 5
        assert len(server.requests) == requests


def test_a_hybrid_search_with_a_filter_and_for_one_tenant() -> None:
    with serving() as server, QdrantPageStore(server.url, pictures=False, indexed_fields={"even": "bool"}) as store:
        store.prepare(Filler())
        for tenant in ("ada", "bob"):
            pages = [Page("d", n, text=f"word{n}", metadata={"even": n % 2 == 0}) for n in range(1, 31)]
            store.of_tenant(tenant).add_pages(pages, vectors(30))
        found = store.of_tenant("ada").search(
            vectors(1)[0], text="word3 word4", mode="hybrid", filter={"even": True}, top_k=30
        )
        assert sorted(hit.page.number for hit in found) == list(range(2, 31, 2))
        assert {hit.page.tenant for hit in found} == {"ada"}


def test_pages_that_point_the_other_way_score_as_those_without_a_vector() -> None:
    with serving() as server, QdrantPageStore(server.url, pictures=False) as store:
        store.prepare(Filler())
        query = np.ones(DIM, np.float32)
        pages = [Page("d", n, text="needle" if n == 3 else "hay") for n in range(1, 5)]
        store.add_pages(pages, [query, -query, -query, np.zeros(0, np.float32)])
        found = store.search(query, text="needle", mode="hybrid", top_k=4)
        scores = {hit.page.number: hit.score for hit in found}
        assert scores[1] == pytest.approx(1.0, abs=1e-4)
        assert scores[2] == pytest.approx(0.0, abs=1e-6)
        assert scores[3] > 0
        assert all(math.isfinite(score) for score in scores.values())


def test_an_export_reads_pictures_many_at_a_time(tmp_path: Path) -> None:
    with serving() as server, QdrantPageStore(server.url) as store:
        store.prepare(Filler())
        pages = [Page("d", n, text="t", picture=Image.new("RGB", (9 + n, 9))) for n in range(1, 41)]
        store.add_pages(pages, vectors(40))
        server.requests.clear()
        store.export(tmp_path / "all.zip")
        assert len([line for line in server.requests if "pictures" in line]) == 3  # of 16
        with QdrantPageStore.import_from(tmp_path / "all.zip", tmp_path / "folder") as again:
            assert sorted(page.open_image().width for page in again.scroll()) == list(range(10, 50))


def test_a_store_without_pictures_removes_those_of_the_pages_it_removes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1e9]
    monkeypatch.setattr("visrag_integrations.store.picture_collection.time.time", lambda: clock[0])
    with serving() as server:
        with QdrantPageStore(server.url) as store:
            store.prepare(Filler())
            pages = [Page("d", n, picture=Image.new("RGB", (9 + n, 9))) for n in range(1, 4)]
            store.add_pages(pages, vectors(3))
        clock[0] += 3600
        kept = server.memory.count("pages.pictures").count
        with QdrantPageStore(server.url, pictures=False) as store:
            assert store.delete(ids=[pages[0].id]) == 1
            assert server.memory.count("pages.pictures").count == kept - 1
            store.prepare(Filler(), recreate=True)
            assert server.memory.count("pages.pictures").count == kept - 3


@pytest.mark.slow
def test_a_run_over_stored_documents_asks_for_many_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(12):
        (folder / f"note{number}.txt").write_text(f"Note {number} of many.", "utf-8")
    counts: list[int] = []
    with serving() as server, QdrantPageStore(server.url, pictures=False) as store:
        for _ in range(2):
            server.requests.clear()
            report = index_documents([folder], store=store, embedder=Filler(), workers=1, progress=False)
            assert not report.failed
            counts.append(len(server.requests))
        assert (report.added, report.unchanged) == (0, 12)
        assert counts[1] < 12  # not one for each document
        # What has changed, moved and gone is still told.
        (folder / "note1.txt").write_text("Another text altogether.", "utf-8")
        (folder / "note2.txt").rename(folder / "moved.txt")
        (folder / "note3.txt").unlink()
        report = index_documents([folder], store=store, embedder=Filler(), workers=1, progress=False, prune=True)
        assert (report.added, report.removed) == (1, 2)
        assert store.count() == 11
        assert {Path(source).name for document in store.documents() for source in document.sources} == {
            *(f"note{number}.txt" for number in range(12) if number not in (2, 3)),
            "moved.txt",
        }


# --- cut off and too late ---------------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[QdrantPageStore], object]] = {
    "search": lambda store: store.search(vectors(1)[0], text="word1", mode="hybrid"),
    "add": lambda store: store.add_pages([Page("n", 1, text="new")], vectors(1)),
    "delete": lambda store: store.delete(doc_id="d"),
    "embeddings": lambda store: store.get_embeddings([Page("d", 1).id]),
    "count": lambda store: store.count(),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", ["cut", "dropped", "503", "lost"])
def test_one_answer_that_is_lost_costs_nothing(step: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every request of the step in turn."""
    monkeypatch.setattr("visrag_integrations.store.patience._WAITS_S", (0.0, 0.0))
    with serving() as server, QdrantPageStore(server.url, pictures=False) as store:
        fill(store, "single")
        reference = len(server.requests)
        STEPS[step](store)
        for place in range(1, len(server.requests) - reference + 1):
            at = len(server.requests) + place
            server.plan = lambda number, *_, at=at: fault if number == at else None  # type: ignore[misc]
            STEPS[step](store)
            server.plan = lambda *_: None


@pytest.mark.parametrize("step", STEPS)
def test_a_server_that_never_answers_in_time_is_an_error_in_words(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visrag_integrations.store.patience._TRIES", 1)
    with serving() as server, QdrantPageStore(server.url, pictures=False, timeout=1) as store:
        fill(store, "single")
        server.plan = lambda *_: "hung"
        with pytest.raises(VisRAGError, match="no answer within the time limit"):
            STEPS[step](store)
        server.go_on.set()
