"""Several addresses of one cluster: what one does not answer is asked of the next. And what copies on nodes ask for."""

from __future__ import annotations

import contextlib
import logging
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from fake_qdrant import serving
from fake_qdrant.over_http import Address
from qdrant_client import QdrantClient

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.store import addresses, patience
from visrag_integrations.store.addresses import addresses_of
from visrag_integrations.store.clusters import ClusterSettings

DIM = 8


@dataclass
class Filler:
    name: str = "filler"
    kind: str = "single"
    dimension: int = DIM
    fingerprint: str | None = None
    instruction: str | None = None


def vectors(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((count, DIM)).astype(np.float32))


def pages(count: int) -> list[Page]:
    return [Page("d", number, text=f"word{number}", source="d.pdf") for number in range(1, count + 1)]


@contextlib.contextmanager
def hanging(address: Address) -> Iterator[Callable[[], bool]]:
    """At this address connections are taken and nothing is answered; what it gives says whether anybody came.

    The address that hangs is soon given up; the others are not, whatever else this machine does.
    """

    def seconds_for(self: addresses.Addresses, place: int, whole: float | None) -> float:
        return 0.3 if self._bases[place] == address.url else 60.0

    address.hang()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(addresses.Addresses, "seconds_for", seconds_for)
        yield address.was_met


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


def filled(*urls: str, **settings: Any) -> QdrantPageStore:
    store = QdrantPageStore(list(urls), pictures=False, **settings)
    # Whatever else this machine does, the first address is not given up here.
    patience_before, addresses.NEXT_ADDRESS_S = addresses.NEXT_ADDRESS_S, 60.0
    try:
        store.prepare(Filler())
        store.add_pages(pages(5), vectors(5))
    finally:
        addresses.NEXT_ADDRESS_S = patience_before
    return store


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all addresses refuse is not tried for long."""
    monkeypatch.setattr(patience, "REFUSED_S", 0.3)


# --- how they are written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("http://one:6333", ("http://one:6333",)),
        ("http://one:6333,http://two:6333", ("http://one:6333", "http://two:6333")),
        (" http://one:6333 , https://two/qdrant ,http://one:6333", ("http://one:6333", "https://two/qdrant")),
        (["http://one:6333", "http://two:6333"], ("http://one:6333", "http://two:6333")),
        (("http://one:6333,http://two:6333", "http://three"), ("http://one:6333", "http://two:6333", "http://three")),
        ("http://one:6333/a,b", ("http://one:6333/a,b",)),
        ("http://one:6333,", ("http://one:6333",)),
        ("folder,other", ()),
        (":memory:", ()),
        (None, ()),
    ],
)
def test_addresses_are_parted(location: Any, found: tuple[str, ...]) -> None:
    assert addresses_of(location) == found


@pytest.mark.parametrize(
    "location",
    [
        "http://one:6333,two:6333",
        ["http://one:6333", "two:6333"],
        ["http://one:6333", "folder"],
        ["http://one:6333", ":memory:"],
        ["http://one:6333", 7],
        [],
    ],
)
def test_what_is_no_address_is_refused(location: Any) -> None:
    with pytest.raises(SettingError, match="http://"):
        QdrantPageStore(location)


def test_grpc_asks_one_address() -> None:
    with pytest.raises(SettingError, match="one address"):
        QdrantPageStore("http://one:6333,http://two:6333", prefer_grpc=True)


def test_a_key_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match="insecure") as caught, serving(addresses=2) as server:
        QdrantPageStore(server.urls, api_key="key").close()
    assert len(caught) == 1


def test_the_store_can_be_sent_to_another_process() -> None:
    with serving(addresses=2) as server, filled(*server.urls) as store:
        assert store.is_on_server
        with pickle.loads(pickle.dumps(store)) as again:
            assert again.count() == 5


# --- what one does not answer -----------------------------------------------------------------------------------------


def test_one_that_is_dead_at_the_start(soon: None) -> None:
    with serving() as alive:
        dead = f"http://127.0.0.1:{free_port()}"
        with filled(dead, alive.url) as store:
            assert store.count() == 5
            assert [hit.page.number for hit in store.search(vectors(5)[2], top_k=1)] == [3]
        assert alive.requests


def test_the_one_that_answered_is_asked_first_from_then_on() -> None:
    with serving(addresses=2) as server, filled(*server.urls) as store, hanging(server.addresses[0]) as was_met:
        assert store.count() == 5
        assert was_met()
        assert store.search(vectors(5)[0], top_k=1)
        store.add_pages(pages(6)[5:], vectors(1))
        assert store.count() == 6
        assert not was_met()


def test_what_takes_longer_than_an_address_may_is_waited_for_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node that hangs is not the last word: the other one is asked again, and has the whole time."""
    with serving(addresses=2) as server, filled(*server.urls, timeout=20) as store, hanging(server.addresses[0]):
        assert store.count() == 5, "the second one answered last"
        monkeypatch.setattr(addresses.Addresses, "seconds_for", lambda self, place, whole: 0.2)
        server.slow = 0.8
        server.plan = lambda number, method, path: "slow"
        assert store.count() == 5


@pytest.mark.parametrize("step", ["search", "hybrid", "get", "add", "delete", "add_source", "count"])
def test_a_node_that_hangs_costs_no_search_and_no_page(step: str) -> None:
    with serving(addresses=2) as server, filled(*server.urls) as store, hanging(server.addresses[0]) as was_met:
        if step == "search":
            assert len(store.search(vectors(1)[0], top_k=3)) == 3
        elif step == "hybrid":
            assert len(store.search(vectors(1)[0], text="word2", mode="hybrid", top_k=3)) == 3
        elif step == "get":
            assert [page.number for page in store.get_pages([pages(1)[0].id])] == [1]
        elif step == "add":
            store.add_pages(pages(7)[5:], vectors(2))
        elif step == "delete":
            assert store.delete(ids=[pages(1)[0].id]) == 1
        elif step == "add_source":
            assert store.add_source("d", "copy.pdf") == 5
        assert store.count() == {"add": 7, "delete": 4}.get(step, 5)
        assert was_met()


def test_a_creation_whose_answer_is_lost_is_not_sent_to_another() -> None:
    """It may have happened: that is looked at before it is sent again."""

    def plan(_: int, method: str, path: str) -> str | None:
        if method == "PUT" and path.count("/") == 2 and path not in lost:
            lost.add(path)
            return "dropped"
        return None

    lost: set[str] = set()
    with serving(plan, addresses=2) as server, QdrantPageStore(server.urls, pictures=False) as store:
        store.prepare(Filler())
        assert lost
        created = [line for line in server.requests if line in {f"PUT {path}" for path in lost}]
        assert len(created) == len(lost)


def test_a_rolling_restart_costs_no_search_and_no_page() -> None:
    with serving(addresses=3) as server, filled(*server.urls) as store:
        stop = threading.Event()
        searched: list[Any] = []

        def search() -> None:
            while not stop.is_set():
                try:
                    searched.append(len(store.search(vectors(1)[0], top_k=3)))
                except Exception as err:  # noqa: BLE001  whatever it is, it is a search that failed
                    searched.append(err)

        searching = threading.Thread(target=search)
        searching.start()
        number = 6
        for address in server.addresses:
            address.switch_off()
            for page in pages(number + 4)[number - 1 :]:
                store.add_pages([page], vectors(1))
            number += 5
            so_far = len(searched)
            while len(searched) < so_far + 3:
                time.sleep(0.01)
            address.switch_on()
        stop.set()
        searching.join()
        assert set(searched) == {3}
        assert store.count() == 20


def test_all_dead_names_all(soon: None) -> None:
    one, two = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreError) as caught:
        QdrantPageStore(f"{one},{two}", pictures=False)
    assert f"Each of {one}, {two} was asked" in str(caught.value)


class WebPage(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<html><title>Sign in</title></html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def test_one_that_is_no_qdrant_is_named(soon: None) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), WebPage) as other, serving() as node:
        threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            with pytest.raises(StoreError, match=f"port {other.server_port} was asked, .* no Qdrant server"):
                QdrantPageStore([f"http://127.0.0.1:{other.server_port}", node.url], pictures=False)
            with filled(node.url, f"http://127.0.0.1:{other.server_port}") as store:
                node.addresses[0].switch_off()
                with pytest.raises(StoreError, match=f"port {other.server_port} was asked"):
                    store.count()
        finally:
            other.shutdown()


# --- copies on several nodes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "options", "said"), [(3, {}, True), (3, {"replication_factor": 2}, False), (1, {}, False)]
)
def test_one_copy_on_many_nodes_is_said_once(
    nodes: int, options: dict[str, Any], said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(addresses=nodes) as server, caplog.at_level(logging.WARNING):
        for _ in range(2):
            QdrantPageStore(server.url, pictures=False, server_options=options).prepare(Filler())
    notes = [record for record in caplog.records if "--replicas 2" in record.getMessage()]
    assert len(notes) == int(said)


@pytest.mark.parametrize("method", ["custom", "Custom"])
def test_custom_sharding_is_refused_before_anything_is_made(method: str) -> None:
    with serving() as node, QdrantPageStore(node.url, server_options={"sharding_method": method}) as store:
        with pytest.raises(SettingError, match="sharding_method='custom'"):
            store.prepare(Filler())
        assert not node.created


@pytest.mark.parametrize(
    "settings",
    [
        {"read_consistency": "some"},
        {"read_consistency": 0},
        {"read_consistency": True},
        {"write_ordering": "strongest"},
        {"write_ordering": 2},
    ],
)
def test_other_words_for_copies_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="allowed: "):
        ClusterSettings(**settings)
    with pytest.raises(SettingError, match="allowed: "):
        QdrantPageStore("http://localhost:6333", **settings)


def test_copies_are_for_servers(tmp_path: Any) -> None:
    with pytest.raises(SettingError, match="is a folder"):
        QdrantPageStore(tmp_path, read_consistency="all")


class Listening(QdrantClient):
    """A client that the store takes for one of a server; notes the settings of each request."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self._init_options["location"] = "http://127.0.0.1:6333"
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in ("upsert", "delete", "query_points", "retrieve", "scroll", "batch_update_points"):
            return method

        def noted(*arguments: Any, **settings: Any) -> Any:
            self.heard.append((name, settings))
            return method(*arguments, **settings)

        return noted


def test_reads_and_writes_say_what_was_asked_for() -> None:
    client = Listening()
    with QdrantPageStore(client, pictures=False, read_consistency="majority", write_ordering="medium") as store:
        store.prepare(Filler())
        client.heard.clear()
        store.add_pages(pages(2), vectors(2))
        store.add_source("d", "copy.pdf")
        store.search(vectors(1)[0], text="word1", mode="hybrid")
        list(store.scroll())
        store.delete(doc_id="d")
    for name, settings in client.heard:
        if name in ("upsert", "delete", "batch_update_points"):
            assert settings["ordering"] == "medium", name
        else:
            assert settings["consistency"] == "majority", name
    assert {name for name, _ in client.heard} == {
        "upsert",
        "delete",
        "query_points",
        "retrieve",
        "scroll",
        "batch_update_points",
    }
    client.close()


def test_sources_are_changed_in_one_request_and_in_order() -> None:
    client = Listening()
    with QdrantPageStore(client, pictures=False) as store:
        store.prepare(Filler())
        store.add_pages(pages(5), vectors(5))
        client.heard.clear()
        store.add_source("d", "copy.pdf")
        changes = [settings for name, settings in client.heard if name == "batch_update_points"]
        assert [settings["ordering"] for settings in changes] == ["strong"]
        assert store.count({"source": "copy.pdf"}) == 5
    client.close()
