"""Around every request: it is counted and logged, its answer gets security headers, and a crash becomes an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from visrag_integrations.servers.http.metrics import Metrics
from visrag_integrations.servers.web.asgi import CLIENT, App, ASGIMessage, Receive, Scope, Send, path_of, send_error

logger = logging.getLogger(__name__)
access_log = logging.getLogger("visrag_integrations.servers.http.access")

ROUTES = ("/search", "/ask", "/health", "/health/live", "/health/ready", "/metrics", "/openapi.json")
HEALTH = ("/health", "/health/live", "/health/ready")
UNCOUNTED = (*HEALTH, "/metrics")
"""Paths that answer even when the server is busy."""
# The labels of metrics: each value is a time series that is kept, so a client must not be able to make up new ones.
_METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"}
_HEADERS = {b"x-content-type-options": b"nosniff", b"referrer-policy": b"no-referrer", b"cache-control": b"no-store"}


class Observe:
    """Outermost; queries are never logged."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.perf_counter(), 0

        async def with_headers(message: ASGIMessage) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _secured(message["headers"])}
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, with_headers)
        except Exception:
            logger.exception("%s %s failed", scope["method"], route_of(path_of(scope)))
            if not status:  # else a part of the answer was sent already
                await send_error(with_headers, 500, "internal", "The server failed; its log says why.")
        finally:
            self.metrics.in_flight.dec()
            self._record(scope, status, time.perf_counter() - started)
        return None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = route_of(path_of(scope)), scope["method"]
        if method not in _METHODS:
            method = "other"
        self.metrics.requests.labels(route, method, str(status or "gone")).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        client = scope.get(CLIENT) or "-"
        access_log.info("%s %s %s %d %.1f ms", client, method, route, status, 1000 * seconds)


def _secured(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers and those of ours that a route has not set itself."""
    secured = list(headers)
    given = {name.lower() for name, _ in secured}
    for name, value in _HEADERS.items():
        if name not in given:
            secured.append((name, value))
    return secured


def route_of(path: str) -> str:
    """The route of a path, one of a handful.

    >>> route_of("/search"), route_of("/pages/5/image"), route_of("/pages/5"), route_of("/etc/passwd")
    ('/search', '/pages/{id}/image', '/pages/{id}', 'other')
    """
    if path in ROUTES:
        return path
    if not path.startswith("/pages/"):
        return "other"
    if path.endswith("/image"):
        return "/pages/{id}/image"
    return "/pages/{id}"
