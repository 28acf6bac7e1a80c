"""What keeps the server up and its files in: tokens, limits, slow and broken clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
from web_server import HeldEmbedder, SteppedGenerator, connect, library, raw, read_all, running, wait_until

from visrag_integrations import PageRetriever, QdrantPageStore, VisRAG
from visrag_integrations.errors import SettingError
from visrag_integrations.servers.http import ServeSettings, create_app
from visrag_integrations.servers.web.access import LimitRate, read_tokens
from visrag_integrations.servers.web.limits import LimitBody
from visrag_integrations.servers.web.running import RunSettings, listen, server_for

SEARCH = {"text": "violin", "top_k": 1}


@pytest.fixture(scope="module")
def embedder() -> HeldEmbedder:
    return HeldEmbedder()


@pytest.fixture(scope="module")
def retriever(embedder: HeldEmbedder) -> Iterator[PageRetriever]:
    with QdrantPageStore(":memory:") as store:
        yield library(store, embedder)


@pytest.fixture
def held(embedder: HeldEmbedder) -> Iterator[HeldEmbedder]:
    """The embedder, which does not go on before it is let."""
    embedder.hold()
    yield embedder
    embedder.go.set()


@contextlib.contextmanager
def client_of(retriever: PageRetriever, rag: VisRAG | None = None, **settings: Any) -> Iterator[httpx.Client]:
    with (
        running(create_app(retriever, rag, ServeSettings(**settings))) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


# --- who may ask ----------------------------------------------------------------------------------------------------


def test_only_tokens_open_it(retriever: PageRetriever) -> None:
    with client_of(retriever, tokens=("first-token", "second-token")) as client:
        for token in ("first-token", "second-token"):
            good = {"Authorization": f"Bearer {token}"}
            assert client.post("/search", json=SEARCH, headers=good).status_code == 200
            assert client.get("/metrics", headers=good).status_code == 200
        for bad in (
            "Bearer wrong",
            "Bearer first-toke",
            "Bearer first-token2",
            "Basic first-token",
            "first-token",
            "é",
        ):
            headers = {"Authorization": bad.encode("latin-1")}
            refused = client.post("/search", json=SEARCH, headers=headers)  # type: ignore[arg-type]
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["error"]["type"] == "unauthorized"
        for path in ("/search?queries=x", "/metrics", "/openapi.json", "/pages/x/image"):
            assert client.get(path).status_code == 401
        for path in ("/health", "/health/live", "/health/ready"):
            assert client.get(path).status_code == 200
            assert client.post(path, content=b"x").status_code == 413  # strangers bring nothing that is kept


def test_its_open_paths_stay_open_where_it_is_mounted(retriever: PageRetriever) -> None:
    outer = fastapi.FastAPI()
    outer.mount("/visrag", create_app(retriever, settings=ServeSettings(tokens=("a-token",))))
    with running(outer) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/visrag/health").status_code == 200
        assert client.get("/visrag/metrics").status_code == 401
        bearer = {"Authorization": "Bearer a-token"}
        (hit,) = client.post("/visrag/search", json=SEARCH, headers=bearer).json()["pages"]
        assert hit["image"] == f"{server.url}/visrag/pages/{hit['id']}/image"
        assert client.get(hit["image"], headers=bearer).status_code == 200


def test_a_server_is_called_by_its_names_only(retriever: PageRetriever) -> None:
    with client_of(retriever, hosts=("127.0.0.1", "search.example")) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health", headers={"Host": "search.example:8000"}).status_code == 200
        refused = client.get("/search", params={"queries": "x"}, headers={"Host": "evil.example"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (421, "wrong_host")


def test_other_origins_are_told_nothing_unless_they_are_named(retriever: PageRetriever) -> None:
    origin = {"Origin": "https://app.example"}
    with client_of(retriever) as client:
        answer = client.post("/search", json=SEARCH, headers=origin)
        assert not [name for name in answer.headers if name.startswith("access-control")]
    with client_of(retriever, cors_origins=("https://app.example",), tokens=("token",)) as client:
        ask = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert client.options("/search", headers=ask).headers["access-control-allow-origin"] == "https://app.example"
        other = client.options("/search", headers={**ask, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_tokens_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# ours\nabc\n\n  def  \n")
    assert read_tokens(tmp_path / "tokens") == ("abc", "def")
    (tmp_path / "tokens").write_text("# none\n")
    with pytest.raises(SettingError, match="holds no token"):
        read_tokens(tmp_path / "tokens")
    with pytest.raises(SettingError, match="cannot be read"):
        read_tokens(tmp_path / "missing")


async def test_the_rate_is_counted_for_each_client() -> None:
    now, passed = 0.0, []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["visrag.client"])

    limit = LimitRate(app, rate=2.0, burst=3, open_paths=("/health",), clock=lambda: now)
    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    async def ask(client: str, path: str = "/search") -> None:
        await limit({"type": "http", "path": path, "visrag.client": client}, None, send)  # type: ignore[arg-type]

    for _ in range(5):
        await ask("a")
    await ask("b")
    await ask("a", "/health")
    assert passed == ["a", "a", "a", "b", "a"]
    assert [m["status"] for m in answers if "status" in m] == [429, 429]
    assert (b"retry-after", b"1") in answers[0]["headers"]
    now = 0.5  # one more in half a second at two a second
    await ask("a")
    await ask("a")
    assert passed[5:] == ["a"]


def test_too_many_requests_are_told_when_to_come_again(retriever: PageRetriever) -> None:
    with client_of(retriever, requests_per_second=0.01, burst=2) as client:
        assert [client.post("/search", json=SEARCH).status_code for _ in range(3)] == [200, 200, 429]
        refused = client.post("/search", json=SEARCH)
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        assert client.get("/health").status_code == 200


# --- how much -------------------------------------------------------------------------------------------------------


def test_a_hundred_megabytes_are_refused_before_they_are_sent(retriever: PageRetriever) -> None:
    with running(create_app(retriever)) as server, connect(server.url) as connection:
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
        answer = read_all(connection)  # nothing of the body was sent
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"too_large"' in answer


def test_a_body_of_unknown_length_is_refused_when_it_is_too_long(retriever: PageRetriever) -> None:
    sent = 0
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with (
        running(create_app(retriever, settings=ServeSettings(max_body_bytes=1_000_000))) as server,
        connect(server.url) as connection,
    ):
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 100 * 2**20:
                connection.sendall(piece)
                sent += 65536
        answer = read_all(connection)
    assert sent < 50 * 2**20  # what fits in the sockets' buffers, and what was read
    assert not answer or answer.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_all_the_same_is_told(retriever: PageRetriever) -> None:
    with client_of(retriever, max_body_bytes=100_000) as client:
        try:
            assert client.post("/search", content=b"x" * 200_000).status_code == 413
        except httpx.TransportError:
            pytest.skip("this system drops what was received when the other side is gone")


async def test_bodies_of_all_requests_have_a_limit_together() -> None:
    rest_may_come, may_answer, in_app = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert len((await receive())["body"]) == 10
        in_app.set()
        await may_answer.wait()

    limit = LimitBody(app, max_bytes=10, seconds=30, total_bytes=15)

    async def ask(*, slowly: bool = False) -> list[Any]:
        pieces, told = [b"x" * 8, b"x" * 2], []

        async def receive() -> Any:
            if slowly and len(pieces) == 1:
                await rest_may_come.wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            told.append(message)

        await limit({"type": "http", "path": "/search", "headers": []}, receive, send)
        return told

    slow = asyncio.create_task(ask(slowly=True))
    await asyncio.sleep(0.05)  # 8 bytes are held
    start, body = await asyncio.wait_for(ask(), 10)
    assert (start["status"], json.loads(body["body"])["error"]["type"]) == (503, "overloaded")
    assert (b"retry-after", b"1") in start["headers"]
    rest_may_come.set()
    await in_app.wait()
    assert (await asyncio.wait_for(ask(), 10))[0]["status"] == 503  # the first is not answered yet
    may_answer.set()
    assert await slow == []
    assert await ask() == []  # nothing is held any more, so it reaches the app


def test_beyond_its_concurrency_it_says_come_again(retriever: PageRetriever, held: HeldEmbedder) -> None:
    with client_of(retriever, max_concurrency=1) as client:
        answers: list[httpx.Response] = []
        first = threading.Thread(target=lambda: answers.append(client.post("/search", json=SEARCH)))
        first.start()
        assert held.asked.wait(10)
        refused = client.post("/search", json=SEARCH)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["type"] == "overloaded"
        assert client.get("/health").status_code == 200
        assert "visrag_requests_overloaded_total 1.0" in client.get("/metrics").text
        held.go.set()
        first.join()
        assert answers[0].status_code == 200
        assert client.post("/search", json=SEARCH).status_code == 200


# --- how long -------------------------------------------------------------------------------------------------------


def test_what_takes_too_long_is_a_timeout(retriever: PageRetriever, held: HeldEmbedder) -> None:
    with client_of(retriever, request_seconds=0.3, max_concurrency=1) as client:
        late = client.post("/search", json=SEARCH)
        assert (late.status_code, late.json()["error"]["type"]) == (504, "timeout")
        held.go.set()
        assert client.post("/search", json=SEARCH).status_code in (200, 504)


@pytest.mark.parametrize("before", [b"", b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
def test_a_slow_loris_is_cut_off(retriever: PageRetriever, before: bytes) -> None:
    """A header line every now and then holds a connection for no longer than headers may take."""
    with running(create_app(retriever), header_seconds=0.5) as server, connect(server.url) as connection:
        if before:
            connection.sendall(before)
            answer = b""
            while b'"ok"}' not in answer:
                answer += connection.recv(65536)
        connection.sendall(b"GET /search?queries=x HTTP/1.1\r\nHost: x\r\n")
        connection.settimeout(0.1)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                connection.sendall(b"X-More: 1\r\n")
                assert connection.recv(65536) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection was kept")
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_connections_that_say_nothing_are_cut_off(retriever: PageRetriever) -> None:
    with running(create_app(retriever), header_seconds=0.3) as server, connect(server.url) as connection:
        assert read_all(connection) == b""


def test_idle_connections_make_room_for_those_that_ask(retriever: PageRetriever) -> None:
    """Whoever opens all connections there may be and says nothing keeps nobody out."""
    most = 30
    with (
        running(create_app(retriever), header_seconds=600, max_connections=most) as server,
        contextlib.ExitStack() as stack,
    ):
        silent = [stack.enter_context(connect(server.url)) for _ in range(3 * most)]
        for connection in silent[::2]:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Half")
        for _ in range(3):
            assert httpx.get(f"{server.url}/health").status_code == 200
            assert httpx.post(f"{server.url}/search", json=SEARCH).status_code == 200
        assert len(server.server.server_state.connections) <= most


async def test_a_crowd_that_comes_at_once_leaves_room_before_the_next_round_of_the_loop() -> None:
    """Connections that are being closed must not count: uvicorn would refuse a request for them."""
    most = 5
    server = server_for(nothing, RunSettings(max_connections=most))
    server.config.load()
    ended = []
    for number in range(4 * most):
        protocol = server.config.http_protocol_class(server.config, server.server_state, {})
        protocol.connection_made(Transport(lambda number=number: ended.append(number)))
        assert len(server.server_state.connections) < most
    assert ended == list(range(4 * most - most + 1))  # those that came first


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never asked."""


class Transport(asyncio.Transport):
    """A connection that only says when it is cut off."""

    def __init__(self, abort: Callable[[], None]) -> None:
        super().__init__()
        self.abort = abort  # type: ignore[method-assign]

    def is_closing(self) -> bool:
        return False


def test_the_number_of_connections_fits_what_the_system_allows() -> None:
    resource = pytest.importorskip("resource")
    program = (
        "import resource, sys\n"
        "from visrag_integrations.servers.web.running import connections_allowed\n"
        "soft, hard = map(int, sys.argv[1:])\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "print(connections_allowed(4000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for soft, hard, expected in ((256, 2048, "1536 2048"), (256, 600, "88 600"), (100, 100, "64 100")):
        if most not in (-1, resource.RLIM_INFINITY) and hard > most:
            continue
        command = [sys.executable, "-c", program, str(soft), str(hard)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        assert said.stdout.strip() == expected


def test_requests_under_way_are_not_cut_off_for_new_connections(retriever: PageRetriever, held: HeldEmbedder) -> None:
    with (
        running(create_app(retriever), header_seconds=600, max_connections=5) as server,
        contextlib.ExitStack() as stack,
    ):
        asking = stack.enter_context(connect(server.url))
        body = json.dumps(SEARCH).encode()
        asking.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body))
        asking.sendall(b"Content-Type: application/json\r\nConnection: close\r\n\r\n" + body)
        wait_until(lambda: server.server.server_state.tasks)
        for _ in range(20):
            stack.enter_context(connect(server.url))
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        held.go.set()
        assert read_all(asking).startswith(b"HTTP/1.1 200 ")


def test_a_slow_body_is_cut_off_and_holds_no_place(retriever: PageRetriever) -> None:
    settings = ServeSettings(body_seconds=0.5, max_concurrency=1)
    with running(create_app(retriever, settings=settings)) as server, connect(server.url) as connection:
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert httpx.post(f"{server.url}/search", json=SEARCH).status_code == 200
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_is_cut_off(retriever: PageRetriever) -> None:
    with running(create_app(retriever), write_seconds=0.5) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with connection:
            connection.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(5000):
                    connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            wait_until(lambda: not server.server.server_state.connections)


def test_work_for_a_client_that_went_away_stops(retriever: PageRetriever) -> None:
    generator = SteppedGenerator("<answer>", hold=True)
    with running(create_app(retriever, VisRAG(retriever, generator))) as server, connect(server.url) as connection:
        body = b'{"question": "violin?"}'
        head = b"POST /ask HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        assert generator.started.wait(10)
        connection.close()
        assert generator.cancelled.wait(10)
    generator.close()


# --- broken and sly requests ----------------------------------------------------------------------------------------

SLY = [
    b"/pages/../../../../etc/passwd",
    b"/pages/..%2f..%2f..%2fetc%2fpasswd/image",
    b"/pages/%2e%2e/%2e%2e/etc/passwd",
    b"/pages/....//....//etc/passwd/image",
    b"//etc/passwd",
    b"/pages//etc/passwd/image",
    b"/pages/%00/image",
    b"/pages/C:%5cwindows%5cwin.ini/image",
    b"/pages/file:%2f%2f%2fetc%2fpasswd/image",
    b"/pictures/pages/ab/cdef.jpg",
    b"/pages/%ff%fe/image",
    b"/pages/00000000-0000-0000-0000-000000000000%2f..%2f..%2fimage",
    b"/" + b"a" * 60_000,
    b"http://evil.example/pages/x/image",
    b"/search?queries=%ff%00&top_k=1",
    b"/search?" + b"queries=x&" * 500,
]


@pytest.mark.parametrize("path", SLY, ids=lambda path: path[:40].decode())
def test_path_games_find_no_file(retriever: PageRetriever, sly_server: str, path: bytes) -> None:
    answer = raw(sly_server, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    status = int(answer.split()[1])
    assert status in (200, 307, 400, 404, 405, 414, 422, 431), answer[:200]
    assert b"root:" not in answer
    assert status != 200 or b"/search" in path


@pytest.fixture(scope="module")
def sly_server(retriever: PageRetriever) -> Iterator[str]:
    with running(create_app(retriever)) as server:
        yield server.url


def test_random_bytes_do_no_harm(sly_server: str) -> None:
    chance = random.Random(7)
    post = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n"
    heads = [b"", b"GET /search?queries=", post, b"GET / HTTP/1.1\r\n"]
    for _ in range(150):
        sent = chance.choice(heads) + chance.randbytes(chance.randrange(1, 400)) + b"\r\n\r\n"
        answer = raw(sly_server, sent, patience=0.1)
        assert not answer or not answer.startswith(b"HTTP/1.1 5"), answer[:300]
    assert httpx.get(f"{sly_server}/health").status_code == 200


def test_random_json_does_no_harm(sly_server: str) -> None:
    chance = random.Random(11)
    values: list[Any] = ["", "x", "\x00", "\ud800", 0, -1, 2**70, 1e308, True, None, [], {}, [[]], {"$and": 1}, "$ids"]

    def value(depth: int = 0) -> Any:
        kind = chance.random()
        if depth > 3 or kind < 0.6:
            return chance.choice(values)
        if kind < 0.8:
            return [value(depth + 1) for _ in range(chance.randrange(3))]
        keys = ["text", "image", "filter", "year", "$and", "$or", "$not", "$ids", "gte", "in", "", "a.b", "source"]
        return {chance.choice(keys): value(depth + 1) for _ in range(chance.randrange(3))}

    with httpx.Client(base_url=sly_server) as client:
        for _ in range(200):
            body = {"text": "x", "filter": {chance.choice(["year", "$ids", "$or", "tenant"]): value()}, "top_k": 2}
            body |= {chance.choice(["text", "image", "mode", "score_threshold", "top_k"]): value() for _ in range(1)}
            answer = client.post("/search", content=json.dumps(body), headers={"Content-Type": "application/json"})
            assert answer.status_code in (200, 400, 422), (body, answer.text)


def test_a_port_that_is_taken_says_so() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(SettingError, match="Give another --host or --port"):
        listen("127.0.0.1", first.getsockname()[1])
    with pytest.raises(SettingError, match="cannot listen"):
        listen("no.such.name.invalid", 0)


def test_many_slow_clients_leave_the_loop_free(retriever: PageRetriever) -> None:
    """A hundred half requests are open; a whole one is answered meanwhile."""
    with running(create_app(retriever)) as server, contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(connect(server.url))
            connection.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert httpx.post(f"{server.url}/search", json=SEARCH, timeout=20).status_code == 200
