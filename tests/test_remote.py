"""A retriever behind a URL finds what the server's own finds; whatever answers there, nothing else is opened."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fakes import PixelEmbedder
from web_server import WORDS, Running, library, picture, running

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, VisRAG, load_generator
from visrag_integrations.agent import Recording, VRAGAgent
from visrag_integrations.errors import EndpointError, PictureError, SettingError
from visrag_integrations.remote import RemoteRetriever
from visrag_integrations.servers.http import ServeSettings, create_app
from visrag_integrations.types import Generation

TOKEN = "a-long-secret-of-many-letters"


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[PageRetriever]:
    with QdrantPageStore(tmp_path / "index") as store:
        yield library(store, PixelEmbedder())


@pytest.fixture
def server(retriever: PageRetriever) -> Iterator[Running]:
    settings = ServeSettings(tokens=(TOKEN,))
    with running(create_app(retriever, settings=settings)) as one:
        yield one


def test_pages_scores_and_pictures_are_those_of_the_server(retriever: PageRetriever, server: Running) -> None:
    with RemoteRetriever(server.url, token=TOKEN) as remote:
        queries: list[str | Query] = [*WORDS, Query("violin"), Query("", picture(3)), Query("quarry", picture(1))]
        for mine, theirs in zip(remote.retrieve_many(queries, 4), retriever.retrieve_many(queries, 4), strict=True):
            assert [hit.page.id for hit in mine] == [hit.page.id for hit in theirs]
            assert [hit.score for hit in mine] == pytest.approx([hit.score for hit in theirs])
            for ours, own in zip(mine, theirs, strict=True):
                assert (ours.page.number, ours.page.text) == (own.page.number, own.page.text)
                assert ours.page.metadata["year"] == own.page.metadata["year"]
                assert ours.score_type == own.score_type
        first, own = remote.retrieve("harbour", 1)[0], retriever.retrieve("harbour", 1)[0]
        assert first.page.open_image().tobytes() == own.page.open_image().tobytes()
        found = remote.retrieve("harbour", 8, filter={"year": {"gte": 2003, "lte": 2005}})
        assert sorted(hit.page.metadata["year"] for hit in found) == [2003, 2004, 2005]
        assert remote.retrieve("harbour", 8, filter={"year": 1066}) == []


def test_pages_that_a_host_named_keep_their_id(tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(embedder)
        pages = [Page("d", n + 1, text=f"page {n}", picture=picture(n), given_id=f"node {n}") for n in range(3)]
        store.add_pages(pages, embedder.embed_pages(pages))
        with running(create_app(PageRetriever(embedder, store))) as server, RemoteRetriever(server.url) as remote:
            assert {hit.page.id for hit in remote.retrieve("page", 3)} == {page.id for page in pages}


def test_the_agent_and_the_pipeline_search_through_it(retriever: PageRetriever, server: Running) -> None:
    texts = ["<think>I look.</think><search>violin</search>", "<think>There.</think><answer>violin</answer>"]
    with RemoteRetriever(server.url, token=TOKEN) as remote:
        mine = VRAGAgent(remote, Recording(list(map(Generation, texts)))).run("Which?")
        own = VRAGAgent(retriever, Recording(list(map(Generation, texts)))).run("Which?")
        assert [hit.page.id for hit in mine.answer.pages] == [hit.page.id for hit in own.answer.pages]
        assert mine.answer.text == "violin"
        assert [s.observation.shown[0].size for s in mine.steps if s.observation.shown] == [
            s.observation.shown[0].size for s in own.steps if s.observation.shown
        ]
        answer = VisRAG(remote, load_generator("extractive")).ask("violin page", 2)
        assert len(answer.pages) == 2


def test_many_threads(retriever: PageRetriever, server: Running) -> None:
    expected = [hit.page.id for hit in retriever.retrieve("violin", 3)]
    wrong: list[Any] = []
    with RemoteRetriever(server.url, token=TOKEN) as remote:

        def ask() -> None:
            for _ in range(5):
                found = [hit.page.id for hit in remote.retrieve("violin", 3)]
                if found != expected:
                    wrong.append(found)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_what_the_server_refuses_is_told(server: Running) -> None:
    with RemoteRetriever(server.url) as remote, pytest.raises(EndpointError, match="asks for a token"):
        remote.retrieve("x")
    with RemoteRetriever(server.url, token=TOKEN) as remote:
        with pytest.raises(EndpointError, match="top_k is 900; at most 50"):
            remote.retrieve("x", 900)
        with pytest.raises(EndpointError, match="422"):
            remote.retrieve("x", 1, filter={"year": {"around": 5}})
        with pytest.raises(SettingError, match="at least one"):
            remote.retrieve("x", 0)
    with RemoteRetriever("http://127.0.0.1:1") as remote, pytest.raises(EndpointError, match="Is the server running"):
        remote.retrieve("x")


def test_a_picture_in_another_process_needs_no_client(retriever: PageRetriever) -> None:
    with running(create_app(retriever)) as server, RemoteRetriever(server.url) as remote:
        page = remote.retrieve("violin", 1)[0].page
        moved = pickle.loads(pickle.dumps(page))
        assert moved.open_image().size == page.open_image().size
        assert b"Bearer" not in pickle.dumps(page)
    with pytest.raises(PictureError, match="cannot be fetched"):
        moved.open_image()
    with pytest.raises(PictureError, match="cannot be fetched"):
        page.open_image()


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x", "/index", "http://"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SettingError, match="no address"):
        RemoteRetriever(url)


# --- other servers ----------------------------------------------------------------------------------------------------


class Says:
    """A server that answers every request with the same bytes, and remembers what it was asked."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.asked: list[str] = []
        says = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                says.asked.append(self.path)
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.send_header("location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/search"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Says:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


HIT = {"doc_id": "d", "page": 1, "source": "a", "image": None, "score": 1, "score_type": "bm25", "text": "", "id": "x"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>Log in</html>", 200),
        (b"[]", 200),
        (b'{"pages": 5}', 200),
        (b'{"pages": [{}]}', 200),
        (json.dumps({"pages": [{**HIT, "metadata": {}, "page": 0}]}).encode(), 200),
        (json.dumps({"pages": [{**HIT, "metadata": [1], "page": "two"}]}).encode(), 200),
        (b"null", 200),
        (b"", 200),
        (b"moved", 302),
        (b"\xff\xfe", 500),
    ],
)
def test_other_servers_are_named_as_such(body: bytes, status: int) -> None:
    with Says(body, status) as server:
        for layout in ("visrag", "vrag"):
            with (
                RemoteRetriever(server.url, layout=layout) as remote,  # type: ignore[arg-type]
                pytest.raises(EndpointError, match=r"does not answer as layout|status") as told,
            ):
                remote.retrieve("x")
            assert server.url in str(told.value)


def test_vrags_search_engine(tmp_path: Path) -> None:
    """Answers as its server gives them: a list for each query, of places and files, best first."""
    for name in ("slides_12.jpg", "slides_3.jpg", "cover.jpg"):
        picture(len(name)).save(tmp_path / name)
    lists = [
        [
            {"idx": 7, "image_file": str(tmp_path / "slides_12.jpg")},
            {"idx": 2, "image_file": str(tmp_path / "cover.jpg")},
        ],
        [{"idx": 3, "image_file": "slides_3.jpg"}],
    ]
    with (
        Says(json.dumps(lists).encode()) as server,
        RemoteRetriever(server.url, layout="vrag", pictures=tmp_path) as remote,
    ):
        first, second = remote.retrieve_many(["a b", "ü"], 5)
        assert server.asked == ["/search?queries=a+b&queries=%C3%BC"]
        assert [(hit.page.doc_id, hit.page.number) for hit in first] == [("slides", 12), ("cover", 1)]
        assert [hit.page.open_image().size for hit in (*first, *second)] == [(160, 200)] * 3
        assert first[0].score > first[1].score
        with pytest.raises(SettingError, match="no filters"):
            remote.retrieve("x", filter={"a": 1})
        with pytest.raises(SettingError, match="takes no pictures"):
            remote.retrieve(Query("", picture(1)))


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "/root/.ssh/id_1.jpg"])
def test_no_other_file_is_opened(tmp_path: Path, place: str) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    picture(1).save(tmp_path / "secret.jpg")
    with Says(json.dumps([[{"idx": 0, "image_file": place}]]).encode()) as server:
        with (
            RemoteRetriever(server.url, layout="vrag", pictures=pictures) as remote,
            pytest.raises(SettingError, match="which is not in"),
        ):
            remote.retrieve("x")
        with (
            RemoteRetriever(server.url, layout="vrag") as remote,
            pytest.raises(SettingError, match='pictures="FOLDER"'),
        ):
            remote.retrieve("x")


def test_no_other_server_is_asked_for_pictures() -> None:
    with Says(b"") as victim:
        elsewhere = victim.url.replace("/search", "/report_2.jpg")
        with (
            Says(json.dumps([[{"idx": 0, "image_file": elsewhere}]]).encode()) as server,
            RemoteRetriever(server.url, layout="vrag", token=TOKEN) as remote,
        ):
            page = remote.retrieve("x")[0].page
            assert (page.doc_id, page.number) == ("report", 2)
            with pytest.raises(PictureError, match="another server"):
                page.open_image()
        assert not victim.asked


def test_our_own_server_in_vrags_layout(retriever: PageRetriever, tmp_path: Path) -> None:
    """The addresses that `GET /search` gives lead to the pictures."""
    with running(create_app(retriever)) as server, RemoteRetriever(f"{server.url}/search", layout="vrag") as remote:
        found = remote.retrieve("violin", 2)
        assert found[0].page.open_image().size == (160, 200)
