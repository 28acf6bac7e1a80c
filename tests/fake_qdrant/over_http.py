"""The server over HTTP, at one address that can be switched off and on again."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from fake_qdrant.requests import Refusal, Request

if TYPE_CHECKING:
    from fake_qdrant.server import FakeQdrant


class Address:
    """One HTTP address of a server."""

    def __init__(self, fake: FakeQdrant, port: int = 0) -> None:
        self._fake, self.port = fake, port
        self._server: _Server | None = None
        self.switch_on()

    @property
    def url(self) -> str:
        """As a client is given it."""
        return f"http://127.0.0.1:{self.port}"

    def switch_on(self) -> None:
        """Answer at the same port again."""
        if self._server is not None:
            return
        self._server = _Server(self._fake, self.port)
        self.port = self._server.server_port
        # A short poll, so that many tests end fast.
        serve = {"poll_interval": 0.02}
        threading.Thread(target=self._server.serve_forever, kwargs=serve, daemon=True).start()

    def switch_off(self) -> None:
        """Refuse connections from now on, and drop those that are open."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        server.server_close()
        server.drop_connections()

    def hang(self) -> None:
        """Take connections from now on, and answer nothing; those that are open are dropped."""
        assert self._server is not None
        self._server.shutdown()
        self._server.drop_connections()

    def was_met(self) -> bool:
        """Whether somebody came since it hangs, or since this was asked; they are sent away."""
        assert self._server is not None
        self._server.socket.setblocking(False)
        try:
            connection, _ = self._server.socket.accept()
        except BlockingIOError:
            return False
        finally:
            self._server.socket.setblocking(True)
        connection.close()
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, fake: FakeQdrant, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.fake = fake
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # it went by itself
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def answer(self) -> None:
        fake, url = self.server.fake, urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path == "/":  # not counted among the requests: it is one a connection, whatever is done
            self.tell_version()
            return
        key = self.headers.get("api-key") or (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        request = Request(self.command, unquote(url.path), dict(parse_qsl(url.query)), sent=len(data), key=key)
        fault = fake.fault_for(request)
        if fault == "refused":
            self.drop()
            return
        if isinstance(fault, tuple) or (fault or "").isdecimal():
            self.fail(request, fault)
            return
        try:
            request.read_body(data)
            result = fake.result(request)
            if fault == "twice":
                result = fake.result(request)
        except Refusal as refusal:
            self.refuse(request, refusal)
            return
        if fault == "slow":
            time.sleep(fake.slow)
        elif fault == "hung":
            fake.go_on.wait()
        elif fault == "dropped":
            self.drop()
            return
        elif fault == "lost":
            self.fail(request, "503")
            return
        answer = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        request.answered = len(answer)
        self.reply(200, answer, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = answer  # noqa: N815

    def tell_version(self) -> None:
        fake = self.server.fake
        with fake.guard:
            fake.versions_asked += 1
        if fake.version is None:
            self.reply(403, b"<html><body>not for you</body></html>")
            return
        told = {"title": "qdrant - vector search engine", "version": fake.version}
        self.reply(200, json.dumps(told).encode())

    def fail(self, request: Request, fault: Any) -> None:
        status, sentence = fault if isinstance(fault, tuple) else (int(fault), "told to fail")
        self.refuse(request, Refusal(status, sentence))

    def refuse(self, request: Request, refusal: Refusal) -> None:
        if refusal.status == 401:
            data, kind = refusal.sentence.encode(), "text/plain"
        else:
            data = json.dumps({"status": {"error": refusal.sentence}, "time": 0.0}).encode()
            kind = "application/json"
        if not refusal.sentence:
            data = b""  # no such path
        request.answered = len(data)
        self.reply(refusal.status, data, kind=kind)

    def drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def reply(self, status: int, data: bytes, *, kind: str = "application/json", cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
