"""How much a request may bring, how many run at once, and how long one may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from visrag_integrations.servers.web.asgi import (
    App,
    ASGIMessage,
    Receive,
    Scope,
    Send,
    TrackedSend,
    header,
    path_of,
    replay,
    send_error,
)

logger = logging.getLogger(__name__)


class BodyTooLargeError(Exception):
    """A request's body went on after its limit."""


class CountedBody:
    """A `receive` that counts the body's bytes, for an app that reads them as they come.

    Args:
        receive: Of the request.
        max_bytes: Of the body. One byte more raises `BodyTooLargeError`.
    """

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive, self.max_bytes, self._counted = receive, max_bytes, 0

    async def __call__(self) -> ASGIMessage:
        message = await self._receive()
        self._counted += len(message.get("body", b""))
        if self._counted > self.max_bytes:
            raise BodyTooLargeError
        return message

    async def read(self) -> bytes | None:
        """All of it; None where the client went away."""
        body = bytearray()
        while True:
            message = await self()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                return bytes(body)


def declared_length(scope: Scope) -> int:
    """The body's length as the request declares it; 0 where it does not, or not as a number.

    It can be wrong: what really comes has to be counted too.

    >>> declared_length({"headers": [(b"content-length", b"12")]}), declared_length({"headers": []})
    (12, 0)
    """
    declared = header(scope, "content-length")
    if not declared.isdecimal():
        return 0
    # 20 digits are more bytes than any limit; Python refuses to read numbers of thousands of digits.
    return int(declared[:20])


class LimitBody:
    """Reads the request's body whole before the app is asked: at most so many bytes, in at most so many seconds.

    What is too large is refused as soon as that is known, so a large body is neither read nor kept, and a slow one
    holds nothing but its own connection and what came of it.

    Args:
        app: What is behind.
        max_bytes: Of one body.
        seconds: For one body.
        total_bytes: Of all bodies, from their first byte until they are answered; at least `max_bytes`.
        bare_paths: Paths that take no body, so that whoever needs no token for them takes nothing of `total_bytes`.
    """

    def __init__(
        self,
        app: App,
        max_bytes: int,
        seconds: float,
        total_bytes: int = 256 * 1024 * 1024,  # of memory; 16 bodies of the HTTP server's default size
        bare_paths: Collection[str] = (),
    ) -> None:
        self.app, self.max_bytes, self.seconds, self.bare_paths = app, max_bytes, seconds, bare_paths
        self.total_bytes, self.held_bytes = max(total_bytes, max_bytes), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        max_bytes = self.max_bytes
        if path_of(scope) in self.bare_paths:
            max_bytes = 0
        body = _HeldBody(receive, max_bytes, self)
        try:
            return await self._answer(scope, receive, send, body)
        finally:
            self.held_bytes -= body.held_bytes

    async def _answer(self, scope: Scope, receive: Receive, send: Send, body: _HeldBody) -> None:
        try:
            if declared_length(scope) > body.max_bytes:
                raise BodyTooLargeError
            whole = await asyncio.wait_for(body.read(), self.seconds)
        except BodyTooLargeError:
            message = f"The request's body is larger than the {body.max_bytes} bytes that are allowed."
            return await send_error(send, 413, "too_large", message, connection="close")
        except _TooManyError:
            message = "The server holds as much of requests as it can. Try again in a moment."
            return await send_error(send, 503, "overloaded", message, retry_after="1", connection="close")
        except asyncio.TimeoutError:
            message = f"The request's body did not come within {self.seconds:g} seconds."
            return await send_error(send, 408, "too_slow", message, connection="close")
        if whole is None:
            return None  # the client went away
        return await self.app(scope, replay(whole, receive), send)


class _HeldBody(CountedBody):
    """One body of those that are held at the same time."""

    def __init__(self, receive: Receive, max_bytes: int, all_bodies: LimitBody) -> None:
        super().__init__(receive, max_bytes)
        self.held_bytes, self._all = 0, all_bodies

    async def __call__(self) -> ASGIMessage:
        message = await super().__call__()
        size = len(message.get("body", b""))
        if self._all.held_bytes + size > self._all.total_bytes:
            raise _TooManyError
        # Counted piece by piece, not at the end: the bodies that come meanwhile need room too.
        self._all.held_bytes += size
        self.held_bytes += size
        return message


class _TooManyError(Exception):
    """All requests together hold as much as they may."""


class LimitConcurrency:
    """At most so many requests at once; the client of one more is told to come again.

    Args:
        app: What is behind.
        limit: How many.
        open_paths: Paths that are not counted.
        on_refusal: Called for each request that is sent away.
    """

    def __init__(
        self, app: App, limit: int, open_paths: Collection[str] = (), on_refusal: Callable[[], object] = lambda: None
    ) -> None:
        self.app, self.limit, self.open_paths, self.on_refusal = app, limit, open_paths, on_refusal
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) in self.open_paths:
            return await self.app(scope, receive, send)
        if self._running >= self.limit:
            self.on_refusal()
            message = f"The server answers {self.limit} requests already. Try again in a moment."
            return await send_error(send, 503, "overloaded", message, retry_after="1")
        self._running += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self._running -= 1


class LimitTime:
    """At most so many seconds for a request, from its body to its last byte; work for a client that went away stops.

    Args:
        app: What is behind.
        seconds: For every request.
        of_path: For requests to these paths instead.
    """

    def __init__(self, app: App, seconds: float, of_path: Mapping[str, float] | None = None) -> None:
        self.app, self.seconds, self.of_path = app, seconds, of_path or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        answer, gone = TrackedSend(send), asyncio.Event()
        body = await receive()
        client = asyncio.ensure_future(_wait_for_disconnect(receive, gone))
        work = asyncio.ensure_future(self.app(scope, _body_then_disconnect(body, gone), answer))
        seconds = self.of_path.get(path_of(scope), self.seconds)
        try:
            await asyncio.wait({work, client}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            # An answer that was sent whole may still have something to tidy up: that is not cut off.
            if answer.ended or work.done():
                return await work
        finally:
            client.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        if gone.is_set():
            return None
        if answer.started:  # the server closes the connection of an answer without an end
            logger.warning("%s %s: cut off after %g s", scope["method"], path_of(scope), seconds)
            return None
        return await send_error(send, 504, "timeout", f"No answer within {seconds:g} seconds. Try again later.")


async def _wait_for_disconnect(receive: Receive, gone: asyncio.Event) -> None:
    """Set the event when the client went away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _body_then_disconnect(body: ASGIMessage, gone: asyncio.Event) -> Receive:
    """A `receive` that gives the body, then that the client went away, once it did."""
    first = [body]

    async def receive() -> ASGIMessage:
        if first:
            return first.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive
