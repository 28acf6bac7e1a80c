"""Keys that may not do everything, and what is missing or wrong on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_qdrant import FakeQdrant, Key, serving
from fakes import CountingEmbedder
from PIL import Image

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import PictureError, StoreError, StoreFormatError, StoreMismatchError
from visrag_integrations.ingestion import Retry, reindex

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
READS = {"pages": "r", "pages.pictures": "r"}
WRITES = {"pages": "rw", "pages.pictures": "rw"}
KEYS = {
    "all": Key(),
    "reads everything": Key("read"),
    "reads": Key("", READS),
    "writes": Key("", WRITES),
    "reads pages only": Key("", {"pages": "r"}),
}
VECTORS = {"page": {"size": 4, "distance": "Cosine"}}


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with serving() as fake:
        fake.keys = KEYS
        yield fake


def some_pages(count: int = 2, doc_id: str = "d") -> list[Page]:
    return [
        Page(doc_id, n, text="alpha " * n, source=f"{doc_id}.pdf", picture=Image.new("RGB", (10 * n, 10)))
        for n in range(1, count + 1)
    ]


def opened(server: FakeQdrant, key: str | None = "all", **settings: Any) -> QdrantPageStore:
    return QdrantPageStore(server.url, api_key=key, **settings)


def filled(server: FakeQdrant) -> None:
    embedder, pages = CountingEmbedder(), some_pages()
    with opened(server) as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))


def searched(store: QdrantPageStore) -> list[int]:
    hits = store.search(CountingEmbedder().embed_queries(["alpha"])[0], text="alpha", mode="hybrid")
    return sorted(hit.page.open_image().size[0] for hit in hits)


@pytest.mark.parametrize("key", ["reads everything", "reads", "writes", "all"])
def test_who_may_read_searches_and_sees_pictures(server: FakeQdrant, key: str) -> None:
    filled(server)
    with opened(server, key) as store:
        assert searched(store) == [10, 20]
        assert store.count() == 2
        assert next(store.documents()).pages == 2


@pytest.mark.parametrize("key", ["reads everything", "reads"])
def test_who_may_only_read_is_told_when_writing(server: FakeQdrant, key: str) -> None:
    filled(server)
    embedder, pages = CountingEmbedder(), some_pages(1, "e")
    with opened(server, key) as store:
        with pytest.raises(StoreError, match=r"may not write to collection pages"):
            store.add_pages(pages, embedder.embed_pages(pages))
        with pytest.raises(StoreError, match=r"may not write to collection pages"):
            store.delete(doc_id="d")
        assert store.count() == 2


def test_who_may_write_adds_and_removes(server: FakeQdrant) -> None:
    filled(server)
    embedder, pages = CountingEmbedder(), some_pages(1, "e")
    with opened(server, "writes") as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
        assert store.count() == 3
        store.delete(doc_id="e")
        assert store.count() == 2


@pytest.mark.parametrize("key", ["reads", "writes"])
def test_who_may_not_manage_makes_no_collection(server: FakeQdrant, key: str) -> None:
    with opened(server, key) as store, pytest.raises(StoreError, match="may not manage"):
        store.prepare(CountingEmbedder())


def test_a_key_without_the_pictures_names_their_collection(server: FakeQdrant) -> None:
    filled(server)
    with opened(server, "reads pages only") as store:
        hits = store.search(CountingEmbedder().embed_queries(["alpha"])[0])
        assert len(hits) == 2
        with pytest.raises(PictureError, match=r"may not see collection pages\.pictures"):
            hits[0].page.open_image()


@pytest.mark.parametrize(("key", "said"), [(None, "give api_key"), ("wrong", "does not know the key")])
def test_without_a_key_that_is_known(server: FakeQdrant, key: str | None, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        opened(server, key)


# --- pictures that are not there ------------------------------------------------------------------------------------


def test_a_picture_collection_that_is_gone(server: FakeQdrant) -> None:
    filled(server)
    server.memory.delete_collection("pages.pictures")
    with opened(server) as store:
        hits = store.search(CountingEmbedder().embed_queries(["alpha"])[0])
        assert len(hits) == 2, "pages are found all the same"
        with pytest.raises((StoreError, PictureError), match=r"pages\.pictures"):
            hits[0].page.open_image()


def test_a_picture_collection_that_is_half_filled(server: FakeQdrant) -> None:
    filled(server)
    records, _ = server.memory.scroll("pages.pictures", with_payload=True)
    (gone, *_) = [record.id for record in records if "picture" in (record.payload or {})["visrag"]]
    server.memory.delete("pages.pictures", [gone])
    with opened(server) as store:
        hits = store.search(CountingEmbedder().embed_queries(["alpha"])[0])
        opened_ones, missing = 0, []
        for hit in hits:
            try:
                hit.page.open_image()
                opened_ones += 1
            except PictureError as err:
                missing.append(str(err))
        assert opened_ones == 1
        assert len(missing) == 1
        assert "Index its document again" in missing[0]


# --- collections of others ------------------------------------------------------------------------------------------


def test_a_collection_by_others_is_refused(server: FakeQdrant) -> None:
    from qdrant_client import models

    server.memory.create_collection("pages", models.VectorParams(size=4, distance=models.Distance.COSINE))
    server.memory.upsert("pages", [models.PointStruct(id=1, vector=[1, 0, 0, 0], payload={"theirs": 1})])
    with pytest.raises(StoreFormatError, match="did not write"), opened(server) as store:
        store.prepare(CountingEmbedder())
    assert server.memory.count("pages").count == 1


def test_an_empty_collection_of_an_administrator_with_other_vectors_is_refused(server: FakeQdrant) -> None:
    from qdrant_client import models

    params = models.VectorParams(size=9, distance=models.Distance.COSINE)
    server.memory.create_collection("pages", {"page": params})
    with opened(server) as store, pytest.raises(StoreMismatchError, match="other vectors"):
        store.prepare(CountingEmbedder())


# --- time-outs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["dropped", "lost"])
@pytest.mark.parametrize("step", range(30))
def test_an_answer_that_got_lost_at_each_step(fault: str, step: int) -> None:
    """The request arrived and its answer did not: prepared once, stored once, described rightly."""
    with serving() as server:
        embedder, pages = CountingEmbedder(), some_pages()
        server.plan = lambda number, method, path: fault if number == step + 1 else None
        try:
            with QdrantPageStore(server.url) as store:
                store.prepare(embedder)
                store.add_pages(pages, embedder.embed_pages(pages))
        except StoreError:
            pass  # what cannot be sent twice ends with an error; the next run goes on
        server.plan = lambda *_: None
        with QdrantPageStore(server.url) as store:
            store.prepare(embedder)
            store.add_pages(pages, embedder.embed_pages(pages))
            assert store.count() == 2
            assert searched(store) == [10, 20]
            assert store.info is not None
            assert store.info.embedder == "counting"


class Wider(CountingEmbedder):
    name, dimension = "wider", 6

    def _vector(self, text: str) -> np.ndarray:
        return np.concatenate([super()._vector(text), np.full(2, 0.01, np.float32)])


def at_each_step(server: FakeQdrant, fault: str, work: Callable[[], None]) -> Iterator[bool]:
    """Do it again and again, each time with the answer to the next request lost; gives whether it went through.

    Ends when it takes no more requests. Indexes are made alike, so that one of them stands for all.
    """
    step = 0
    while True:
        step += 1
        start, met = len(server.requests), []

        def plan(number: int, method: str, path: str, at: int = start + step, met: list[str] = met) -> str | None:
            if number != at:
                return None
            met.append(f"{method} {path}")
            return fault

        server.plan = plan
        try:
            work()
            went_through = True
        except StoreError:
            went_through = False
        server.plan = lambda *_: None
        if not met:
            return
        yield went_through
        while met[0].endswith("/index") and server.requests[start + step].endswith("/index"):
            step += 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent again is sent at once."""
    monkeypatch.setattr("visrag_integrations.store.patience._WAITS_S", (0.0, 0.0))


@pytest.mark.parametrize("fault", ["dropped", "lost"])
def test_an_answer_that_got_lost_at_each_step_of_a_reindex(fault: str, at_once: None) -> None:
    """The old pages or the new ones are found, never none and never both; run again, it ends as it should."""
    by_name = {embedder.name: embedder for embedder in (CountingEmbedder(), Wider())}
    with serving() as server, QdrantPageStore(server.url) as store:
        embedder, pages = by_name["counting"], some_pages()
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
        turn = ["wider", "counting"]
        retry = Retry(first_wait=0.0, longest_wait=0.0)

        def work() -> None:
            reindex(store, embedder=by_name[turn[0]], retry=retry, progress=False)

        steps = 0
        for went_through in at_each_step(server, fault, work):
            steps += 1
            with QdrantPageStore(server.url) as other:
                assert other.info is not None
                assert other.info.embedder in (turn if not went_through else turn[:1])
                query = by_name[other.info.embedder].embed_queries(["alpha"])[0]
                assert sorted(hit.page.open_image().size[0] for hit in other.search(query)) == [10, 20]
            if not went_through:
                work()
            with QdrantPageStore(server.url) as other:
                assert other.info is not None
                assert (other.info.embedder, other.count()) == (turn[0], 2)
            turn.reverse()
        assert steps > 15
        left = [each.name for each in server.memory.get_collections().collections if "pictures" not in each.name]
        assert len(left) == 1, "no version is left over"


@pytest.mark.parametrize("fault", ["dropped", "lost"])
def test_an_answer_that_got_lost_at_each_step_of_an_export(fault: str, at_once: None, tmp_path: Path) -> None:
    with serving() as server:
        filled_at(server)
        with QdrantPageStore(server.url) as store:
            for went_through in at_each_step(server, fault, lambda: store.export(tmp_path / "index.zip") and None):
                assert went_through, "it only reads"
                with QdrantPageStore.import_from(tmp_path / "index.zip", ":memory:") as copy:
                    assert searched(copy) == [10, 20]


@pytest.mark.parametrize("fault", ["dropped", "lost"])
def test_an_answer_that_got_lost_at_each_step_of_an_import(fault: str, at_once: None, tmp_path: Path) -> None:
    """What failed leaves nothing that the next one would stumble over."""
    with serving() as server:
        filled_at(server)
        with QdrantPageStore(server.url) as store:
            store.export(tmp_path / "index.zip")
        copies = iter(range(1000))

        def work() -> None:
            name.append(f"copy{next(copies)}")
            QdrantPageStore.import_from(tmp_path / "index.zip", server.url, name[-1]).close()

        name: list[str] = []
        steps = 0
        for went_through in at_each_step(server, fault, work):
            steps += 1
            if not went_through:
                QdrantPageStore.import_from(tmp_path / "index.zip", server.url, name[-1]).close()
            with QdrantPageStore(server.url, name[-1]) as copy:
                assert copy.count() == 2
                assert searched(copy) == [10, 20]
                assert copy.info is not None
                assert copy.info.complete
        assert steps > 15


def filled_at(server: FakeQdrant) -> None:
    embedder, pages = CountingEmbedder(), some_pages()
    with QdrantPageStore(server.url) as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
