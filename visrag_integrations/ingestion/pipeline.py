"""Documents into a store: processes read, this thread embeds, another one writes; all at the same time.

A document that is whole in the store is recognised by the sha256 of its bytes and skipped without opening it; of a
file that changed, only pages that are new are embedded. Every batch is durable once it is written, so a run that was
killed goes on where it stopped when it is started again.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Union

from visrag_integrations.errors import SettingError
from visrag_integrations.ingestion.account import Account
from visrag_integrations.ingestion.embedding import Embedding
from visrag_integrations.ingestion.progress import IndexProgress
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.retry import Retry, RetryingClient
from visrag_integrations.ingestion.sources import Ended, GivenSources
from visrag_integrations.ingestion.together import Embedders, EmbedsPages, as_list, filling
from visrag_integrations.ingestion.writer import Batch, Writer
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.pool import DocumentDone, PageRead, ReaderEvent, ReaderPool
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure

Source = Union[str, "os.PathLike[str]", bytes]


def index_documents(
    sources: Source | Iterable[Source],
    *,
    store: QdrantPageStore,
    embedder: Embedders,
    reader: PageReader | None = None,
    workers: int | None = None,
    page_timeout: float = 60.0,
    batch_size: int = 16,
    prune: bool = False,
    retry: Retry | None = None,
    progress: bool | None = None,
    on_progress: Callable[[IndexProgress], None] | None = None,
    on_failure: Callable[[Failure], None] | None = None,
) -> IndexReport:
    """Make the store hold what the sources hold now; one bad document never stops the run.

    New documents are added, of changed ones the pages that changed, and pages that are no more in a file are removed
    once its new pages can be found. Pages with the same picture and text are embedded once.

    Args:
        sources: Files and folders.
        store: Where the pages go; its collection is created for `embedder`, or checked against it.
        embedder: What makes the vectors; used in this thread. A list of two, one of each kind, fills the collection
            with the vectors of both.
        reader: How documents are read; `PageReader()` when not given.
        workers: Reading processes; one per core when not given.
        page_timeout: Seconds one page may take before its process is killed and the page reported.
        batch_size: Pages embedded and added together.
        prune: Also remove documents whose files are gone: those below the given folders or beside the given files
            that do not exist any more. An empty folder is reported, and proves nothing about what was below it.
        retry: How requests to a server are tried again.
        progress: A progress bar; by default only where standard error is a terminal.
        on_progress: Called in this thread after every batch; what it raises ends the run in order.
        on_failure: Called in this thread with every document and page that failed.

    Returns:
        What was done, and every document and page that failed, by name and reason.

    Raises:
        StoreMismatchError: Another embedder filled this collection.
        StoreError: The store failed; what was added before is kept.
    """
    if batch_size < 1:
        raise SettingError(f"batch_size is {batch_size}; it must be 1 or more.")
    started = time.monotonic()
    reader, retry = reader or PageReader(), replace(retry or Retry(), stop=threading.Event())
    given = GivenSources(sources, measure=progress is not False or on_progress is not None)
    embedders = as_list(embedder)
    # a JPEG's errors would be in the vectors
    exact_pixels = any(getattr(each, "reads", "pixels") == "pixels" for each in embedders)
    pool = ReaderPool(
        reader,
        workers,
        page_timeout,
        exact_pixels=exact_pixels,
        keep=store.picture_settings,
        ahead=batch_size,
    )
    with store.client_through(functools.partial(RetryingClient, retry=retry)):
        fills = filling(store, embedders, reader.describe())
        account = Account(store, given, progress, on_progress, on_failure)
        run = _Run(account, store, fills, retry, given, batch_size)
        run.all(pool, prune)
    return account.report(time.monotonic() - started, run.embedding.embedded)


async def aindex_documents(sources: Source | Iterable[Source], **settings: Any) -> IndexReport:
    """`index_documents` in a thread, so that the event loop goes on; takes the same arguments.

    Cancelling it ends the run after the batch at hand; what was added is kept. Callbacks run in that thread.
    """
    return await in_thread(functools.partial(index_documents, sources), settings)


async def in_thread(index: Callable[..., IndexReport], settings: dict[str, Any]) -> IndexReport:
    """What `index(**settings)` gives, in a thread; cancelling it ends the run at its next progress."""
    cancelled = threading.Event()
    told = settings.pop("on_progress", None)

    def on_progress(progress: IndexProgress) -> None:
        if cancelled.is_set():
            raise _Cancelled
        if told is not None:
            told(progress)

    work = functools.partial(index, on_progress=on_progress, **settings)
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([running])
        running.exception()  # nobody else asks for it
        raise


class _Cancelled(Exception):
    """Ends a run from within."""


class _Run:
    """One run: what waits to be embedded, and what ends with it."""

    def __init__(
        self,
        account: Account,
        store: QdrantPageStore,
        embedder: EmbedsPages,
        retry: Retry,
        given: GivenSources,
        batch_size: int,
    ) -> None:
        self.account, self.retry, self.given, self.batch_size = account, retry, given, batch_size
        self.embedding = Embedding(embedder, store, account.fail_page)
        self.writer = Writer(store, account, self.embedding.flying)
        self.waiting: list[PageRead] = []
        self.ended: list[Ended] = []

    def all(self, pool: ReaderPool, prune: bool) -> None:
        """Read, embed and write everything; however it ends, what was embedded is written."""
        documents = self.account.documents
        try:
            for event in pool.read_documents(self.given, known=documents.known_pages):
                self.take(event, pool.reader.max_bytes)
            self.flush()
            self.writer.finish()
            documents.finish(self.given.gone if prune else None)
            self.account.tell()
        except BaseException:
            self.retry.stop.set()
            raise
        finally:
            self.writer.stop()
            self.account.bar.close()

    def take(self, event: ReaderEvent, max_bytes: int) -> None:
        """Account for what a reader says."""
        if isinstance(event, PageRead):
            self.waiting.append(event)
            if len(self.waiting) >= self.batch_size:
                self.flush()
        elif isinstance(event, DocumentDone):
            self.end(self.given.ended(event, max_bytes))
        else:
            self.account.failed_reading(event)
            self.account.tell()

    def end(self, ended: Ended) -> None:
        """A document ends: with the batch at hand, or at once when there is none."""
        self.ended.append(ended)
        self.account.ended(ended)
        if not self.waiting:
            self.flush()

    def flush(self) -> None:
        """Embed what waits, and hand it to the writer with the documents that ended with it."""
        read, self.waiting = self.waiting, []
        ended, self.ended = self.ended, []
        if read or ended:
            kept, vectors, keys = self.embedding.embed([event.page for event in read])
            stored = {event.page.id: event.stored for event in read}
            self.writer.put(Batch([stored[page.id] for page in kept], vectors, keys, ended))
        self.account.tell()
