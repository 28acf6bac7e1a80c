"""Page pictures on a server: a collection beside the pages', found by every reader."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_qdrant import FakeQdrant, serving
from fakes import CountingEmbedder
from PIL import Image
from qdrant_client import QdrantClient, models

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.cli import main
from visrag_integrations.errors import PictureError, SettingError, StoreError, StoreFormatError
from visrag_integrations.ingestion import reindex
from visrag_integrations.store import kept_picture, picture_collection
from visrag_integrations.store.client_models import INFO_ID

WORDS = ("alpha", "beta", "gamma", "delta")
LATER = picture_collection.SPARED + 1


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with serving() as fake:
        yield fake


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the clock of writers is ahead."""
    ahead = [0.0]
    now = picture_collection.time.time
    monkeypatch.setattr(picture_collection.time, "time", lambda: now() + ahead[0])
    return ahead


def drawn(width: int, colour: str = "red") -> Image.Image:
    return Image.new("RGB", (width, 10), colour)


def some_pages(count: int = 3, doc_id: str = "d") -> list[Page]:
    """Page n says the n-th word and is 10 * n wide."""
    return [
        Page(doc_id, number, text=WORDS[number - 1], source=f"{doc_id}.pdf", picture=drawn(10 * number))
        for number in range(1, count + 1)
    ]


def fill(store: QdrantPageStore, pages: list[Page]) -> QdrantPageStore:
    embedder = CountingEmbedder()
    store.prepare(embedder)
    store.add_pages(pages, embedder.embed_pages(pages))
    return store


def search(store: QdrantPageStore, word: str, top_k: int = 5) -> list[Page]:
    return [hit.page for hit in store.search(CountingEmbedder().embed_queries([word])[0], top_k=top_k)]


def width_of(page: Page) -> int:
    return page.open_image().size[0]


def kept_on(server: FakeQdrant, name: str = "pages.pictures") -> list[dict[str, Any]]:
    """The payloads of the pictures."""
    records, _ = server.memory.scroll(name, limit=1000)
    return [record.payload["visrag"] for record in records if str(record.id) != INFO_ID and record.payload]


def requests_since(server: FakeQdrant, start: int, part: str = ".pictures/") -> list[str]:
    return [request for request in server.requests[start:] if part in request]


# --- in and out -----------------------------------------------------------------------------------------------------


def test_a_reader_that_is_told_nothing_finds_the_pictures(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url) as writer:
        fill(writer, some_pages())
        assert writer.count() == 3
    assert len(kept_on(server)) == 3
    with QdrantPageStore(server.url) as reader:
        assert reader.info is not None
        assert reader.info.pictures == "server"
        assert [width_of(page) for page in search(reader, "beta", top_k=1)] == [20]
        assert sorted(width_of(page) for page in reader.scroll()) == [10, 20, 30]
        assert reader.count() == 3


def test_a_new_picture_collection_has_no_vectors_and_the_shards_of_the_pages(server: FakeQdrant) -> None:
    options = {"shard_number": 3, "replication_factor": 2}
    with QdrantPageStore(server.url, server_options=options) as store:
        fill(store, some_pages(1))
    created = server.created["pages.pictures"]
    assert (created["shard_number"], created["replication_factor"], created["on_disk_payload"]) == (3, 2, True)
    assert not created["vectors"]


def test_a_given_client_keeps_pictures_for_every_store_on_it() -> None:
    client = QdrantClient(":memory:")
    fill(QdrantPageStore(client), some_pages())
    assert [width_of(page) for page in search(QdrantPageStore(client), "gamma", top_k=1)] == [30]


def test_pictures_open_after_their_store_was_closed(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url) as store:
        found = search(fill(store, some_pages()), "beta")
    assert [width_of(page) for page in found[:1]] == [20]
    (page,) = search(QdrantPageStore(server.url), "gamma", top_k=1)  # a store that nobody keeps
    assert width_of(page) == 30


def test_pictures_of_a_result_are_read_in_one_request_when_one_is_opened(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        before = len(server.requests)
        found = search(store, "beta")
        assert len(found) == 3
        assert requests_since(server, before) == []
        assert sorted(width_of(page) for page in found) == [10, 20, 30]
        assert requests_since(server, before) == ["POST /collections/pages.pictures/points"]
        before = len(server.requests)
        assert [width_of(page) for page in store.get_pages([page.id for page in found])] == [
            width_of(page) for page in found
        ]
        assert len(requests_since(server, before)) == 1


def test_pictures_are_written_before_their_pages(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
    written = [request for request in server.requests if request.startswith("PUT") and request.endswith("/points")]
    assert written[-2:] == ["PUT /collections/pages.pictures/points", "PUT /collections/pages/points"]


def test_pages_that_show_one_picture_keep_it_once_and_do_not_send_it_again(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, [Page("d", 1, text="alpha", picture=drawn(10)), Page("d", 2, text="beta", picture=drawn(10))])
        assert len(kept_on(server)) == 1
        before = len(server.requests)
        fill(store, [Page("e", 1, text="gamma", picture=drawn(10))])
        assert "PUT /collections/pages.pictures/points" not in server.requests[before:]


def test_many_pictures_go_in_several_requests(server: FakeQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_collection, "_SENT_AT_ONCE", 1000)  # two of these are more
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        assert server.requests.count("PUT /collections/pages.pictures/points") == 1 + 3  # the note of whose they are
        assert sorted(width_of(page) for page in store.scroll()) == [10, 20, 30]


def test_a_picture_that_is_too_large_is_named_before_it_is_sent(server: FakeQdrant) -> None:
    large = b"\xff\xd8\xff" + bytes(20_000_001)
    with QdrantPageStore(server.url) as store:
        with pytest.raises(PictureError, match=r"page 7 of 'big\.pdf' has 20\.0 MB.*20 MB"):
            fill(store, [Page("d", 7, text="alpha", source="big.pdf", picture=large)])
        assert not server.memory.collection_exists("pages.pictures")
        assert store.count() == 0


# --- gone -----------------------------------------------------------------------------------------------------------


def test_a_picture_goes_with_its_last_page(server: FakeQdrant, clock: list[float]) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, [*some_pages(2), Page("e", 1, text="gamma", source="e.pdf", picture=drawn(10))])
        clock[0] = LATER
        store.delete(doc_id="d")
        assert [len(kept_on(server)), [width_of(page) for page in store.scroll()]] == [1, [10]]
        store.delete(doc_id="e")
        assert kept_on(server) == []


def test_what_was_saved_just_now_is_spared_and_goes_later(server: FakeQdrant, clock: list[float]) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages(2))
        store.delete(doc_id="d")
        assert [picture["due"] > 0 for picture in kept_on(server)] == [True, True]
        fill(store, some_pages(1, "again"))  # shows the first picture: it is not due any more
        clock[0] = LATER
        store.delete(doc_id="nothing of that name")
        assert [picture["due"] for picture in kept_on(server)] == [0]
        assert [width_of(page) for page in store.scroll()] == [10]


def test_a_picture_on_the_list_that_a_page_shows_stays(server: FakeQdrant, clock: list[float]) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages(1))
        (picture,) = kept_on(server)
        store._pictures.delete([picture["reference"]])  # another writer, before this one's page was there
        clock[0] = LATER
        fill(QdrantPageStore(server.url), some_pages(2)[1:])
        assert [picture["due"] for picture in kept_on(server)] == [0, 0]
        assert sorted(width_of(page) for page in store.scroll()) == [10, 20]


def test_a_replaced_picture_goes(server: FakeQdrant, clock: list[float]) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages(1))
        clock[0] = LATER
        fill(store, [Page("d", 1, text="alpha", source="d.pdf", picture=drawn(70))])
        assert len(kept_on(server)) == 1
        assert [width_of(page) for page in store.scroll()] == [70]


def test_recreate_takes_the_pictures_along(server: FakeQdrant, clock: list[float]) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        clock[0] = LATER
        store.prepare(CountingEmbedder(), recreate=True)
        assert (kept_on(server), store.count()) == ([], 0)


# --- the whole index ------------------------------------------------------------------------------------------------


def test_export_and_import_take_them_along_both_ways(server: FakeQdrant, tmp_path: Path) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        assert store.export(tmp_path / "out.visrag") == 3
    with QdrantPageStore.import_from(tmp_path / "out.visrag", tmp_path / "folder") as folder:
        assert sorted(width_of(page) for page in folder.scroll()) == [10, 20, 30]
        folder.export(tmp_path / "back.visrag")
    with QdrantPageStore.import_from(tmp_path / "back.visrag", server.url, "other"):
        pass
    assert len(kept_on(server, "other.pictures")) == 3
    with QdrantPageStore(server.url, "other") as reader:
        assert reader.info is not None
        assert (reader.info.pictures, reader.info.complete) == ("server", True)
        assert sorted(width_of(page) for page in reader.scroll()) == [10, 20, 30]


def test_an_export_without_the_picture_collection_fails(server: FakeQdrant, tmp_path: Path) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        server.memory.delete_collection("pages.pictures")
        with pytest.raises(StoreError, match=r"pages\.pictures"):
            store.export(tmp_path / "out.visrag")
    assert not (tmp_path / "out.visrag").exists()


class Other(CountingEmbedder):
    name, dimension = "other", 5
    words = (*WORDS, "epsilon")


def test_a_new_version_shares_the_pictures(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        for embedder in (Other(), CountingEmbedder()):
            report = reindex(store, embedder=embedder, progress=False)
            assert (report.added, report.failed) == (3, ())
            names = {each.name for each in server.memory.get_collections().collections}
            assert {name for name in names if name.endswith(".pictures")} == {"pages.pictures"}
            assert sorted(width_of(page) for page in store.scroll()) == [10, 20, 30]
    with QdrantPageStore(server.url) as reader:
        assert reader.info is not None
        assert reader.info.pictures == "server"
        assert sorted(width_of(page) for page in reader.scroll()) == [10, 20, 30]


# --- what is remembered ---------------------------------------------------------------------------------------------


def test_a_folder_is_used_only_where_it_is_named(server: FakeQdrant, tmp_path: Path) -> None:
    with QdrantPageStore(server.url, pictures=tmp_path / "kept") as store:
        fill(store, some_pages(1))
    assert not server.memory.collection_exists("pages.pictures")
    (record,) = server.memory.retrieve("pages", [INFO_ID])
    assert str(tmp_path) not in json.dumps(record.payload)
    with QdrantPageStore(server.url) as untold:
        assert untold.info is not None
        assert untold.info.pictures == "folder"
        (page,) = untold.scroll()
        with pytest.raises(PictureError, match=r"in a folder.*pictures="):
            page.open_image()
        with pytest.raises(SettingError, match=r"in a folder.*pictures="):
            fill(untold, some_pages(2))
        assert untold.count() == 1
        fill(untold, [Page("text", 1, text="beta")])  # has no picture to lose
    with QdrantPageStore(server.url, pictures=tmp_path / "kept") as told:
        assert {width_of(page) for page in told.scroll() if page.picture is not None} == {10}


def test_a_url_is_remembered_as_one(server: FakeQdrant) -> None:
    pytest.importorskip("fsspec")
    with QdrantPageStore(server.url, pictures="memory://visrag-server-pictures") as store:
        fill(store, some_pages(1))
        assert [width_of(page) for page in store.scroll()] == [10]
    with QdrantPageStore(server.url) as untold, pytest.raises(PictureError, match="below a URL"):
        next(untold.scroll()).open_image()


def test_none_is_remembered(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url, pictures=False) as store:
        fill(store, some_pages(1))
    with QdrantPageStore(server.url) as again:
        fill(again, some_pages(2))
        assert [page.picture for page in again.scroll()] == [None, None]
    assert not server.memory.collection_exists("pages.pictures")
    with QdrantPageStore(server.url, pictures=True) as wanted:
        fill(wanted, some_pages(2))
    with QdrantPageStore(server.url) as reader:
        assert sorted(width_of(page) for page in reader.scroll()) == [10, 20]


@pytest.mark.parametrize(("first", "then"), [(None, "folder"), ("folder", True)])
def test_another_kind_of_place_than_it_remembers_is_refused(
    server: FakeQdrant, tmp_path: Path, first: str | None, then: str | bool
) -> None:
    places = {"folder": tmp_path / "kept"}
    with QdrantPageStore(server.url, pictures=places.get(first or "")) as store:
        fill(store, some_pages(1))
    with pytest.raises(SettingError, match="keeps its pictures"):
        QdrantPageStore(server.url, pictures=places.get(str(then), True))


def test_a_collection_from_before_goes_on_without(server: FakeQdrant, caplog: pytest.LogCaptureFixture) -> None:
    with QdrantPageStore(server.url, pictures=False) as store:
        fill(store, some_pages(1))
        assert store.info is not None
        described = store.info.as_dict()
        del described["pictures"]
        store._engine.save_info(described)
    with QdrantPageStore(server.url) as old, caplog.at_level(logging.WARNING):
        fill(old, some_pages(2))
        assert [page.picture for page in search(old, "beta")] == [None, None]
    assert "keeps no page pictures" in caplog.text
    assert not server.memory.collection_exists("pages.pictures")
    with QdrantPageStore(server.url, pictures=True) as told:
        fill(told, some_pages(2))
    with QdrantPageStore(server.url) as reader:
        assert sorted(width_of(page) for page in reader.scroll()) == [10, 20]


@pytest.mark.parametrize("kind", ["disk", 7, ["server"], "/etc"])
def test_an_unknown_kind_is_refused(server: FakeQdrant, kind: Any) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages(1))
        assert store.info is not None
        store._engine.save_info(store.info.as_dict() | {"pictures": kind})
    with pytest.raises(StoreFormatError, match="pictures"):
        QdrantPageStore(server.url)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pages.pictures", "a.pictures", "pages.pictures.pictures"])
def test_names_of_picture_collections_are_refused(server: FakeQdrant, name: str) -> None:
    for location in (server.url, QdrantClient(":memory:"), ":memory:"):
        with pytest.raises(SettingError, match=r"\.pictures"):
            QdrantPageStore(location, name)
    assert server.requests == []


def test_a_collection_of_others_with_that_name_is_left_alone(server: FakeQdrant) -> None:
    server.memory.create_collection(
        "pages.pictures", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT)
    )
    server.memory.upsert("pages.pictures", [models.PointStruct(id=1, vector=[1.0, 2.0], payload={"theirs": True})])
    with QdrantPageStore(server.url) as store, pytest.raises(StoreError, match="did not write"):
        fill(store, some_pages(1))
    (record,) = server.memory.scroll("pages.pictures")[0]
    assert record.payload == {"theirs": True}


def test_missing_pictures_say_so(server: FakeQdrant) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages(2))
        gone = next(record.id for record in server.memory.scroll("pages.pictures")[0] if str(record.id) != INFO_ID)
        server.memory.delete("pages.pictures", [gone])
        opened, failed = [], []
        for page in store.scroll():
            try:
                opened.append(width_of(page))
            except PictureError as err:
                failed.append(str(err))
        assert (len(opened), len(failed)) == (1, 1)
        assert "Index its document again" in failed[0]
        server.memory.delete_collection("pages.pictures")
        with pytest.raises(PictureError, match=r"pages\.pictures"):
            search(store, "alpha")[0].open_image()


@pytest.mark.parametrize("written", [None, 7, "no base64!", "YWJj", {"a": 1}])
def test_a_picture_that_is_none_is_a_picture_error(server: FakeQdrant, written: Any) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages(1))
        (record,) = (each for each in server.memory.scroll("pages.pictures")[0] if str(each.id) != INFO_ID)
        server.memory.set_payload("pages.pictures", {"picture": written}, points=[record.id], key="visrag")
        with pytest.raises(PictureError):
            search(store, "alpha")[0].open_image()


@pytest.mark.parametrize("reference", ["/etc/passwd", "../x.jpg", "http://a/b.jpg", "", 7])
def test_hostile_references_open_nothing(server: FakeQdrant, reference: Any) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages(2))
        (first,) = search(store, "alpha", top_k=1)
        server.memory.set_payload("pages", {"image": reference}, points=[first.id], key="metadata")
        found = {page.number: page for page in store.scroll()}
        with pytest.raises(PictureError):
            found[1].open_image()
        assert width_of(found[2]) == 20
        assert store.delete(doc_id="d") == 2


# --- sent to other processes ----------------------------------------------------------------------------------------


def test_pages_are_copied_and_pickled_without_client_address_or_key(server: FakeQdrant) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used")
        opened = QdrantPageStore(server.url, api_key="sesame-open")
    with opened as store:
        fill(store, some_pages())
        (page,) = search(store, "beta", top_k=1)
        pickled = pickle.dumps(page)
        for secret in (b"sesame", b"127.0.0.1", server.url.rpartition(":")[2].encode(), b"Client"):
            assert secret not in pickled
        assert width_of(copy.deepcopy(page)) == 20
        assert width_of(pickle.loads(pickled)) == 20  # a store is open on it
    with pytest.raises(PictureError, match="keep it open"):
        pickle.loads(pickled).open_image()
    with QdrantPageStore(server.url):
        assert width_of(pickle.loads(pickled)) == 20


def test_a_process_without_a_store_says_what_to_do(server: FakeQdrant, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        pickled = pickle.dumps(search(store, "beta", top_k=1)[0])
        monkeypatch.setattr(kept_picture, "open_collections", set())  # as in a process that has just started
        with pytest.raises(PictureError, match=r"QdrantPageStore\(url, 'pages'\)"):
            pickle.loads(pickled).open_image()


# --- the command line and the service -------------------------------------------------------------------------------


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    from drawing import draw_pdf

    (tmp_path / "documents").mkdir()
    draw_pdf(tmp_path / "documents" / "violin.pdf", ["a violin has four strings"])
    return tmp_path / "documents"


def test_index_and_ask_show_pictures_on_a_server(server: FakeQdrant, notes: Path, tmp_path: Path) -> None:
    at = ["--index", server.url, "--preset", "cpu"]
    assert main(["index", str(notes), *at, "--workers", "1"]) == 0
    assert len(kept_on(server)) == 1
    assert main(["ask", "How many strings has a violin?", *at, "--html", str(tmp_path / "report.html")]) == 0
    assert "data:image/" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_service_gives_pictures_on_a_server(server: FakeQdrant) -> None:
    testclient = pytest.importorskip("fastapi.testclient")
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.servers.http import create_app

    with QdrantPageStore(server.url) as store:
        fill(store, some_pages())
        client = testclient.TestClient(create_app(PageRetriever(CountingEmbedder(), store)))
        ranked = client.get("/search", params={"queries": ["beta"]}).json()[0]
        shown = client.get(ranked[0]["image_file"])
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")


@pytest.mark.parametrize(
    ("place", "kind", "on_server"), [("none", "none", 0), ("server", "server", 1), ("folder", "folder", 0)]
)
def test_pictures_on_the_command_line(
    server: FakeQdrant, notes: Path, tmp_path: Path, place: str, kind: str, on_server: int
) -> None:
    named = str(tmp_path / "kept") if place == "folder" else place
    command = ["index", str(notes), "--index", server.url, "--preset", "cpu", "--workers", "1", "--pictures", named]
    assert main(command) == 0
    with QdrantPageStore(server.url) as store:
        assert store.info is not None
        assert store.info.pictures == kind
    assert server.memory.collection_exists("pages.pictures") == bool(on_server)
    assert bool(list(tmp_path.glob("kept/**/*.jpg"))) == (place == "folder")


def test_pictures_on_a_server_are_not_for_a_folder(
    notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", str(notes), "--index", str(tmp_path / "index"), "--pictures", "server"]) != 0
    assert "--pictures server" in capsys.readouterr().err


# --- when a program goes to another folder ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_store_that_is_sent_elsewhere_finds_the_same_folder(
    server: FakeQdrant, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with QdrantPageStore(server.url, pictures=kind("pics")) as store:
        fill(store, some_pages(2))
        monkeypatch.chdir(tmp_path / "elsewhere")
        for sent in (store, store.of_tenant("acme")):
            with pickle.loads(pickle.dumps(sent)) as there:
                assert there.tenant == sent.tenant
                there.prepare(CountingEmbedder())
                there.add_pages(some_pages(3)[2:], CountingEmbedder().embed_pages(some_pages(3)[2:]))
                assert {width_of(page) for page in there.scroll()} >= {30}
        assert sorted(width_of(page) for page in store.scroll()) == [10, 20, 30, 30]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_folder_above_what_a_link_leads_to(
    server: FakeQdrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index of before, whose pictures were saved by the path as it was typed."""
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    monkeypatch.chdir(tmp_path)
    with QdrantPageStore(server.url, pictures="link/../pics") as store:
        fill(store, some_pages(1))
        assert [path.name for path in (tmp_path / "disk" / "pics").iterdir()] == ["pages"]
        assert [width_of(page) for page in store.scroll()] == [10]
    assert not (tmp_path / "pics").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_the_pictures_of_a_folder_lie_beside_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    monkeypatch.chdir(tmp_path)
    with QdrantPageStore("link/../index") as store:
        fill(store, some_pages(1))
    (shard,) = tmp_path.rglob("shard")
    assert (shard.parent.parent / "pictures").is_dir()
    with QdrantPageStore(shard.parent.parent) as store:
        assert [width_of(page) for page in store.scroll()] == [10]
