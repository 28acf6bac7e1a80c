"""A Qdrant server in this process: answers over HTTP from `QdrantClient(":memory:")`, and fails when it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models

Plan = Callable[[int, str, str], "str | None"]
"""(number of the request, method, path) -> None, "refused", "400", "429", "503", "slow", "cut", "twice" or "lost"."""


class FakeQdrant(ThreadingHTTPServer):
    """Counts requests and faults; `plan` says which request fails how."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, plan: Plan | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.plan: Plan = plan or (lambda *_: None)
        self.memory = QdrantClient(":memory:")
        self.guard = threading.RLock()
        self.requests: list[str] = []
        self.created: dict[str, dict[str, Any]] = {}
        self.faults: Counter[str] = Counter()
        self.slow = 3.0
        self.cluster: dict[str, Any] = {"status": "disabled"}
        self.version: str | None = "1.18.3"
        self.versions_asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


@contextlib.contextmanager
def serving(plan: Plan | None = None) -> Iterator[FakeQdrant]:
    server = FakeQdrant(plan)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeQdrant

    def answer(self) -> None:
        if self.path == "/":  # not counted among the requests: it is one a connection, whatever is done
            self.tell_version()
            return
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        path = self.path.partition("?")[0]
        with self.server.guard:
            self.server.requests.append(f"{self.command} {path}")
            fault = self.server.plan(len(self.server.requests), self.command, path)
            self.server.faults[fault or ""] += 1
        if fault in ("refused", "400", "429", "503"):
            self.fail(fault)
            return
        for _ in range(2 if fault == "twice" else 1):
            with self.server.guard:
                status, result = self.result(path.strip("/").split("/"), body)
        if fault == "lost":
            self.fail("503")
            return
        if fault == "slow":
            time.sleep(self.server.slow)
        data = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        self.reply(status, data, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def tell_version(self) -> None:
        with self.server.guard:
            self.server.versions_asked += 1
        if self.server.version is None:
            self.reply(403, b"<html><body>not for you</body></html>")
            return
        told = {"title": "qdrant - vector search engine", "version": self.server.version}
        self.reply(200, json.dumps(told).encode())

    def fail(self, fault: str) -> None:
        if fault == "refused":
            self.close_connection = True
            self.connection.close()
        else:
            self.reply(int(fault), b'{"status": {"error": "told to fail"}}', retry_after=fault == "429")

    def reply(self, status: int, data: bytes, *, cut: bool = False, retry_after: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def result(self, path: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        memory = self.server.memory
        if path == ["collections", "aliases"]:
            return 200, memory.update_collection_aliases(models.ChangeAliasesOperation(**body).actions)
        if path == ["aliases"]:
            return 200, memory.get_aliases().model_dump(mode="json")
        if path == ["cluster"]:
            return 200, self.server.cluster
        name, rest = path[1], tuple(path[2:])
        if rest == ("exists",):
            return 200, {"exists": memory.collection_exists(name)}
        try:
            return 200, self.collection(name, rest, body)
        except ValueError as err:
            return (404 if "not found" in str(err) else 400), str(err)

    def collection(self, name: str, rest: tuple[str, ...], body: dict[str, Any]) -> Any:
        memory, done = self.server.memory, {"operation_id": 0, "status": "completed"}
        match self.command, rest:
            case "PUT", ():
                wanted = models.CreateCollection(**body)
                self.server.created[name] = body
                return memory.create_collection(
                    name, vectors_config=wanted.vectors, sparse_vectors_config=wanted.sparse_vectors
                )
            case "GET", ():
                return memory.get_collection(name).model_dump(mode="json")
            case "DELETE", ():
                return memory.delete_collection(name)
            case "PUT", ("index",):
                return done
            case "PUT", ("points",):
                memory.upsert(name, models.PointsList(**body).points)
                return done
            case "POST", ("points", "delete"):
                if "filter" in body:
                    memory.delete(name, models.FilterSelector(**body))
                else:
                    memory.delete(name, models.PointIdsList(**body).points)
                return done
            case "POST", ("points", "payload"):
                change = models.SetPayload(**body)
                chosen = change.points if change.filter is None else change.filter
                memory.set_payload(name, change.payload, points=chosen, key=change.key)
                return done
            case "POST", ("points", "batch"):
                memory.batch_update_points(name, models.UpdateOperations(**body).operations)
                return [done]
            case _:
                return self.looked_up(name, rest, body)

    def looked_up(self, name: str, rest: tuple[str, ...], body: dict[str, Any]) -> Any:
        memory = self.server.memory
        match rest:
            case ("points",):
                ask = models.PointRequest(**body)
                found = memory.retrieve(name, ask.ids, with_payload=ask.with_payload, with_vectors=ask.with_vector)
                return [record.model_dump(mode="json") for record in found]
            case ("points", "scroll"):
                scroll = models.ScrollRequest(**body)
                records, offset = memory.scroll(
                    name,
                    scroll_filter=scroll.filter,
                    limit=scroll.limit,
                    offset=scroll.offset,
                    with_payload=scroll.with_payload,
                    with_vectors=scroll.with_vector,
                )
                return {"points": [r.model_dump(mode="json") for r in records], "next_page_offset": offset}
            case ("points", "count"):
                return {"count": memory.count(name, models.CountRequest(**body).filter).count}
            case ("points", "query"):
                query = models.QueryRequest(**body)
                hits = memory.query_points(
                    name,
                    query.query,
                    using=query.using,
                    prefetch=query.prefetch,
                    limit=query.limit,
                    query_filter=query.filter,
                )
                return {"points": [hit.model_dump(mode="json") for hit in hits.points]}
        raise ValueError(f"{self.command} {rest} is not found here")

    def log_message(self, *_: object) -> None:
        pass
