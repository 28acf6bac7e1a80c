"""A server on this machine that embeds by hash, and can be told to be slow, busy or wrong."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


def vector_of(thing: Any) -> list[float]:
    """Four numbers that only depend on what was sent."""
    return [byte + 1.0 for byte in hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).digest()[:4]]


class Server(http.server.ThreadingHTTPServer):
    """Embeds by hash.

    What is queued in `script` comes first: a status, seconds to sleep, bytes to answer, or an event to wait for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[int | float | bytes | dict[str, str] | threading.Event] = []
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[Any] = []
        self.answer: Callable[[list[Any]], Any] = lambda things: {
            "data": [{"index": i, "embedding": vector_of(thing)} for i, thing in enumerate(things)][::-1]
        }


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.paths.append(self.path)
        self.server.headers.append(self.headers)
        step = self.server.script.pop(0) if self.server.script else b""
        things = body["input"] if "input" in body else [body["messages"]]
        if isinstance(step, float):
            time.sleep(step)
        if isinstance(step, threading.Event):
            step.wait()
        status = step if isinstance(step, int) else 429 if isinstance(step, dict) else 200
        data = step if isinstance(step, bytes) and step else json.dumps(self.server.answer(things)).encode()
        try:
            self.send_response(status)
            for name, value in (step if isinstance(step, dict) else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client gave up
            pass

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server that runs until the block is left."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
