"""ASGI in a few words: types, a request header, an error as JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT = "visrag.client"
"""The key of a request's scope that says who asks: a token by its place, or an address."""


def header(scope: Scope, name: str) -> str | None:
    """The request header, the first of that name."""
    wanted = name.lower().encode("ascii")
    found: Iterable[bytes] = (value for key, value in scope["headers"] if key == wanted)
    return next((value.decode("latin-1") for value in found), None)


def path_of(scope: Scope) -> str:
    """The request's path inside the app, wherever that is mounted.

    >>> path_of({"path": "/visrag/health", "root_path": "/visrag"}), path_of({"path": "/health"})
    ('/health', '/health')
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def error_body(kind: str, message: str) -> dict[str, dict[str, str]]:
    """Every error of the servers has this shape.

    >>> error_body("not_found", "No page has this id.")
    {'error': {'type': 'not_found', 'message': 'No page has this id.'}}
    """
    return {"error": {"type": kind, "message": message}}


async def send_error(send: Send, status: int, kind: str, message: str, **headers: str) -> None:
    """Answer with an error; headers are given with underscores (`retry_after="1"`)."""
    body = json.dumps(error_body(kind, message), ensure_ascii=False).encode()
    lines = {"content-type": "application/json", "content-length": str(len(body)), "x-content-type-options": "nosniff"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
