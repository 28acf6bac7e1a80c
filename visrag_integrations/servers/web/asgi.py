"""ASGI in a few words: types, what a request says, and how to answer it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT = "visrag.client"
"""The key of a request's scope that says who asks: a token by its place, or an address."""


def header_values(scope: Scope, name: str) -> list[str]:
    """Every request header of that name, in order; a client may send one several times.

    >>> header_values({"headers": [(b"host", b"a"), (b"accept", b"*/*"), (b"host", b"b")]}, "Host")
    ['a', 'b']
    """
    wanted = name.lower().encode("ascii")
    values: list[str] = []
    for key, value in scope["headers"]:
        # ASGI promises lower case. A server that keeps capitals must not hide a second header of that name.
        if key.lower() == wanted:
            values.append(value.decode("latin-1"))
    return values


def header(scope: Scope, name: str) -> str:
    """The first request header of that name; "" where there is none."""
    values = header_values(scope, name)
    return values[0] if values else ""


def path_of(scope: Scope) -> str:
    """The request's path inside the app, wherever that is mounted.

    >>> path_of({"path": "/visrag/health", "root_path": "/visrag"}), path_of({"path": "/health"})
    ('/health', '/health')
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path == root:
        return "/"
    if root and path.startswith(root + "/"):
        return path[len(root) :]
    return path


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what really comes."""
    first: list[ASGIMessage] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> ASGIMessage:
        if first:
            return first.pop()
        return await receive()

    return replayed


class TrackedSend:
    """Passes an answer on, and knows how far it is."""

    def __init__(self, send: Send) -> None:
        self._send, self.started, self.ended = send, False, False

    async def __call__(self, message: ASGIMessage) -> None:
        self.started = True
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


class WholeAnswer:
    """Holds an answer back until it is whole: for one that is short, and is changed before it goes out."""

    def __init__(self) -> None:
        self.status, self.body = 500, b""

    async def __call__(self, message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


async def respond(send: Send, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
    """A whole answer; its Content-Length is added."""
    lines = [*headers, ("content-length", str(len(body)))]
    encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in lines]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def error_body(kind: str, message: str) -> dict[str, dict[str, str]]:
    """Every error of the servers has this shape.

    >>> error_body("not_found", "No page has this id.")
    {'error': {'type': 'not_found', 'message': 'No page has this id.'}}
    """
    return {"error": {"type": kind, "message": message}}


async def send_error(send: Send, status: int, kind: str, message: str, **headers: str) -> None:
    """Answer with an error; headers are given with underscores (`retry_after="1"`)."""
    body = json.dumps(error_body(kind, message), ensure_ascii=False).encode()
    lines = {"content-type": "application/json", "x-content-type-options": "nosniff"}
    for name, value in headers.items():
        lines[name.replace("_", "-")] = value
    await respond(send, status, body, lines.items())
