"""How much a request may bring, how many run at once, and how long one may take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from visrag_integrations.servers.web.asgi import App, Message, Receive, Scope, Send, header, path_of, send_error

logger = logging.getLogger(__name__)


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
        total_bytes: int = 256 * 1024 * 1024,
        bare_paths: Collection[str] = (),
    ) -> None:
        self.app, self.max_bytes, self.seconds, self.bare_paths = app, max_bytes, seconds, bare_paths
        self.total_bytes, self._held = max(total_bytes, max_bytes), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        share = _Share(0 if path_of(scope) in self.bare_paths else self.max_bytes)
        try:
            return await self._answer(scope, receive, send, share)
        finally:
            self._held -= share.bytes

    async def _answer(self, scope: Scope, receive: Receive, send: Send, share: _Share) -> None:
        declared = header(scope, "content-length") or ""
        try:
            if declared.isdecimal() and int(declared[:20]) > share.max_bytes:
                raise _TooLargeError
            body = await asyncio.wait_for(self._read(receive, share), self.seconds)
        except _TooLargeError:
            message = f"The request's body is larger than the {share.max_bytes} bytes that are allowed."
            return await send_error(send, 413, "too_large", message, connection="close")
        except _TooManyError:
            message = "The server holds as much of requests as it can. Try again in a moment."
            return await send_error(send, 503, "overloaded", message, retry_after="1", connection="close")
        except asyncio.TimeoutError:
            message = f"The request's body did not come within {self.seconds:g} seconds."
            return await send_error(send, 408, "too_slow", message, connection="close")
        if body is None:
            return None  # the client went away
        return await self.app(scope, _again(body, receive), send)

    async def _read(self, receive: Receive, share: _Share) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            piece = message.get("body", b"")
            if len(body) + len(piece) > share.max_bytes:
                raise _TooLargeError
            if self._held + len(piece) > self.total_bytes:
                raise _TooManyError
            share.bytes += len(piece)
            self._held += len(piece)
            body += piece
            if not message.get("more_body", False):
                return bytes(body)


class LimitConcurrency:
    """At most so many requests at once; what comes beyond is told to come again.

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
        answer, gone = _Answer(send), asyncio.Event()
        body = await receive()
        client = asyncio.ensure_future(_away(receive, gone))
        work = asyncio.ensure_future(self.app(scope, _body_then_away(body, gone), answer))
        seconds = self.of_path.get(path_of(scope), self.seconds)
        try:
            await asyncio.wait({work, client}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
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


class _Answer:
    """Passes an answer on, and knows how far it is."""

    def __init__(self, send: Send) -> None:
        self._send, self.started, self.ended = send, False, False

    async def __call__(self, message: Message) -> None:
        self.started = True
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


async def _away(receive: Receive, gone: asyncio.Event) -> None:
    """Come back when the client went away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


@dataclass
class _Share:
    """What one request holds of the bytes of all."""

    max_bytes: int
    bytes: int = 0


class _TooLargeError(Exception):
    pass


class _TooManyError(Exception):
    pass


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what really comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def once_more() -> Message:
        return first.pop() if first else await receive()

    return once_more


def _body_then_away(body: Message, gone: asyncio.Event) -> Receive:
    """A `receive` that gives the body, then that the client went away, once it did."""
    first = [body]

    async def receive() -> Message:
        if first:
            return first.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive
