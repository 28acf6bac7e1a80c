"""Concurrent single calls gathered into batches: `batch` of a chat model reaches the engine as one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import GenerationError
from visrag_integrations.langchain.asynchronous import agenerate
from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

PATIENCE = 1.0
"""Seconds without a new call after which those that wait go to the engine, however many are still to come."""
MAX_BATCH = 256
"""Calls of one batch that may wait at once: each holds a thread while it does."""

_current: ContextVar[Gatherer | None] = ContextVar("visrag_gatherer", default=None)


class Gatherer:
    """Collects the calls of one `batch` and generates for all that wait, once no other can come before they are done.

    Args:
        calls: How many there are in all; some may never come here (answered from a cache, failed before).
        at_once: At most so many are under way at a time.
    """

    def __init__(self, calls: int, at_once: int) -> None:
        self._left, self._at_once = calls, at_once
        self._waiting: list[tuple[Generator, GenerationSettings | None, Conversation, Future[Generation]]] = []
        self._changed = threading.Condition()
        self._leading = False

    def submit(
        self, generator: Generator, conversation: Conversation, settings: GenerationSettings
    ) -> Future[Generation]:
        """What will be generated, together with the other calls."""
        future: Future[Generation] = Future()
        with self._changed:
            self._waiting.append((generator, settings, conversation, future))
            self._changed.notify()
            if not self._leading:
                self._leading = True
                threading.Thread(target=self._lead, name="visrag-batch", daemon=True).start()
        return future

    def ended(self) -> None:
        """One of the calls is over."""
        with self._changed:
            self._left -= 1
            self._changed.notify()

    def _lead(self) -> None:
        while True:
            with self._changed:
                while len(self._waiting) < min(self._at_once, self._left) and self._changed.wait(PATIENCE):
                    pass
                taken, self._waiting = self._waiting, []
                if not taken:
                    self._leading = False
                    return
            while taken:
                generator, settings = taken[0][:2]
                alike = [call for call in taken if call[0] is generator and call[1] == settings]
                taken = [call for call in taken if not (call[0] is generator and call[1] == settings)]
                _generate(generator, settings, [call[2] for call in alike], [call[3] for call in alike])


@contextmanager
def gathering(calls: int, at_once: int) -> Iterator[None]:
    """Calls made inside, also in threads and tasks started there, are gathered."""
    token = _current.set(Gatherer(calls, at_once))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def one_call() -> Iterator[None]:
    """Around each call of a batch: when it is over, however it ended, nobody waits for it any more."""
    try:
        yield
    finally:
        gatherer = _current.get()
        if gatherer is not None:
            gatherer.ended()


def all_at_once(inputs: Sequence[Any], config: Any) -> tuple[int, Any]:
    """How many calls will wait together, and the config that lets them."""
    if isinstance(config, Sequence):
        limits = [one.get("max_concurrency") for one in config]
        calls = min([len(inputs), MAX_BATCH, *(limit for limit in limits if limit)])
        return calls, [{**one, "max_concurrency": calls} for one in config]
    limit = (config or {}).get("max_concurrency") or MAX_BATCH
    calls = min(len(inputs), MAX_BATCH, limit)
    return calls, {**(config or {}), "max_concurrency": calls}


def generate_one(generator: Generator, conversation: Conversation, settings: GenerationSettings) -> Generation:
    """What the generator writes; inside `gathering`, together with the rest of the batch."""
    gatherer = _current.get()
    if gatherer is not None:
        return gatherer.submit(generator, conversation, settings).result()
    return _one_each(generator, generator.generate([conversation], settings), 1)[0]


async def agenerate_one(generator: Generator, conversation: Conversation, settings: GenerationSettings) -> Generation:
    """`generate_one`, without blocking the event loop; cancelling the task stops an engine that can be stopped."""
    gatherer = _current.get()
    if gatherer is not None:
        return await asyncio.wrap_future(gatherer.submit(generator, conversation, settings))
    return _one_each(generator, await agenerate(generator, conversation, settings), 1)[0]


def _generate(
    generator: Generator,
    settings: GenerationSettings | None,
    conversations: list[Conversation],
    futures: list[Future[Generation]],
) -> None:
    try:
        generations = _one_each(generator, generator.generate(conversations, settings), len(conversations))
    except BaseException as err:  # noqa: BLE001 (every waiting call raises it)
        for future in futures:
            future.set_exception(err)
        return
    for future, generation in zip(futures, generations, strict=True):
        future.set_result(generation)


def _one_each(generator: Generator, generations: list[Generation], calls: int) -> list[Generation]:
    if len(generations) != calls:
        raise GenerationError(
            f"Generator {generator.name!r} gave {len(generations)} texts for {calls} conversations; "
            "generate() must give one for each, in order."
        )
    return generations
