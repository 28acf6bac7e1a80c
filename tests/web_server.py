"""Real servers on 127.0.0.1 in a thread, small indexes to serve, and raw requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fakes import PixelEmbedder
from PIL import Image, ImageDraw

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query
from visrag_integrations.generation.loop import LoopGenerator
from visrag_integrations.servers.web.running import RunSettings, address_of, listen, server_for
from visrag_integrations.types import Conversation, Generation, GenerationSettings

WORDS = ("harbour", "violin", "sourdough", "glacier", "lantern", "orchard", "quarry", "zeppelin")


def picture(number: int) -> Image.Image:
    """A page with a block whose place and colour tell its number."""
    image = Image.new("RGB", (160, 200), "white")
    x, y = 40 * (number % 4), 50 * (number // 4 % 4)
    ImageDraw.Draw(image).rectangle((x, y, x + 39, y + 49), fill=(number * 40 % 256, number * 90 % 256, 60))
    return image


def library(store: QdrantPageStore, embedder: Any, pages: int = 8) -> PageRetriever:
    """A retriever over pages of a word each, in documents of two, whose paths are absolute."""
    filled = [
        Page(
            f"doc{n // 2}",
            n % 2 + 1,
            text=f"{WORDS[n % 8]} {WORDS[n % 8]} page {n}",
            source=f"/srv/secret/{WORDS[n // 2 % 8]}-{n // 2}.pdf",
            metadata={"year": 2000 + n},
            picture=picture(n),
        )
        for n in range(pages)
    ]
    store.prepare(embedder)
    store.add_pages(filled, embedder.embed_pages(filled))
    return PageRetriever(embedder, store)


class HeldEmbedder(PixelEmbedder):
    """Embeds when it is let; remembers the batches it was given, and fails on some queries."""

    def __init__(self, fails: Callable[[str], Exception | None] = lambda _: None) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.go, self.asked, self._fails = threading.Event(), threading.Event(), fails
        self.go.set()

    def hold(self) -> None:
        """Do not go on with the next batch before `go` is set."""
        self.asked.clear()
        self.go.clear()

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        queries = list(queries)
        self.batches.append([query if isinstance(query, str) else "picture" for query in queries])
        self.asked.set()
        assert self.go.wait(30)
        for query in queries:
            error = self._fails(str(query))
            if error is not None:
                raise error
        return super().embed_queries(queries)


class SteppedGenerator(LoopGenerator):
    """Writes its pieces one by one; with `hold`, waits for ever after the first, until it is cancelled."""

    def __init__(self, *pieces: str, hold: bool = False, error: Exception | None = None) -> None:
        super().__init__("stepped")
        self.pieces, self.hold, self.error = pieces, hold, error
        self.started, self.cancelled = threading.Event(), threading.Event()

    async def _write(
        self, conversation: Conversation, settings: GenerationSettings | None, *, whole: bool
    ) -> AsyncGenerator[Generation, None]:
        try:
            for piece in ["".join(self.pieces)] if whole and not self.hold else self.pieces:
                yield Generation(piece)
                self.started.set()
                while self.hold:
                    await asyncio.sleep(0.02)
                if self.error is not None:
                    raise self.error
                await asyncio.sleep(0.02)
            yield Generation("", finish_reason="stop")
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


class Running:
    """A server that runs; `stop` ends it as a signal would."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self._listening = listen("127.0.0.1", 0)
        self.url = address_of(self._listening)
        self.server: uvicorn.Server = server_for(app, RunSettings(**settings))
        serve = self.server.serve(sockets=[self._listening])
        self.thread = threading.Thread(target=lambda: asyncio.run(serve), daemon=True)
        self.thread.start()
        wait_until(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()
        self._listening.close()


@contextlib.contextmanager
def running(app: Any, **settings: Any) -> Iterator[Running]:
    server = Running(app, **settings)
    try:
        yield server
    finally:
        server.stop()


def wait_until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes, or says nothing for a while; what it cut off counts too."""
    received = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while piece := connection.recv(65536):
            received += piece
    return received


def raw(url: str, request: bytes, patience: float = 20.0) -> bytes:
    """What a server answers to these bytes."""
    with connect(url) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        connection.settimeout(patience)
        return read_all(connection)
