"""An event loop in a thread of its own, and generators that write in it: many at once, for callers of any kind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.background import BackgroundGenerator, PieceQueue, joined
from visrag_integrations.types import Conversation, Generation, GenerationSettings

Result = TypeVar("Result")
Item = TypeVar("Item")


class LoopThread:
    """A loop that runs until it is closed, or the process ends."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start the work; cancelling its future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def stream(self, pieces: AsyncGenerator[Item, None]) -> PieceQueue[Item]:
        """What the loop writes, to be read anywhere; who stops reading cancels it."""
        futures: list[Future[None]] = []  # filled below: the queue needs the future, whose work needs the queue
        queue: PieceQueue[Item] = PieceQueue(lambda: futures[0].cancel())
        futures.append(self.submit(_put_all(pieces, queue)))
        return queue

    def close(self) -> None:
        """Cancel what runs, and stop."""
        if self.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class LoopGenerator(BackgroundGenerator):
    """A generator whose engine is asynchronous; subclasses write `_write`.

    Args:
        name: What it is called.
        max_concurrency: Texts that are written at once; None for as many as come.
    """

    def __init__(self, name: str, max_concurrency: int | None = None) -> None:
        if max_concurrency is not None and max_concurrency < 1:
            raise SettingError(f"max_concurrency is {max_concurrency}; it must be 1 or more.")
        self.name = name
        self._max_concurrency = max_concurrency
        self._thread: LoopThread | None = None
        self._starting = threading.Lock()

    def _write(
        self, conversation: Conversation, settings: GenerationSettings | None, *, whole: bool
    ) -> AsyncGenerator[Generation, None]:
        """The pieces of one text, the last one with how it went; with `whole` only one piece."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop what is being written and let go of the engine; after that the generator is of no use."""
        if self._thread is not None:
            self._thread.close()

    def _loop(self) -> LoopThread:
        with self._starting:
            if self._thread is None:
                self._thread = LoopThread(f"visrag-{type(self).__name__}")
            return self._thread

    def _submit(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None
    ) -> tuple[Future[list[Generation]], Callable[[], object]]:
        future = self._loop().submit(self._write_all(list(conversations), settings))
        return future, future.cancel

    def _start(self, conversation: Conversation, settings: GenerationSettings | None) -> PieceQueue[Generation]:
        return self._loop().stream(self._write(conversation, settings, whole=False))

    async def _write_all(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None
    ) -> list[Generation]:
        """All at once; the first that fails stops the others."""
        # Without a limit all are begun, and their pictures are in memory together.
        turns = asyncio.Semaphore(self._max_concurrency or len(conversations))

        async def one(conversation: Conversation) -> Generation:
            async with turns:
                return await whole_text(self._write(conversation, settings, whole=True))

        tasks = [asyncio.ensure_future(one(conversation)) for conversation in conversations]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise


async def _put_all(pieces: AsyncGenerator[Item, None], queue: PieceQueue[Item]) -> None:
    try:
        async for piece in pieces:
            queue.put(piece)
        queue.end()
    except asyncio.CancelledError:
        queue.end()
        raise
    except BaseException as err:  # noqa: BLE001 (raised again where the pieces are read)
        queue.end(err)
    finally:
        await pieces.aclose()


async def whole_text(pieces: AsyncGenerator[Generation, None]) -> Generation:
    """The pieces as one, with what the last one says."""
    async with contextlib.aclosing(pieces):
        return joined([piece async for piece in pieces])


async def _cancel_all() -> None:
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
