"""Documents into a store: processes read, this thread embeds, another one writes; all at the same time.

A document that is whole in the store is recognised by the sha256 of its bytes and skipped without opening it; of a
file that changed, only pages that are new are embedded. Every batch is durable once it is written, so a run that was
killed goes on where it stopped when it is started again.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from visrag_integrations.indexing import BatchEmbedder, Embedders, EmbedsPages, as_list, prepare_store
from visrag_integrations.ingestion.progress import IndexProgress
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.reporter import RunReporter
from visrag_integrations.ingestion.retry import Retry
from visrag_integrations.ingestion.settings import GivenSourcesArgument, IndexSettings
from visrag_integrations.ingestion.sources import EndedDocument, GivenSources
from visrag_integrations.ingestion.writer import WriteJob, WriterThread
from visrag_integrations.interfaces.arguments import refuse_name
from visrag_integrations.interfaces.embedders import reads_pixels
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.kept import KEPT
from visrag_integrations.readers.pool import DocumentDone, PageRead, ReaderEvent, ReaderPool
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page


def index_documents(
    sources: GivenSourcesArgument,
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
    complete: Callable[[Page], Page] | None = None,
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
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        on_progress: Called in this thread after every batch; what it raises ends the run in order.
        on_failure: Called in this thread with every document and page that failed; without it they are logged as
            warnings, which Python shows on standard error. The report has them all.
        complete: Makes each page ready in this thread before it is embedded, for example adds metadata of yours.

    Returns:
        What was done, and every document and page that failed, by name and reason.

    Raises:
        StoreMismatchError: Another embedder filled this collection.
        StoreError: The store failed; what was added before is kept.
    """
    settings = IndexSettings(
        reader, page_timeout, batch_size, prune, retry, progress, on_progress, on_failure, complete
    )
    refuse_name("store", store, "QdrantPageStore")
    refuse_name("embedder", embedder, "load_embedder")
    started = time.monotonic()
    given, embedders = settings.measured(sources), as_list(embedder)
    pool = ReaderPool(
        settings.page_reader,
        workers,
        page_timeout,
        exact_pixels=any(map(reads_pixels, embedders)),  # a JPEG's errors would be in the vectors
        keep=store.picture_settings,
        ahead=batch_size,
        kept=KEPT,
    )
    with settings.retrying(store):
        fills = prepare_store(store, embedders, settings.page_reader.describe())
        reporter = RunReporter(store, given, settings)
        run = _PipelineRun(reporter, store, fills, settings, given)
        run.all(pool)
    return reporter.final_report(time.monotonic() - started, run.embedding.embedded)


async def aindex_documents(sources: GivenSourcesArgument, **settings: Any) -> IndexReport:
    """`index_documents` in a thread, so that the event loop goes on; takes the same arguments.

    Cancelling it ends the run after the batch at hand; what was added is kept. Callbacks run in that thread.
    """
    return await in_thread(functools.partial(index_documents, sources), settings)


async def in_thread(index: Callable[..., IndexReport], arguments: dict[str, Any]) -> IndexReport:
    """What `index(**arguments)` gives, in a thread; cancelling it ends the run at its next progress."""
    cancelled = threading.Event()
    users_callback = arguments.pop("on_progress", None)

    def on_progress(progress: IndexProgress) -> None:
        if cancelled.is_set():
            raise _Cancelled
        if users_callback is not None:
            users_callback(progress)

    run = functools.partial(index, on_progress=on_progress, **arguments)
    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        # Shielded, because a thread cannot be cancelled: the run has to end by itself, with what it has written.
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([running])
        running.exception()  # looked at, or asyncio logs that nobody did
        raise


class _Cancelled(Exception):
    """Ends a run from within."""


class _PipelineRun:
    """One run: the pages that wait to be embedded, and the documents that end with them."""

    def __init__(
        self,
        reporter: RunReporter,
        store: QdrantPageStore,
        embedder: EmbedsPages,
        settings: IndexSettings,
        given: GivenSources,
    ) -> None:
        self.reporter, self.settings, self.given = reporter, settings, given
        self.embedding = BatchEmbedder(embedder, store, reporter.fail_page)
        self.writer = WriterThread(store, reporter, self.embedding.in_flight)
        self.waiting: list[PageRead] = []
        self.ended: list[EndedDocument] = []

    def all(self, pool: ReaderPool) -> None:
        """Read, embed and write everything; however it ends, what was embedded is written."""
        documents = self.reporter.documents
        try:
            given = documents.looking_ahead(self.given)
            for event in pool.read_documents(given, known=documents.known_pages):
                self.take(event, pool.reader.max_bytes)
            self.flush()
            self.writer.finish()
            documents.finish(self.given if self.settings.prune else None)
            self.reporter.report_progress()
        except BaseException:
            # Without it the writer would go on trying a server that is away, for minutes after the error.
            self.settings.stop.set()
            raise
        finally:
            self.writer.stop()
            self.reporter.bar.close()

    def take(self, event: ReaderEvent, max_bytes: int) -> None:
        """What a reader reports: a page waits for its batch, an end for the batch of the last page."""
        if isinstance(event, PageRead):
            self.reporter.bar.reading.page(event.page)
            self.waiting.append(self.completed(event))
            if len(self.waiting) >= self.settings.batch_size:
                self.flush()
        elif isinstance(event, DocumentDone):
            self.end(self.given.ended(event, max_bytes))
        else:
            self.reporter.failed_reading(event)
            self.reporter.report_progress()

    def completed(self, event: PageRead) -> PageRead:
        """The page as whoever indexes wants it."""
        if self.settings.complete is None:
            return event
        page = self.settings.complete(event.page)
        return PageRead(page, replace(page, picture=event.stored.picture))

    def end(self, ended: EndedDocument) -> None:
        """A document ends: with the batch at hand, or at once when there is none."""
        # Behind the pages that wait: the writer must store them before it settles their document.
        self.ended.append(ended)
        self.reporter.ended(ended)
        if not self.waiting:
            self.flush()

    def flush(self) -> None:
        """Embed what waits, and hand it to the writer with the documents that ended with it."""
        read, self.waiting = self.waiting, []
        ended, self.ended = self.ended, []
        if read or ended:
            batch = self.embedding.embed([event.page for event in read])
            # Embedded from the drawn pixels; stored with the picture that the reading process encoded.
            stored = {event.page.id: event.stored for event in read}
            batch = replace(batch, pages=[stored[page.id] for page in batch.pages])
            self.writer.put(WriteJob(batch, ended))
        self.reporter.report_progress()
