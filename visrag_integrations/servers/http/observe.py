"""Around every request: it is counted and logged, its answer gets security headers, and a crash becomes an error."""

from __future__ import annotations

import logging
import time

from visrag_integrations.servers.http.metrics import Metrics
from visrag_integrations.servers.web.asgi import CLIENT, App, ASGIMessage, Receive, Scope, Send, path_of, send_error

logger = logging.getLogger(__name__)
access_log = logging.getLogger("visrag_integrations.servers.http.access")

ROUTES = ("/search", "/ask", "/health", "/health/live", "/health/ready", "/metrics", "/openapi.json")
HEALTH = ("/health", "/health/live", "/health/ready")
UNCOUNTED = (*HEALTH, "/metrics")
"""Paths that answer even when the server is busy."""
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

        async def watched(message: ASGIMessage) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message["headers"]}
                more = [header for header in _HEADERS.items() if header[0] not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, watched)
        except Exception:
            logger.exception("%s %s failed", scope["method"], route_of(path_of(scope)))
            if not status:
                await send_error(watched, 500, "internal", "The server failed; its log says why.")
        finally:
            self.metrics.in_flight.dec()
            self._record(scope, status, time.perf_counter() - started)
        return None

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = route_of(path_of(scope)), scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(route, method, str(status or "gone")).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        client = scope.get(CLIENT) or "-"
        access_log.info("%s %s %s %d %.1f ms", client, method, route, status, 1000 * seconds)


def route_of(path: str) -> str:
    """The route of a path, one of a handful.

    >>> route_of("/search"), route_of("/pages/5/image"), route_of("/pages/5"), route_of("/etc/passwd")
    ('/search', '/pages/{id}/image', '/pages/{id}', 'other')
    """
    if path in ROUTES:
        return path
    if path.startswith("/pages/"):
        return "/pages/{id}/image" if path.endswith("/image") else "/pages/{id}"
    return "other"
