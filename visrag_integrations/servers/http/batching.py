"""Searches of many requests at once: their queries are embedded together, the pages of each are found on its own."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import StoreError
from visrag_integrations.retrieval import EmbeddedSearch, Search
from visrag_integrations.types import Query, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter


@dataclass(frozen=True)
class _Asked:
    search: Search
    future: Future[list[ScoredPage]] = field(default_factory=Future)


class QueryBatcher:
    """Takes single searches from any thread or event loop, and embeds those that wait at the same time as one batch.

    Nothing waits for a batch to fill: a query that comes alone is embedded alone at once, and what comes while the
    embedder works is its next batch. Queries with pictures have a queue of their own, because an embedder may need
    seconds to read one. It is a retriever itself, so that questions of `VisRAG` join the batches too.

    Args:
        retriever: A `PageRetriever`; of any other retriever, `retrieve` is called for each search.
        max_batch: Queries that are embedded together, at most.
        on_batch: PublicError the size of every batch and how many seconds its embedding took.

    The store is asked by four threads, while the embedder goes on; by one where it is an embedded folder, whose engine
    does one thing at a time.
    """

    def __init__(
        self, retriever: Any, max_batch: int = 32, on_batch: Callable[[int, float], object] = lambda *_: None
    ) -> None:
        self.retriever, self.max_batch, self._on_batch = retriever, max_batch, on_batch
        embedded = getattr(getattr(retriever, "store", None), "folder", None) is not None
        self._finders = _Finders(1 if embedded else 4)
        self._texts = _Lane(self._embed, max_batch, "visrag-embed-texts")
        self._pictures = _Lane(self._embed, max_batch, "visrag-embed-pictures")

    def submit(self, search: Search) -> Future[list[ScoredPage]]:
        """The pages of the search, when they are found; cancelling it takes the query out of the queue."""
        asked = _Asked(search)
        if not hasattr(self.retriever, "embed"):
            self._finders.submit(self._retrieve, asked)
        elif isinstance(search.query, Query) and search.query.image is not None:
            self._pictures.put(asked)
        else:
            self._texts.put(asked)
        return asked.future

    async def find(self, search: Search) -> list[ScoredPage]:
        """The pages of the search; the event loop goes on meanwhile."""
        return await asyncio.wrap_future(self.submit(search))

    def retrieve(self, query: str | Query, top_k: int = 5, *, filter: Filter | None = None) -> list[ScoredPage]:
        """As `PageRetriever.retrieve`; waits."""
        return self.submit(Search(query, top_k, filter)).result()

    def retrieve_many(
        self, queries: Iterable[str | Query], top_k: int = 5, *, filter: Filter | None = None
    ) -> list[list[ScoredPage]]:
        """As `PageRetriever.retrieve_many`; waits."""
        futures = [self.submit(Search(query, top_k, filter)) for query in queries]
        return [future.result() for future in futures]

    def close(self) -> None:
        """Finish what waits, then end the threads; they are started again when a search comes."""
        self._texts.close()
        self._pictures.close()
        self._finders.close()

    def _embed(self, batch: list[_Asked]) -> None:
        started = time.perf_counter()
        try:
            embedded = self.retriever.embed([asked.search for asked in batch])
        except Exception as err:  # noqa: BLE001 (raised again where each is waited for)
            if len(batch) > 1 and _fault_of_one(err):
                for asked in batch:
                    self._embed([asked])
                return
            for asked in batch:
                asked.future.set_exception(err)
            return
        self._on_batch(len(batch), time.perf_counter() - started)
        for asked, search in zip(batch, embedded, strict=True):
            self._finders.submit(self._find, asked, search)

    def _find(self, asked: _Asked, search: EmbeddedSearch) -> None:
        _fulfil(asked.future, lambda: self.retriever.find(search))

    def _retrieve(self, asked: _Asked) -> None:
        if asked.future.set_running_or_notify_cancel():
            search = asked.search
            _fulfil(asked.future, lambda: self.retriever.retrieve(search.query, search.top_k, filter=search.filter))


class _Lane:
    """A queue and the thread that empties it, which is there from the first that comes until it is closed."""

    def __init__(self, work: Callable[[list[_Asked]], None], max_batch: int, name: str) -> None:
        self._work, self._max_batch, self._name = work, max_batch, name
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, asked: _Asked) -> None:
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.put(asked)

    def close(self) -> None:
        with self._guard:
            if self._thread is not None:
                self._waiting.put(None)
                self._thread.join()
                self._thread = None

    def _run(self) -> None:
        ended = False
        while not ended:
            taken = [self._waiting.get()]
            while len(taken) < self._max_batch and not self._waiting.empty():
                taken.append(self._waiting.get())
            ended = None in taken
            batch = [asked for asked in taken if asked is not None and asked.future.set_running_or_notify_cancel()]
            if batch:
                self._work(batch)


class _Finders:
    """Threads that search, which are there from the first search until they are closed."""

    def __init__(self, threads: int) -> None:
        self._guard, self._threads = threading.Lock(), threads
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[..., object], *arguments: object) -> None:
        with self._guard:
            self._pool = self._pool or ThreadPoolExecutor(self._threads, "visrag-find")
            self._pool.submit(work, *arguments)

    def close(self) -> None:
        with self._guard:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


def _fulfil(future: Future[list[ScoredPage]], work: Callable[[], Iterable[ScoredPage]]) -> None:
    try:
        found = list(work())
    except Exception as err:  # noqa: BLE001 (raised again where it is waited for)
        future.set_exception(err)
    else:
        future.set_result(found)


def _fault_of_one(err: Exception) -> bool:
    """Whether a batch may have failed for one of its queries, and not because something is away."""
    return isinstance(err, ValueError) and not isinstance(err, (ConnectionError, StoreError))
