"""Generators that write in the background: what they write, read from any thread or from an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from visrag_integrations.types import Conversation, Generation, GenerationSettings

Item = TypeVar("Item")


class PieceQueue(Generic[Item]):
    """Pieces on their way from the thread that writes them to whoever reads them.

    Args:
        cancel: Stops the writer; called when the reader goes away before the end.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        # A piece comes as a tuple of one, the end as None, or as the error that ended it.
        self._pieces: queue.SimpleQueue[tuple[Item] | BaseException | None] = queue.SimpleQueue()
        self._wake: Callable[[], object] | None = None  # set by a reader in an event loop
        self._ended = False

    def put(self, piece: Item) -> None:
        """Hand on one piece (the writer's side, as `end`)."""
        self._pieces.put((piece,))
        self._notify()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; always called last."""
        self._pieces.put(error)
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the reader's loop is closed
                self._wake()

    def pieces(self) -> Generator[Item, None, None]:
        """The pieces as they come; closing the iterator stops the writer."""
        try:
            while (item := self._received()) is not None:
                yield item[0]
        finally:
            self._stop_writer()

    async def apieces(self) -> AsyncGenerator[Item, None]:
        """The same for an event loop, which is never blocked; no thread waits, however many read."""
        arrived = asyncio.Event()
        self._wake = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, arrived.set)
        try:
            while True:
                while self._pieces.empty():
                    await arrived.wait()
                    arrived.clear()
                item = self._received()
                if item is None:
                    return
                yield item[0]
        finally:
            self._stop_writer()

    def _received(self) -> tuple[Item] | None:
        """The next piece; None at the end."""
        item = self._pieces.get()
        if isinstance(item, tuple):
            return item
        self._ended = True
        if item is not None:
            raise item
        return None

    def _stop_writer(self) -> None:
        if not self._ended:
            self._cancel()


class BackgroundGenerator:
    """`generate`, `stream`, `agenerate` and `astream` for an engine that writes in the background.

    Subclasses write `_submit` and `_start`.
    """

    def _submit(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None
    ) -> tuple[Future[list[Generation]], Callable[[], object]]:
        """What will be written, and what stops it."""
        raise NotImplementedError

    def _start(self, conversation: Conversation, settings: GenerationSettings | None) -> PieceQueue[Generation]:
        """One text, in pieces."""
        raise NotImplementedError

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One text per conversation, in order; the engine gets all of them at once.

        Raises:
            GenerationError: A conversation does not fit, or the engine failed.
        """
        if not conversations:
            return []
        future, cancel = self._submit(conversations, settings)
        try:
            return future.result()
        except BaseException:
            cancel()
            raise

    async def agenerate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """`generate` for an event loop; cancelling the task stops the engine's work on it."""
        if not conversations:
            return []
        future, cancel = self._submit(conversations, settings)
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            cancel()
            raise

    def stream(
        self, conversation: Conversation, settings: GenerationSettings | None = None
    ) -> Generator[Generation, None, None]:
        """Pieces as they are written; the last carries `logprob`, `usage` and `finish_reason`. Closing it cancels."""
        yield from self._start(conversation, settings).pieces()

    async def astream(
        self, conversation: Conversation, settings: GenerationSettings | None = None
    ) -> AsyncGenerator[Generation, None]:
        """`stream` for an event loop."""
        pieces = self._start(conversation, settings).apieces()
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()


def joined(pieces: Sequence[Generation]) -> Generation:
    """The pieces of one text as a whole, with what the last one says."""
    last = pieces[-1] if pieces else Generation("")
    text = "".join(piece.text for piece in pieces)
    return Generation(text, last.logprob, last.usage, last.finish_reason)
