"""Several processes prepare, fill and re-index one collection on a server: its versions, its alias, its description."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_qdrant import FakeQdrant, Key, serving
from letters import NEW, OLD, TEXTS, HookedClient, Letters, SharedMemory, client_of, filled, written
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException

from visrag_integrations import Page, QdrantPageStore, load_embedder
from visrag_integrations.errors import SettingError, StoreError, StoreFormatError, StoreMismatchError
from visrag_integrations.ingestion import reindex
from visrag_integrations.ingestion.retry import Retry
from visrag_integrations.store.client_models import INFO_ID
from visrag_integrations.store.info import SERVER_FORMAT
from visrag_integrations.store.version_names import is_version

TESTS = Path(__file__).parent
QUICK = Retry(limit=3, first_wait=0.01, longest_wait=0.02)


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with serving() as fake:
        yield fake


def opened(location: Any, **settings: Any) -> QdrantPageStore:
    return QdrantPageStore(location, **{"pictures": False, **settings})


def collections(client: QdrantClient) -> list[str]:
    return sorted(each.name for each in client.get_collections().collections)


def aliases(client: QdrantClient) -> dict[str, str]:
    return {each.alias_name: each.collection_name for each in client.get_aliases().aliases}


def reserved(client: QdrantClient, name: str = "pages") -> dict[str, Any]:
    """What the reserved point says."""
    (point,) = client.retrieve(name, [INFO_ID])
    described: dict[str, Any] = json.loads((point.payload or {})["visrag"]["info"])
    return described


def best(store: QdrantPageStore, embedder: Letters, text: str) -> int:
    return store.search(embedder.embed_queries([text])[0], top_k=1)[0].page.number


# --- a new collection -----------------------------------------------------------------------------------------------


def test_a_new_collection_is_a_version_behind_an_alias_and_described_as_it_is_made(server: FakeQdrant) -> None:
    with filled(server.url, server_options={"metadata": {"owner": "ada"}}) as store:
        assert best(store, OLD, "violin strings") == 1
    assert collections(server.memory) == ["pages.v1"]
    assert aliases(server.memory) == {"pages": "pages.v1"}
    metadata = server.made["pages.v1"].metadata
    assert metadata["owner"] == "ada"
    assert json.loads(metadata["visrag"])["embedder"] == "letters-a"
    # Versions of this library from before there were aliases read the reserved point, and refuse what is newer.
    assert reserved(server.memory)["format_version"] == SERVER_FORMAT == 3
    points = server.requests.index("PUT /collections/pages.v1/points")
    assert points < server.requests.index("POST /collections/aliases"), "described before anybody can open it"
    with pytest.raises(SettingError, match=r"'visrag'"):
        opened(server.url, server_options={"metadata": {"visrag": "mine"}})


def at_once(work: list[Callable[[], None]]) -> list[str]:
    """Everything at the same moment; gives what went wrong."""
    faults: list[str] = []
    together = threading.Barrier(len(work))

    def run(one: Callable[[], None]) -> None:
        try:
            together.wait()
            one()
        except Exception as err:  # noqa: BLE001
            faults.append(f"{type(err).__name__}: {err}")

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


@pytest.mark.parametrize("takes", [0.0, 0.2])
def test_eight_prepare_and_fill_one_collection(takes: float) -> None:
    """The nodes of a cluster may need some time for each creation."""
    for _ in range(5 if not takes else 1):
        with serving() as server:
            server.cluster.creation_takes = takes

            def worker(name: str, url: str) -> None:
                with filled(url, pages=written(doc_id=name)):
                    pass

            faults = at_once([lambda name=name: worker(name, server.url) for name in "abcdefgh"])
            assert faults == []
            server.cluster.creation_takes = 0.0
            assert collections(server.memory) == ["pages.v1"]
            assert not [request for request in server.requests if request.startswith("DELETE")]
            with opened(server.url) as store:
                assert store.count() == 8 * len(TEXTS)


@pytest.mark.slow
def test_eight_processes_prepare_and_fill_one_collection(server: FakeQdrant) -> None:
    code = "import sys; from letters import filled, written; filled(sys.argv[1], pages=written(doc_id=sys.argv[2]))"
    command = [sys.executable, "-W", "error", "-c", code, server.url]
    workers = [subprocess.Popen([*command, name], cwd=TESTS, stderr=subprocess.PIPE) for name in "abcdefgh"]
    said = [worker.communicate()[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, said
    with opened(server.url) as store:
        assert store.count() == 8 * len(TEXTS)


def requests_of_preparing() -> int:
    """How many requests it takes to prepare and fill a collection."""
    with serving() as server:
        filled(server.url).close()
        return len(server.requests)


def test_what_was_left_half_made_is_finished_at_whatever_request_its_maker_died() -> None:
    for number in range(1, requests_of_preparing() + 1):
        with serving() as server:
            server.plan = lambda count, *_, died=number: "403" if count >= died else None
            with pytest.raises(StoreError):
                filled(server.url)
            server.plan = lambda *_: None
            with filled(server.url) as store:
                assert (store.count(), best(store, OLD, "the moon")) == (4, 3)
            assert collections(server.memory) == ["pages.v1"], number
            assert aliases(server.memory) == {"pages": "pages.v1"}
            indexed = set(server.made["pages.v1"].indexes)
            assert {"metadata.doc_id", "visrag.tenant"} <= indexed, "indexes that were missing are made"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["lost", "dropped"])
def test_an_answer_may_get_lost_at_any_request(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visrag_integrations.store.patience._WAITS_S", (0.01, 0.01))
    for number in range(1, requests_of_preparing() + 1):
        with serving() as server:
            server.plan = lambda count, *_, lost=number: fault if count == lost else None
            with filled(server.url) as store:
                assert store.count() == 4, number
            assert collections(server.memory) == ["pages.v1"], number


@pytest.mark.slow
def test_a_slower_maker_finds_what_came_between(server: FakeQdrant) -> None:
    """At any request of preparing, another process prepares, fills, and indexes again: numbers only grow."""

    def others() -> None:
        with filled(server.url) as store:
            reindex(store, embedder=NEW, progress=False)

    with client_of(server) as counting:
        client = HookedClient(-1, lambda: None, server.url)
        opened(client, collection="count").prepare(OLD)
        total = client.calls
        for collection in [*collections(counting)]:
            counting.delete_collection(collection)
    for number in range(2, total + 1):
        client = HookedClient(number, others, server.url)
        with contextlib.suppress(StoreMismatchError):  # it finds the other embedder, and says so
            opened(client).prepare(OLD)
        with opened(server.url) as now:
            assert (now.count(), now.info.embedder if now.info else "") == (4, "letters-b"), number
            assert best(now, NEW, "the moon") == 3
            now._engine.drop()
        for collection in collections(server.memory):
            assert server.memory.count(collection).count <= 1, "no page lies in a version that nothing means"
            server.memory.delete_collection(collection)
        client.close()


# --- collections of others ------------------------------------------------------------------------------------------


def test_pages_of_others_are_refused_and_stay(server: FakeQdrant) -> None:
    server.memory.create_collection(
        "pages", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE)
    )
    server.memory.upsert("pages", [models.PointStruct(id=1, vector=[1, 0, 0, 0])])
    with pytest.raises(StoreFormatError, match="did not write"):
        opened(server.url)
    assert server.memory.count("pages").count == 1


def test_somebody_elses_collection_of_a_versions_name_is_passed_over(server: FakeQdrant) -> None:
    theirs = models.VectorParams(size=4, distance=models.Distance.COSINE)
    server.memory.create_collection("pages.v1", vectors_config=theirs)
    server.memory.upsert("pages.v1", [models.PointStruct(id=1, vector=[1, 0, 0, 0])])
    with filled(server.url) as store:
        assert store.count() == 4
    assert aliases(server.memory) == {"pages": "pages.v2"}
    assert server.memory.count("pages.v1").count == 1


def administered(server: FakeQdrant, size: int = 26, **changes: Any) -> None:
    """An empty collection, made in advance."""
    with client_of(server) as client:
        client.create_collection(
            "pages",
            **{
                "vectors_config": {"page": models.VectorParams(size=size, distance=models.Distance.COSINE)},
                "sparse_vectors_config": {"text": models.SparseVectorParams(modifier=models.Modifier.IDF)},
                **changes,
            },
        )


def test_an_administrators_empty_collection_with_the_right_vectors_is_used(server: FakeQdrant) -> None:
    administered(server)
    with opened(server.url) as reader:
        assert reader.info is None
        assert reader.search(OLD.embed_queries(["x"])[0]) == []
    faults = at_once([lambda name=name: filled(server.url, pages=written(doc_id=name)).close() for name in "abc"])
    assert faults == []
    with opened(server.url) as store:
        assert (store.count(), best(store, OLD, "the moon")) == (12, 3)
    assert collections(server.memory) == ["pages"]
    with opened(server.url) as store, pytest.raises(StoreMismatchError, match="letters-a"):
        store.prepare(NEW)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 27}, r"'page' has the size 27 instead of 26"),
        ({"vectors_config": {}}, r"no vectors named 'page'"),
        ({"vectors_config": {"page": models.VectorParams(size=26, distance=models.Distance.DOT)}}, "distance Dot"),
        ({"sparse_vectors_config": {}}, r"no vectors named 'text'"),
        ({"sparse_vectors_config": {"text": models.SparseVectorParams()}}, "modifier None instead of idf"),
        (
            {
                "vectors_config": {
                    "page": models.VectorParams(
                        size=26,
                        distance=models.Distance.COSINE,
                        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
                    )
                }
            },
            "one vector a page",
        ),
    ],
)
def test_an_administrators_collection_with_other_vectors_is_refused_by_name(
    server: FakeQdrant, changes: dict[str, Any], said: str
) -> None:
    administered(server, **changes)
    with opened(server.url) as store, pytest.raises(StoreMismatchError, match=said):
        store.prepare(OLD)
    assert server.memory.count("pages").count == 0


@pytest.mark.parametrize("name", ["pages.v1", "a.b.v12", "pages.v99"])
def test_names_of_versions_are_refused(server: FakeQdrant, name: str) -> None:
    filled(server.url).close()
    with pytest.raises(SettingError, match=r"'\.v' and a number"):
        opened(server.url, collection=name)
    assert collections(server.memory) == ["pages.v1"]


def test_names_that_only_look_like_versions_are_allowed(server: FakeQdrant, tmp_path: Path) -> None:
    for name in ("pages.v0", "pages.version2", "v1", "pages.v1.old", "pages-v1"):
        assert not is_version(name)
        filled(server.url, collection=name).close()
    QdrantPageStore(tmp_path / "index", collection="pages.v1").close()  # folders have no aliases


# --- collections of today -------------------------------------------------------------------------------------------


def made_before(client: QdrantClient, name: str = "pages", alias: str = "") -> None:
    """A filled collection as this library made it before there were versions: no metadata, no mark, format 1."""
    filled(client, collection="new").close()
    described = reserved(client, "new") | {"format_version": 1}
    described.pop("maker")
    records, _ = client.scroll("new.v1", with_payload=True, with_vectors=True, limit=100)
    client.create_collection(
        name,
        vectors_config={"page": models.VectorParams(size=26, distance=models.Distance.COSINE)},
        sparse_vectors_config={"text": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    for record in records:
        payload = record.payload or {}
        if str(record.id) == INFO_ID:
            payload["visrag"]["info"] = json.dumps(described)
        else:
            del payload["visrag"]["mark"]
        client.upsert(name, [models.PointStruct(id=record.id, vector=record.vector or {}, payload=payload)])
    client.delete_collection("new.v1")
    if alias:
        create = models.CreateAlias(collection_name=name, alias_name=alias)
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])


@pytest.mark.parametrize(("name", "alias"), [("pages", ""), ("pages.next", "pages"), ("pages.other", "pages")])
def test_a_collection_of_today_goes_on_and_becomes_a_version_with_the_next_re_index(
    server: FakeQdrant, name: str, alias: str
) -> None:
    with client_of(server) as client:
        made_before(client, name, alias)
    before = len(server.requests)
    with opened(server.url) as store:
        assert (store.count(), best(store, OLD, "the moon")) == (4, 3)
        assert store.info is not None
        assert store.info.format_version == 1
        changing = [each for each in server.requests[before:] if each.startswith(("PUT", "PATCH", "DELETE"))]
        assert changing == [], "readers never write"
        store.prepare(OLD)
        assert json.loads(server.made[name].metadata["visrag"])["embedder"] == "letters-a"
        more = written(["quartz"], "more")
        store.add_pages(more, OLD.embed_pages(more))
        assert best(store, OLD, "quartz") == 1
        assert reindex(store, embedder=NEW, progress=False).pages == 5
        assert (store.count(), best(store, NEW, "the moon")) == (5, 3)
    assert collections(server.memory) == ["pages.v1"]
    assert aliases(server.memory) == {"pages": "pages.v1"}


def test_a_collection_of_today_with_the_name_of_a_version_goes_on(server: FakeQdrant) -> None:
    with client_of(server) as client:
        made_before(client, "pages.v2")
    with opened(server.url, collection="pages.v2") as store:
        assert best(store, OLD, "the moon") == 3


def test_a_re_index_of_before_that_died_between_two_requests_is_mended(server: FakeQdrant) -> None:
    with client_of(server) as client:
        made_before(client, "pages.next")
    with opened(server.url) as store:
        with pytest.raises(StoreError, match=r"lost its alias: 'pages\.next'"):
            store.search(OLD.embed_queries(["x"])[0])
        store.prepare(OLD)
        assert best(store, OLD, "the moon") == 3


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_keys_that_may_only_read_write_nothing(server: FakeQdrant) -> None:
    filled(server.url).close()
    server.keys = {"reader": Key("read"), "writer": Key("write")}
    with opened(server.url, api_key="reader") as store:
        assert best(store, OLD, "the moon") == 3
        with pytest.raises(StoreError, match="may not write"):
            store.add_pages(written(), OLD.embed_pages(written()))
    with opened(server.url, collection="others", api_key="reader") as store, pytest.raises(StoreError):
        store.prepare(OLD)
    with opened(server.url, api_key="writer") as store:  # later changes need no right to manage
        store.prepare(OLD, {"backend": "pdfium"})
    assert reserved(server.memory)["reader"] == {"backend": "pdfium"}


# --- without an alias -----------------------------------------------------------------------------------------------


def lose_alias(server: FakeQdrant) -> None:
    gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="pages"))
    server.memory.update_collection_aliases([gone])


def test_a_lost_alias_is_set_by_a_writer_and_a_reader_is_told_the_command(server: FakeQdrant) -> None:
    filled(server.url).close()
    lose_alias(server)
    with opened(server.url) as reader, pytest.raises(StoreError) as caught:
        reader.search(OLD.embed_queries(["the moon"])[0])
    with opened(server.url) as reader:
        for read in (reader.count, reader.documents, lambda: list(reader.scroll())):
            with pytest.raises(StoreError, match="lost its alias"):
                read()
    said = str(caught.value)
    command = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert said.count("POST /collections/aliases") == 1
    assert aliases(server.memory) == {}
    with opened(server.url) as writer:
        writer.prepare(OLD)
        assert (writer.count(), best(writer, OLD, "the moon")) == (4, 3)
    lose_alias(server)
    with client_of(server) as client:  # the command does what it says
        client.update_collection_aliases(models.ChangeAliasesOperation(**command).actions)
    with opened(server.url) as reader:
        assert best(reader, OLD, "the moon") == 3


def test_a_re_index_sets_a_lost_alias_too(server: FakeQdrant) -> None:
    filled(server.url).close()
    lose_alias(server)
    with opened(server.url) as store:
        assert reindex(store, embedder=NEW, progress=False).pages == 4
        assert best(store, NEW, "the moon") == 3
    assert collections(server.memory) == ["pages.v2"]


def test_a_version_that_is_not_whole_is_not_taken_for_the_lost_one(server: FakeQdrant) -> None:
    with filled(server.url) as store, store.next_version([NEW]) as staged:
        staged.prepare(NEW)
        staged.add_pages(written()[:1], NEW.embed_pages(written()[:1]))
    lose_alias(server)
    with opened(server.url) as writer:
        writer.prepare(OLD)
        assert (writer.count(), best(writer, OLD, "the moon")) == (4, 3)


def test_with_two_that_may_be_meant_somebody_must_say_which(server: FakeQdrant) -> None:
    with filled(server.url) as store:
        reindex(store, embedder=NEW, progress=False)
    lose_alias(server)
    filled(server.url, collection="x").close()
    with client_of(server) as client:  # a snapshot of the first version is back too
        metadata = {"visrag": server.made["x.v1"].metadata["visrag"]}
        client.create_collection("pages.v1", vectors_config={}, metadata=metadata)
    with (
        opened(server.url) as store,
        pytest.raises(StoreError, match=r"2 collections may be meant: pages\.v1, pages\.v2"),
    ):
        store.prepare(NEW)
    assert aliases(server.memory) == {"x": "x.v1"}


# --- re-index -------------------------------------------------------------------------------------------------------


def whole(client: QdrantClient, *names: str) -> None:
    """The collection holds every page, and vectors of the embedder that it names."""
    store = opened(client)
    assert store.info is not None
    assert store.info.embedder in names
    assert store.count() == len(TEXTS)
    embedder = {each.name: each for each in (OLD, NEW, THIRD)}[store.info.embedder]
    for number, text in enumerate(TEXTS, 1):
        assert best(store, embedder, text) == number
    assert "staged" not in reserved(client)
    assert aliases(client)["pages"] in collections(client)


THIRD = Letters("letters-c", turn=17)


def calls_of_a_re_index() -> int:
    client = SharedMemory(QdrantClient(":memory:"))
    store = filled(client)
    before = client.calls
    reindex(store, embedder=NEW, progress=False, retry=QUICK)
    return client.calls - before


@pytest.mark.parametrize("other", [NEW, THIRD], ids=["same", "another"])
def test_two_re_indexes_overlap_at_every_step(other: Letters) -> None:
    total = calls_of_a_re_index()
    assert total > 15
    for number in range(1, total + 1):
        memory = QdrantClient(":memory:")
        filled(memory)

        def second(memory: QdrantClient = memory) -> None:
            reindex(opened(memory), embedder=other, progress=False, retry=QUICK)

        client = SharedMemory(memory)
        store = opened(client)
        client._calls, client._at, client._hook = 0, number, second
        refused = ""
        try:
            report = reindex(store, embedder=NEW, progress=False, retry=QUICK)
            assert report.pages == len(TEXTS), number
        except StoreError as err:
            refused = str(err)
        if refused:
            assert other is not NEW, f"request {number}: {refused}"
            assert "again" in refused
        whole(memory, other.name if refused else NEW.name, other.name)
        assert len(collections(memory)) <= (1 if other is NEW else 2), number


def test_the_second_run_finds_the_switch_done_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    memory = QdrantClient(":memory:")
    store = filled(memory)

    class Interrupted(Letters):
        def embed_pages(self, pages: Any) -> Any:
            pages = list(pages)
            reindex(opened(memory), embedder=Letters("letters-b", turn=9), progress=False)
            return super().embed_pages(pages)

    report = reindex(store, embedder=Interrupted("letters-b", turn=9), progress=False)
    assert (report.pages, report.added, report.unchanged, report.embedded) == (4, 0, 4, 0)
    assert "another run of this re-index was first" in caplog.text
    whole(memory, "letters-b")
    assert collections(memory) == ["pages.v2"]


def test_runs_with_different_embedders_do_not_mix(server: FakeQdrant) -> None:
    filled(server.url).close()
    faults: list[str] = []

    def run(embedder: Letters) -> None:
        try:
            with opened(server.url) as store:
                reindex(store, embedder=embedder, progress=False, retry=QUICK)
        except StoreError as err:
            faults.append(str(err))

    assert at_once([lambda each=each: run(each) for each in (NEW, THIRD, NEW, THIRD)]) == []
    assert all("again" in fault for fault in faults), faults
    with client_of(server) as client:
        whole(client, "letters-b", "letters-c")


def test_no_search_meets_a_moment_without_the_collection(server: FakeQdrant) -> None:
    filled(server.url).close()
    ended, errors, searches = threading.Event(), [], []

    def search() -> None:
        with opened(server.url) as store:
            while not ended.is_set():
                try:
                    searches.append(store.search(None, text="moon", mode="lexical", top_k=1)[0].page.number)
                except Exception as err:  # noqa: BLE001
                    errors.append(str(err))

    thread = threading.Thread(target=search)
    thread.start()
    while not searches and not errors:
        time.sleep(0.01)
    with opened(server.url) as store:
        for embedder in (NEW, OLD, NEW):
            reindex(store, embedder=embedder, progress=False)
    ended.set()
    thread.join()
    assert errors == []
    assert set(searches) == {3}
    assert collections(server.memory) == ["pages.v4"]


def test_a_re_index_that_dies_at_any_request_is_gone_on_with() -> None:
    total = calls_of_a_re_index()
    for number in range(1, total + 1):
        memory = QdrantClient(":memory:")
        filled(memory)

        def die() -> None:
            raise KeyboardInterrupt

        client = SharedMemory(memory)
        store = opened(client)
        client._calls, client._at, client._hook = 0, number, die
        with pytest.raises(KeyboardInterrupt):
            reindex(store, embedder=NEW, progress=False, retry=QUICK)
        again = Letters("letters-b", turn=9)
        reindex(opened(memory), embedder=again, progress=False)
        whole(memory, "letters-b")
        left = [each for each in collections(memory) if each != aliases(memory)["pages"]]
        assert left in ([], ["pages.v1"]), "at most the version before, where it died before that was removed"


@pytest.mark.parametrize("arrives", [False, True], ids=["lost request", "lost answer"])
def test_a_time_out_at_any_request_of_a_re_index_loses_nothing(arrives: bool) -> None:
    def time_out() -> None:
        raise ResponseHandlingException(httpx.ReadTimeout("timed out"))

    for number in range(1, calls_of_a_re_index() + 1):
        memory = QdrantClient(":memory:")
        filled(memory)
        client = SharedMemory(memory)
        store = opened(client)
        client._calls, client._at, client._hook = 0, number, lambda: None
        if arrives:
            client._hook_after = time_out
        else:
            client._hook = time_out
        try:
            report = reindex(store, embedder=NEW, progress=False, retry=QUICK)
            assert report.pages == len(TEXTS), number
        except StoreError:  # those requests that are not tried again: then the command is repeated
            reindex(opened(memory), embedder=NEW, progress=False)
        whole(memory, "letters-b")
        assert set(collections(memory)) <= {"pages.v1", "pages.v2"}, number


def test_pages_that_came_after_a_run_died_at_the_switch_are_taken_along() -> None:
    memory = QdrantClient(":memory:")
    store = filled(memory)
    engine: Any = store._engine
    with store.next_version([NEW]) as staged:
        staged.prepare(NEW)
        staged.add_pages(written(), NEW.embed_pages(written()))
        staged._engine._save(staged.info.as_dict())  # whole, and then it died
    more = written(["quartz"], "more")
    store.add_pages(more, OLD.embed_pages(more))
    reindex(store, embedder=NEW, progress=False)
    assert (store.count(), best(store, NEW, "quartz"), engine.version) == (5, 1, "pages.v2")


@pytest.mark.slow
def test_a_re_index_that_is_killed_is_gone_on_with(server: FakeQdrant, tmp_path: Path) -> None:
    filled(server.url).close()
    reached = tmp_path / "reached"
    code = f"""
import sys, time, pathlib
from letters import Letters
from visrag_integrations import QdrantPageStore
from visrag_integrations.ingestion import reindex

class Slow(Letters):
    def embed_pages(self, pages):
        if self.embedded >= 2:
            pathlib.Path({str(reached)!r}).touch()
            time.sleep(600)
        return super().embed_pages(pages)

store = QdrantPageStore({server.url!r}, pictures=False)
reindex(store, embedder=Slow("letters-b", turn=9), batch_size=2, progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=TESTS)
    while not reached.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    with opened(server.url) as store:
        assert best(store, OLD, "the moon") == 3
        again = Letters("letters-b", turn=9)
        report = reindex(store, embedder=again, progress=False)
        assert (again.embedded, report.added, report.unchanged) == (2, 2, 2)
    with client_of(server) as client:
        whole(client, "letters-b")


def test_an_alias_of_the_users_own_keeps_the_version_it_means(server: FakeQdrant) -> None:
    filled(server.url).close()
    archive = models.CreateAlias(collection_name="pages.v1", alias_name="archive")
    server.memory.update_collection_aliases([models.CreateAliasOperation(create_alias=archive)])
    with opened(server.url) as store:
        reindex(store, embedder=NEW, progress=False)
    assert collections(server.memory) == ["pages.v1", "pages.v2"]
    assert server.memory.count("archive").count == 5


# --- recreate, import, forget ---------------------------------------------------------------------------------------


def test_recreate_makes_the_next_version(server: FakeQdrant) -> None:
    with filled(server.url) as store:
        store.prepare(NEW, recreate=True)
        assert (store.count(), store.info.embedder if store.info else "") == (0, "letters-b")
        store.add_pages(written(), NEW.embed_pages(written()))
    assert collections(server.memory) == ["pages.v2"]
    with client_of(server) as client:
        whole(client, "letters-b")


def test_many_recreate_at_once(server: FakeQdrant) -> None:
    filled(server.url).close()
    stores = [opened(server.url) for _ in range(4)]
    assert at_once([lambda store=store: store.prepare(NEW, recreate=True) for store in stores]) == []
    for place, store in enumerate(stores):
        pages = written(doc_id=str(place))
        store.add_pages(pages, NEW.embed_pages(pages))
        store.close()
    with opened(server.url) as store:
        assert store.count() == 16


def test_an_import_that_meets_another_one_removes_nothing_of_it(server: FakeQdrant, tmp_path: Path) -> None:
    with filled(":memory:") as store:
        store.export(tmp_path / "index.zip")
    imported: list[int] = []
    refused: list[str] = []

    def run() -> None:
        try:
            with QdrantPageStore.import_from(tmp_path / "index.zip", server.url, pictures=False) as store:
                imported.append(store.count())
        except StoreError as err:
            refused.append(str(err))

    assert at_once([run, run]) == []
    assert max(imported) == 4
    assert all("another process" in said or "holds pages" in said for said in refused), refused
    with opened(server.url) as store:
        assert (store.count(), best(store, OLD, "the moon")) == (4, 3)


def test_an_import_whose_collection_is_taken_away_meanwhile_says_that_another_one_runs(
    server: FakeQdrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(":memory:") as store:
        store.export(tmp_path / "index.zip")

    def list_what_is_gone(store: QdrantPageStore) -> None:
        list(store._engine.scroll(None))

    monkeypatch.setattr(QdrantPageStore, "_remove_all", list_what_is_gone)  # as where the other one was first
    with pytest.raises(StoreError, match="another process makes it"):
        QdrantPageStore.import_from(tmp_path / "index.zip", server.url, pictures=False)


def test_an_import_into_a_server_has_the_servers_format_and_its_export_the_files(
    server: FakeQdrant, tmp_path: Path
) -> None:
    with filled(tmp_path / "folder") as store:
        assert store.info is not None
        assert store.info.format_version == 1
        store.export(tmp_path / "one.zip")
    with QdrantPageStore.import_from(tmp_path / "one.zip", server.url, pictures=False) as store:
        assert store.info is not None
        assert store.info.format_version == SERVER_FORMAT
        store.export(tmp_path / "two.zip")
    with QdrantPageStore.import_from(tmp_path / "two.zip", tmp_path / "again") as store:
        assert store.info is not None
        assert store.info.format_version == 1
        page: Page = store.search(OLD.embed_queries(["the moon"])[0], top_k=1)[0].page
        assert page.number == 3


def test_forget_removes_what_the_name_means(server: FakeQdrant) -> None:
    with filled(server.url) as store:
        store.forget()
        assert store.count() == 0
    assert (collections(server.memory), aliases(server.memory)) == ([], {})


def test_the_documentation_says_how_many_requests_a_new_collection_takes() -> None:
    embedder = load_embedder("ocr")
    with serving() as server:
        with QdrantPageStore(server.url) as store:
            store.prepare(embedder)
        made = list(server.requests)
        with QdrantPageStore(server.url) as store:
            store.prepare(embedder)
        opened = len(server.requests) - len(made)
    indexes = sum(request.endswith("/index") for request in made)
    page = " ".join((Path(__file__).parent.parent / "docs" / "server.md").read_text(encoding="utf-8").split())
    assert f"takes {len(made)} requests, {indexes} of which make the payload indexes" in page
    assert opened == 4  # "take four from then on"
    assert "Opening it and `prepare` take four from then on" in page
