"""A server on this machine that reranks by a rule, and can be told to be slow, busy, wrong, or out of order."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any


def score_of(query: Any, document: Any) -> float:
    """The share of the document's letters that the query has too; of a picture, by the length of its data."""
    if isinstance(document, str):
        return sum(letter in str(query) for letter in document) / max(len(document), 1)
    return 1 / len(json.dumps(document))


class RerankServer(http.server.ThreadingHTTPServer):
    """Answers as vLLM does; what is queued in `script` comes first.

    A step is a status with headers and perhaps a text, bytes to answer, or a function that changes the list of results.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[tuple[Any, ...] | bytes | Callable[[list[dict[str, Any]]], Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[Any] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: RerankServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.paths.append(self.path)
        self.server.headers.append(self.headers)
        step: Any = self.server.script.pop(0) if self.server.script else None
        status, headers, *said = step if isinstance(step, tuple) else (200, {})
        data = step if isinstance(step, bytes) else json.dumps(self._answer(body, step)).encode()
        data = said[0] if said else data
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, body: dict[str, Any], change: Any) -> Any:
        query = body.get("query", body.get("queries"))
        pages = body.get("documents", body.get("texts"))
        scores = [score_of(query, page) for page in pages]
        if self.path.endswith("/score"):
            entries = [{"index": place, "object": "score", "score": score} for place, score in enumerate(scores)]
            return {"data": change(entries) if callable(change) else entries}
        entries = [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]
        entries.sort(key=lambda entry: -float(entry["relevance_score"]))  # best first, as they all answer
        return {"results": change(entries) if callable(change) else entries}

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[RerankServer]:
    """A server that runs until the block is left."""
    with RerankServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
