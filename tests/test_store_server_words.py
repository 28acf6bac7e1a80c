"""What a store says of a server: addresses, refusals in words, versions, time and trouble."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fake_qdrant import serving
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.cli import main
from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.ingestion.retry import Retry, RetryingStoreClient
from visrag_integrations.store.advice import AskedServer, advice_on
from visrag_integrations.store.client import ClientEngine
from visrag_integrations.store.refusals import may_pass, read_refusal

# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("localhost:6333", "http://localhost:6333"),
        ("127.0.0.1:6333", "http://127.0.0.1:6333"),
        ("qdrant:6333", "http://qdrant:6333"),
        ("[::1]:6333", "http://[::1]:6333"),
        ("vectors.example.org:443/qdrant", "http://vectors.example.org:443/qdrant"),
        ("my_qdrant-1:6333/", "http://my_qdrant-1:6333/"),
        ("//qdrant:6333", "http://qdrant:6333"),
        (" qdrant:6333", "http://qdrant:6333"),
        ("one:6333,two:6333", "http://one:6333"),
        ("localhost", "http://localhost"),
        ("10.0.0.5", "http://10.0.0.5"),
        ("abc-1.eu-central-1-0.aws.cloud.qdrant.io", "https://abc-1.eu-central-1-0.aws.cloud.qdrant.io"),
        ("abc-1.aws.cloud.qdrant.io:6333", "https://abc-1.aws.cloud.qdrant.io:6333"),
        ("http:/qdrant:6333", "http://qdrant:6333"),
        ("https:qdrant:6333", "https://qdrant:6333"),
    ],
)
def test_an_address_without_its_scheme_is_no_folder(
    address: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError) as caught:
        QdrantPageStore(address)
    assert f'"{url}" for a server' in str(caught.value)
    assert '"./' in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_password_of_an_address_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="http://qdrant:6333") as caught:
        QdrantPageStore("ada:secret@qdrant:6333")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "./localhost:6333", "a/qdrant:6333", "v1.2", "notes:draft", "qdrant.index"])
def test_folders_stay_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with QdrantPageStore(name) as store:
        assert store.folder == Path(name)


def test_a_folder_that_is_there_or_a_path_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with QdrantPageStore(Path("qdrant:6333")) as store:
        assert store.folder == Path("qdrant:6333")
    Path("qdrant:6333").mkdir(exist_ok=True)
    with QdrantPageStore("qdrant:6333") as store:
        assert store.folder == Path("qdrant:6333")


@pytest.mark.parametrize("command", [["index", "x.pdf"], ["search", "violin"]])
def test_the_command_line_refuses_it_too(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.4")
    assert main([*command, "--index", "localhost:6333"]) != 0
    assert '"http://localhost:6333" for a server' in capsys.readouterr().err
    assert not (tmp_path / "localhost:6333").exists()


# --- refusals in words ----------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """Gives every request one answer: the server's `answer` of status, content type and body."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, kind, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status == 302:
            self.send_header("Location", "https://login.example.org/in?ticket=secret")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    """The URL of a server with one answer."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.answer = (status, kind, body)  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def qdrant_error(sentence: str) -> bytes:
    return json.dumps({"status": {"error": sentence}, "time": 0.00002}).encode()


REFUSALS = [
    (401, "Must provide an API key or an Authorization bearer token", "give api_key"),
    (401, "Invalid API key or JWT", "does not know the key"),
    (403, "Forbidden: Global manage access is required", "may not manage"),
    (403, "Forbidden: Global access is required", "may not see every collection"),
    (403, "Forbidden: Access to collection pages.next is required", "may not see collection pages.next"),
    (403, "Forbidden: Write access to collection pages is required", "may not write to collection pages"),
    (
        400,
        'Bad request: Index required but not found for "metadata.org" of one of the following types: [keyword]. '
        "Help: Create an index for this key or use a different filter.",
        'indexed_fields={"org": "keyword"}',
    ),
    (
        400,
        'Bad request: Index required but not found for "metadata.year" of one of the following types: '
        "[float, integer].",
        'indexed_fields={"year": "float"} ("integer" where all values are whole numbers)',
    ),
    (
        400,
        'Bad request: Index required but not found for "metadata.day" of one of the following types: [datetime].',
        'indexed_fields={"day": "datetime"}',
    ),
    (
        400,
        'Bad request: Index required but not found for "visrag.given.page" of one of the following types: [float].',
        "store's own",
    ),
    (400, "Format error in JSON body: data did not match any variant of untagged enum VectorsConfig", "float16"),
    (
        500,
        "Segment DB create panickedwith: not implemented: turbo4 datatype storage not yet wired up",
        "float16",
    ),
    (
        500,
        "Service internal error: No space left on device: WAL buffer size exceeds available disk space",
        "disk is full",
    ),
    (500, "1 of 1 read operations failed: tcp connect error", "replication_factor"),
    (500, "1 out of 3 shards failed to apply operation. tcp connect error", "--replicas 2"),
    (500, "Waiting for consensus operation commit failed. Timeout set at: 10 seconds", "GET /cluster"),
    (400, "JSON payload (35160731 bytes) is larger than allowed (limit: 33554432 bytes).", "fewer pages"),
    (422, "Total size of all vectors (1048576) must be less than 1048576", "1,048,575"),
    (400, "Wrong input: Not existing vector name error: patches", "Open the store again"),
    (400, "Wrong input: Shard key not specified", "custom sharding"),
    (400, "Exact search disabled!. Help: Set exact=false.", "strict mode"),
    (400, 'Limit exceeded 200 > 10 for "oversampling"', "strict mode"),
    (400, "Condition size limit reached (150 > 100)", "strict mode"),
    (404, "Not found: Collection `x` doesn't exist!", "prepare(embedder)"),
    (409, "Wrong input: Collection `x` already exists!", "Another process"),
    (418, "A sentence that nobody knows", "older or newer"),
]


@pytest.mark.parametrize(("status", "sentence", "advice"), REFUSALS)
def test_a_refusal_is_the_servers_sentence_with_advice_that_fits(status: int, sentence: str, advice: str) -> None:
    kind, body = "application/json", qdrant_error(sentence)
    if status == 401:
        kind, body = "text/plain", sentence.encode()
    with answering(status, kind, body) as url, pytest.raises(StoreError) as caught:
        QdrantPageStore(url, timeout=5)
    said = str(caught.value)
    assert sentence in said
    assert advice in said
    assert not re.search(r"b'|Raw response|Unexpected Response|\"time\"|[^.]\.\. |What was added", said)
    assert status == 401 or "api_key" not in said


class GrpcError(Exception):
    """What grpc raises, as far as the store looks at it."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"<_InactiveRpcError of RPC that terminated with: status = StatusCode.{code}>")
        self._code, self._details = code, details

    def code(self) -> Any:
        return SimpleNamespace(name=self._code)

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("code", "details", "advice"),
    [
        ("UNAUTHENTICATED", "Must provide an API key", "give api_key"),
        ("PERMISSION_DENIED", "Forbidden: Write access to collection pages is required", "may not write"),
        ("INVALID_ARGUMENT", "Wrong input: Not existing vector name error: patches", "Open the store again"),
        ("NOT_FOUND", "Not found: Collection `x` doesn't exist!", "prepare(embedder)"),
        ("RESOURCE_EXHAUSTED", "Rate limiting exceeded", "fewer requests"),
        ("INTERNAL", "Service internal error: No space left on device", "disk is full"),
        ("UNAVAILABLE", "failed to connect to all addresses; Connection refused", "Is the Qdrant server running"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "timeout=seconds"),
    ],
)
def test_grpc_is_refused_in_the_same_words(code: str, details: str, advice: str) -> None:
    err = GrpcError(code, details)
    assert details in read_refusal(err).sentence
    assert advice in advice_on(err, "counting pages", AskedServer())


def test_what_may_pass_and_what_stays() -> None:
    passing = [
        GrpcError("INTERNAL", "Service internal error: task cancelled"),
        GrpcError("UNAVAILABLE", "failed to connect to all addresses"),
        GrpcError("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        UnexpectedResponse(500, "", qdrant_error("1 of 1 read operations failed"), httpx.Headers()),
        UnexpectedResponse(502, "", b"<html>Bad Gateway</html>", httpx.Headers()),
        ResponseHandlingException(httpx.ReadTimeout("timed out")),
        ResponseHandlingException(httpx.ConnectError("Connection refused")),
        ResponseHandlingException(httpx.RemoteProtocolError("peer closed connection")),
        ResourceExhaustedResponse("slow down", 1),
    ]
    staying = [
        UnexpectedResponse(500, "", qdrant_error("No space left on device: WAL buffer size"), httpx.Headers()),
        UnexpectedResponse(500, "", qdrant_error("turbo4 datatype storage not yet wired up"), httpx.Headers()),
        UnexpectedResponse(403, "", qdrant_error("Forbidden"), httpx.Headers()),
        GrpcError("INTERNAL", "No space left on device"),
        GrpcError("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)"),
        GrpcError("INVALID_ARGUMENT", "Wrong input"),
        ResponseHandlingException(httpx.ConnectError("CERTIFICATE_VERIFY_FAILED: certificate verify failed")),
        ResponseHandlingException(httpx.LocalProtocolError("Illegal header value b'secret\\n'")),
    ]
    assert [may_pass(err) for err in passing] == [True] * len(passing)
    assert [may_pass(err) for err in staying] == [False] * len(staying)


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (200, "text/html", b"<!doctype html><html><title>Sign in</title></html>", 'a web page ("Sign in")'),
        (403, "text/html", b"<html><title>Access denied</title></html>", "Access denied"),
        (404, "text/html", b"<html><body>nginx</body></html>", "a web page"),
        (302, "text/html", b"", "redirects to https://login.example.org/in"),
        (200, "application/json", b'{"hello": "world"}', "the answer"),
        (200, "application/json", b"[1, 2]", "not what Qdrant answers"),
        (404, "application/json", b'{"detail": "Not Found"}', "JSON that is not Qdrant's"),
        (200, "text/plain", b"pong", "no JSON"),
        (200, "text/plain", b"", "empty"),
    ],
)
def test_something_that_is_no_qdrant(status: int, kind: str, body: bytes, said: str) -> None:
    with answering(status, kind, body) as url, pytest.raises(StoreError) as caught:
        QdrantPageStore(url, timeout=5)
    assert said in str(caught.value)
    assert "no Qdrant server" in str(caught.value)
    assert f"port {url.rpartition(':')[2]}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_answer_that_is_cut_off() -> None:
    whole = b'{"result": {"exists": true}, "status": "ok", "time": 0.0}'
    with answering(200, "application/json", whole[:30]) as url, pytest.raises(StoreError, match="cut off"):
        QdrantPageStore(url, timeout=5)


@pytest.mark.parametrize("key", ["secret\nkey", "secret\tkey", "sécret"])
def test_a_key_that_no_request_may_carry_is_not_shown(key: str) -> None:
    with pytest.raises(SettingError, match="api_key holds") as caught:
        QdrantPageStore("http://127.0.0.1:1", api_key=key, timeout=2)
    assert key not in str(caught.value)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://127.0.0.1", r"port 6333 was asked\..*add :443"),
        ("http://127.0.0.1", r"port 6333 was asked\..*add :80"),
        ("http://127.0.0.1:1/qdrant", r"port 1, path /qdrant was asked\..*only where a proxy"),
        ("http://ada:secret@127.0.0.1:1", "Host 127.0.0.1, port 1 was asked"),
    ],
)
def test_a_failed_connection_names_what_was_asked(url: str, asked: str) -> None:
    with pytest.raises(StoreError, match=asked) as caught:
        QdrantPageStore(url, timeout=2)
    assert "secret" not in str(caught.value)


def test_local_mode_blames_no_server() -> None:
    client = QdrantClient(":memory:")
    engine = ClientEngine(client, "pages", "the given QdrantClient", owned=False)
    with pytest.raises(StoreError) as caught:
        engine.count(None)
    assert "running" not in str(caught.value)
    assert "client in this process" in str(caught.value)


# --- versions -------------------------------------------------------------------------------------------------------


class Letters:
    """Vectors of a text's length; enough to prepare a collection."""

    name, dimension = "letters", 8

    def __init__(self, kind: str = "single") -> None:
        self.kind = kind

    def embed_pages(self, pages: Any) -> list[Any]:
        return self.embed_queries(page.text for page in pages)

    def embed_queries(self, queries: Any) -> list[Any]:
        rows = 1 if self.kind == "single" else 3
        made = [np.full((rows, 8), len(getattr(query, "text", query)) + 1.0, np.float32) for query in queries]
        return [vectors[0] if self.kind == "single" else vectors for vectors in made]


@pytest.mark.parametrize(
    ("version", "storage", "kind", "pooling", "needs"),
    [
        ("1.18.3", "compact", "multi", None, "1.19.0"),
        ("1.18.3", "compact", "multi", "rows", "1.20.0"),
        ("1.18.3", "compact", "single", None, "1.20.0"),
        ("1.18.3", "8bit", "single", None, "1.20.0"),
        ("1.16.0", "8bit", "multi", None, "1.20.0"),
        ("1.19.2", "8bit", "multi", None, "1.20.0"),
        ("1.19.2", "compact", "multi", "rows", "1.20.0"),
        ("1.19.0-dev", "compact", "multi", None, "1.19.0"),
        (None, "compact", "multi", None, "1.19.0"),
    ],
)
def test_a_server_is_not_asked_for_a_datatype_that_it_lacks(
    version: str | None, storage: str, kind: str, pooling: str | None, needs: str
) -> None:
    with serving() as server:
        server.version = version
        with QdrantPageStore(server.url, storage=storage, pooling=pooling) as store:
            with pytest.raises(SettingError) as caught:
                store.prepare(Letters(kind))
            assert f"needs Qdrant {needs}" in str(caught.value)
            assert "storage='float16'" in str(caught.value)
            assert server.created == {}
            assert not any(request.startswith("PUT") for request in server.requests)


@pytest.mark.parametrize(
    ("version", "storage", "kind", "pooling"),
    [
        ("1.16.0", "float32", "single", None),
        ("1.16.3", "float16", "multi", "rows"),
        ("1.18.3", "float16", "single", None),
        ("1.19.0", "compact", "multi", None),
        ("1.20.0", "compact", "multi", "rows"),
        ("1.20.1", "8bit", "single", None),
        ("v2.0.0", "8bit", "multi", None),
        (None, "float16", "single", None),
        ("nonsense", "float32", "single", None),
    ],
)
def test_what_a_server_has_is_made_and_its_version_asked_once(
    version: str | None, storage: str, kind: str, pooling: str | None
) -> None:
    with serving() as server:
        server.version = version
        with QdrantPageStore(server.url, storage=storage, pooling=pooling) as store:
            store.prepare(Letters(kind))
            store.add_pages([Page("d", 1, text="x")], Letters(kind).embed_queries(["x"]))
            assert store.count() == 1
        assert server.versions_asked == 1
        assert "pages.v1" in server.created


@pytest.mark.parametrize("version", ["1.15.4", "1.9.0", "0.11.0", "1.16.0-dev"])
def test_an_older_server_is_refused_by_name(version: str) -> None:
    with serving() as server:
        server.version = version
        with pytest.raises(StoreError, match=r"server is (1\.15|1\.9|0\.11).*1\.16\.0 is the oldest"):
            QdrantPageStore(server.url)
        assert server.requests == []


# --- time and trouble -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "refused", "cut", "lost"])
def test_two_faults_cost_no_read_and_no_write(fault: str) -> None:
    embedder = Letters()
    with serving() as server, QdrantPageStore(server.url, timeout=10) as store:
        store.prepare(embedder)
        left = iter([fault, fault])
        server.plan = lambda *_: next(left, None)
        store.add_pages([Page("d", 1, text="x")], embedder.embed_queries(["x"]))
        left = iter([fault, fault])
        assert store.count() == 1
        assert server.faults[fault] == 4


def test_a_third_fault_is_an_error_and_a_refusal_is_one_at_once() -> None:
    with serving() as server, QdrantPageStore(server.url, timeout=10) as store:
        store.prepare(Letters())
        for fault, sent in (("503", 3), ("400", 1)):
            before = len(server.requests)
            server.plan = lambda *_, fault=fault: fault
            with pytest.raises(StoreError, match="told to fail"):
                store.count()
            assert len(server.requests) == before + sent


def test_a_full_disk_is_not_tried_again() -> None:
    client = QdrantClient(":memory:")
    sent: list[str] = []

    class Full(QdrantClient):
        def count(self, *_: Any, **__: Any) -> Any:
            sent.append("count")
            raise UnexpectedResponse(500, "", qdrant_error("No space left on device: WAL buffer size"), httpx.Headers())

    full = Full(":memory:")
    full._init_options["location"] = client._init_options["location"] = "http://127.0.0.1:6333"
    with pytest.raises(StoreError, match="disk is full"):
        ClientEngine(full, "pages", "the given QdrantClient", owned=False).count(None)
    assert sent == ["count"]


def test_a_creation_whose_answer_got_lost_is_not_sent_twice() -> None:
    with serving() as server, QdrantPageStore(server.url, timeout=10) as store:
        lost = iter(["lost"])
        server.plan = lambda _, method, path: (
            next(lost, None) if (method, path) == ("PUT", "/collections/pages.v1") else None
        )
        store.prepare(Letters())
        assert server.requests.count("PUT /collections/pages.v1") == 1
        assert store.count() == 0


def test_ingestions_own_tries_are_not_multiplied() -> None:
    with serving() as server, QdrantPageStore(server.url, timeout=10) as store:
        store.prepare(Letters())
        before = len(server.requests)
        server.plan = lambda *_: "503"
        retrying = functools.partial(RetryingStoreClient, retry=Retry(limit=4, first_wait=0.01))
        with store.client_through(retrying), pytest.raises(StoreError, match="failed 4 times"):
            store.count()
        assert len(server.requests) == before + 4


def test_a_server_that_restarts_is_waited_for() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    over = threading.Event()

    def start() -> None:
        time.sleep(1.0)
        with serving(port=port):
            over.wait(20)

    starting = threading.Thread(target=start)
    starting.start()
    try:
        with QdrantPageStore(f"http://127.0.0.1:{port}", timeout=5) as store:
            store.prepare(Letters())
            assert store.count() == 0
    finally:
        over.set()
        starting.join()


def test_a_server_that_is_away_is_an_error_in_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match="Tried for 3 seconds"):
        QdrantPageStore("http://127.0.0.1:1")
    assert 2 < time.monotonic() - started < 10


def test_the_time_limits_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def send(self: Any, request: httpx.Request) -> Any:
        seen.append(dict(request.extensions["timeout"]))
        raise httpx.ReadTimeout("timed out")

    monkeypatch.setattr(httpx.Client, "send", send)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for given, said, expected in ((None, None, 60), (7, None, 7), (None, "90", 90), (2, "90", 2)):
        monkeypatch.delenv("VISRAG_TIMEOUT", raising=False)
        if said is not None:
            monkeypatch.setenv("VISRAG_TIMEOUT", said)
        seen.clear()
        with pytest.raises(StoreError, match="timeout=seconds"):
            QdrantPageStore("http://127.0.0.1:1", timeout=given)
        assert [(limits["read"], limits["connect"]) for limits in seen] == [(expected, min(5, expected))] * 3


@pytest.mark.parametrize("said", ["0", "soon", "-5", "1.5"])
def test_a_time_limit_that_is_none(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISRAG_TIMEOUT", said)
    with pytest.raises(SettingError, match="VISRAG_TIMEOUT"):
        QdrantPageStore("http://127.0.0.1:1")
