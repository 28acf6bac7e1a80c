"""Keys that may not do everything, and what is missing or wrong on a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_qdrant import FakeQdrant, Key, serving
from fakes import CountingEmbedder
from PIL import Image

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import PictureError, StoreError, StoreFormatError, StoreMismatchError

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
        assert store.documents()[0].pages == 2


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
