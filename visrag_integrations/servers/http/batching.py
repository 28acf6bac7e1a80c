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
class _PendingSearch:
    """A search and where its pages will be given."""

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
        on_batch: Called with the size of every batch and how many seconds its embedding took.
    """

    def __init__(
        self, retriever: Any, max_batch: int = 32, on_batch: Callable[[int, float], object] = lambda *_: None
    ) -> None:
        self.retriever, self.max_batch, self._on_batch = retriever, max_batch, on_batch
        # Only a `PageRetriever` embeds and finds in two steps.
        self._in_two_steps = hasattr(retriever, "embed")
        self._finders = _SearchThreads(_threads_for(retriever))
        self._texts = _EmbeddingQueue(self._embed, max_batch, "visrag-embed-texts")
        self._pictures = _EmbeddingQueue(self._embed, max_batch, "visrag-embed-pictures")

    def submit(self, search: Search) -> Future[list[ScoredPage]]:
        """The pages of the search, when they are found; cancelling it takes the query out of the queue."""
        pending = _PendingSearch(search)
        if not self._in_two_steps:
            self._finders.submit(self._retrieve, pending)
        elif isinstance(search.query, Query) and search.query.image is not None:
            self._pictures.put(pending)
        else:
            self._texts.put(pending)
        return pending.future

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

    def _embed(self, batch: list[_PendingSearch]) -> None:
        started = time.perf_counter()
        try:
            embedded = self.retriever.embed([pending.search for pending in batch])
        except Exception as err:  # noqa: BLE001 (raised again where each is waited for)
            self._fail(batch, err)
            return
        self._on_batch(len(batch), time.perf_counter() - started)
        for pending, search in zip(batch, embedded, strict=True):
            self._finders.submit(self._find, pending, search)

    def _fail(self, batch: list[_PendingSearch], err: Exception) -> None:
        """A bad query fails alone: the others of its batch are embedded one by one."""
        if len(batch) > 1 and _fault_of_one(err):
            for pending in batch:
                self._embed([pending])
        else:
            for pending in batch:
                pending.future.set_exception(err)

    def _find(self, pending: _PendingSearch, search: EmbeddedSearch) -> None:
        _fulfil(pending.future, lambda: self.retriever.find(search))

    def _retrieve(self, pending: _PendingSearch) -> None:
        if pending.future.set_running_or_notify_cancel():
            search = pending.search
            _fulfil(pending.future, lambda: self.retriever.retrieve(search.query, search.top_k, filter=search.filter))


class _EmbeddingQueue:
    """A queue and the thread that empties it, which is there from the first that comes until it is closed."""

    def __init__(self, work: Callable[[list[_PendingSearch]], None], max_batch: int, name: str) -> None:
        self._work, self._max_batch, self._name = work, max_batch, name
        self._waiting: queue.SimpleQueue[_PendingSearch | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, pending: _PendingSearch) -> None:
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.put(pending)

    def close(self) -> None:
        with self._guard:
            if self._thread is not None:
                self._waiting.put(None)
                self._thread.join()
                self._thread = None

    def _run(self) -> None:
        ended = False
        while not ended:
            # Wait for the first only; what came while the last batch was embedded is there already.
            taken = [self._waiting.get()]
            while len(taken) < self._max_batch and not self._waiting.empty():
                taken.append(self._waiting.get())
            batch: list[_PendingSearch] = []
            for pending in taken:
                if pending is None:  # `close` puts it after the last search
                    ended = True
                elif pending.future.set_running_or_notify_cancel():  # False: who asked went away
                    batch.append(pending)
            if batch:
                self._work(batch)


class _SearchThreads:
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


def _threads_for(retriever: Any) -> int:
    """How many ask the store while the embedder goes on."""
    store = getattr(retriever, "store", None)
    # The engine in an embedded folder does one thing at a time: more threads would only wait for each other. A server
    # answers several at once; it may have other clients, so there are only a few.
    if getattr(store, "folder", None) is not None:
        return 1
    return 4


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
