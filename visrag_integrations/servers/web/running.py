"""Run an ASGI app with uvicorn: slow clients are cut off, requests in flight are finished, then it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError
from visrag_integrations.servers.web.asgi import App, Receive, Scope, Send
from visrag_integrations.servers.web.hosts import bracketed
from visrag_integrations.servers.web.signals import ending_signals_call

if TYPE_CHECKING:
    import uvicorn


# Open files besides connections: an index in a folder has some hundred (segments, pictures that are being read).
_OTHER_FILES = 512
_LEAST_CONNECTIONS = 64  # where the system allows hardly any files at all


@dataclass(frozen=True)
class RunSettings:
    """How a server runs.

    Attributes:
        header_seconds: A request's headers must have come within so many.
        write_seconds: A client that takes nothing of its answer for so many is cut off.
        idle_seconds: How long a connection without a request is kept.
        shutdown_seconds: How long requests in flight may take when the server is told to end.
        max_connections: For one that comes beyond, the connection that has been idle for longest is closed; where none
            is idle, it is refused.
        proxies: Addresses of proxies whose X-Forwarded-For is believed, separated by commas.
    """

    # A client that sends a header line now and then (slow loris) or reads nothing holds a connection no longer than
    # this; one on a bad network needs a few seconds.
    header_seconds: float = 10.0
    write_seconds: float = 30.0
    idle_seconds: int = 15
    shutdown_seconds: int = 30
    # Idle connections cost some kB each. With room for a thousand only, a thousand that are opened again whenever one
    # is closed kept the server busy with that: 62 answers/s where there were 307 (benchmarks/serve.py --idle 1000).
    max_connections: int = 4000
    proxies: str = ""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any that is free.

    Raises:
        SettingError: The address cannot be had.
    """
    if not 0 <= port <= 65535:
        raise SettingError(f"--port {port} is no port; give one from 1 to 65535, or 0 for any that is free.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)  # connections that wait to be accepted; uvicorn's own number
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError) as err:
        raise SettingError(
            f"The server cannot listen on {host!r}, port {port}: {err}. Give another --host or --port (0 takes any)."
        ) from err
    return listening


def address_of(listening: socket.socket) -> str:
    """The URL of a server on this socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{bracketed(host)}:{port}"


def server_for(app: App, settings: RunSettings) -> uvicorn.Server:
    """A uvicorn server of this app; `run` it, or `await serve(sockets=[...])`."""
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type, unused-ignore]
        http=timed_protocol(settings),
        ws="none",  # no server here has a WebSocket
        log_config=None,  # the log belongs to the program; requests are logged by the apps, without their queries
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies or None,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return uvicorn.Server(config)


def run(
    app: App,
    listening: socket.socket,
    settings: RunSettings | None = None,
    begun: Callable[[uvicorn.Server], object] = lambda _: None,
) -> int:
    """Serve until SIGINT or SIGTERM, and come back when everything has ended: how many requests were cut off for that.

    A thread that works for such a request cannot be stopped; it is waited for. `begun` is given the server before it
    serves, so that something else than a signal can end it too.
    """
    counting = _CountCutOff(app)
    settings = settings or RunSettings()
    server = server_for(counting, replace(settings, max_connections=connections_allowed(settings.max_connections)))
    # Uvicorn raises the signal that ended it once more when it is done; here that does nothing.
    with ending_signals_call(lambda *_: None):
        begun(server)
        server.run(sockets=[listening])
    return counting.cut_off


def connections_allowed(wanted: int) -> int:
    """How many connections the system lets this process have, at most the wanted number.

    Each one is an open file, and a process may often have 1024 of them unless it asks for more; then nothing can be
    opened any more, the index's own files neither. So more are asked for here, and some are kept for other things.
    """
    try:
        import resource
    except ImportError:  # Windows: no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if hard == resource.RLIM_INFINITY or hard >= needed:
        raised = needed
    else:
        raised = hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (ValueError, OSError):  # macOS has a second limit, which it does not tell
        raised = soft
    return max(_LEAST_CONNECTIONS, min(wanted, raised - _OTHER_FILES))


class _CountCutOff:
    """Counts the requests that were cancelled from outside, as uvicorn does with what does not end in time."""

    def __init__(self, app: App) -> None:
        self.app, self.cut_off = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] == "http":  # the lifespan of the app is cancelled too
                self.cut_off += 1
            raise


def timed_protocol(settings: RunSettings) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP/1.1 with time limits on headers and on clients that do not read; idle clients make room."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    # Connections without a request under way, those first that have been so for longest.
    idle: dict[TimedProtocol, None] = {}

    class TimedProtocol(H11Protocol):  # type: ignore[misc, unused-ignore]
        _timers: dict[str, asyncio.TimerHandle]

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override, unused-ignore]
            self._timers = {}
            super().connection_made(transport)
            self._make_room()
            idle[self] = None
            self._start("headers", settings.header_seconds, self._headers_late)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # Idle: the headers of a request are not complete, or have not begun.
            if self.conn.their_state is h11.IDLE:
                self._start("headers", settings.header_seconds, self._headers_late)
            else:
                self._stop("headers")
                idle.pop(self, None)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.transport.is_closing():
                idle[self] = None

        def _make_room(self) -> None:
            """Whoever opens connections and says nothing must not keep others out."""
            beyond = len(self.connections) - (settings.max_connections - 1)  # this one is counted already
            for waiting in list(idle)[: max(0, beyond)]:
                idle.pop(waiting)
                waiting.transport.abort()
                # It ends in the loop's next round; until then uvicorn would count it, and refuse a request for it.
                self.connections.discard(waiting)

        def connection_lost(self, exc: Exception | None) -> None:
            idle.pop(self, None)
            for name in list(self._timers):
                self._stop(name)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()  # the client takes nothing, and the buffer is full
            self._start("reading", settings.write_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop("reading")

        def _headers_late(self) -> None:
            # A request may have become whole just now; then it is answered.
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

        def _start(self, name: str, seconds: float, late: Callable[[], Any]) -> None:
            if name not in self._timers:
                self._timers[name] = self.loop.call_later(seconds, late)

        def _stop(self, name: str) -> None:
            timer = self._timers.pop(name, None)
            if timer is not None:
                timer.cancel()

    return TimedProtocol
