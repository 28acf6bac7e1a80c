"""Documents into a store: worker processes read, this process embeds in batches and upserts.

A document that is whole in the store is recognised by the sha256 of its bytes and skipped without opening it. Every
batch is durable once it is added, so a run that was killed goes on where it stopped when it is started again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from tqdm.auto import tqdm

from visrag_integrations.errors import SettingError, VisRAGError
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.pool import (
    DocumentDone,
    Event,
    PageRead,
    ReaderPool,
)
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page, StoredDocument

Source = str | Path


def index_documents(
    sources: Source | Iterable[Source],
    *,
    store: QdrantPageStore,
    embedder: PageEmbedder,
    reader: PageReader | None = None,
    workers: int | None = None,
    page_timeout: float = 60.0,
    batch_size: int = 16,
    progress: bool | None = None,
) -> IndexReport:
    """Read documents, embed their pages and add them to the store; one bad document never stops the run.

    Args:
        sources: Files and folders.
        store: Where the pages go; its collection is created for `embedder`, or checked against it.
        embedder: What makes the vectors.
        reader: How documents are read; `PageReader()` when not given.
        workers: Reading processes; one per core when not given.
        page_timeout: Seconds one page may take before its process is killed and the page reported.
        batch_size: Pages embedded and added together.
        progress: A progress bar; by default only where standard error is a terminal.

    Returns:
        What was done, and every document and page that failed, by name and reason.

    Raises:
        StoreMismatchError: Another embedder filled this collection.
        StoreError: The store failed; what was added before is kept.
    """
    if batch_size < 1:
        raise SettingError(f"batch_size is {batch_size}; it must be 1 or more.")
    started = time.monotonic()
    reader = reader or PageReader()
    store.prepare(embedder, reader=reader.describe())
    run = _Run(store, embedder, batch_size)
    exact_pixels = getattr(embedder, "reads", "pixels") == "pixels"  # a JPEG's errors would be in the vectors
    pool = ReaderPool(reader, workers=workers, page_timeout=page_timeout, exact_pixels=exact_pixels)
    with tqdm(unit="page", desc="Indexing", disable=None if progress is None else not progress) as bar:
        for event in pool.read_documents(sources, known=run.known_pages):
            bar.update(run.take(event))
        run.flush()
    return run.report(time.monotonic() - started)


class _Run:
    """The state of one run: what waits to be embedded, what was done, and what to tell."""

    def __init__(self, store: QdrantPageStore, embedder: PageEmbedder, batch_size: int) -> None:
        self.store, self.embedder, self.batch_size = store, embedder, batch_size
        self.before: dict[str, StoredDocument] = {document.doc_id: document for document in store.documents()}
        self.waiting: list[Page] = []
        self.ended: list[DocumentDone] = []
        self.met: set[str] = set()
        self.added: Counter[str] = Counter()
        self.sources: dict[str, list[str]] = {}
        self.failed: list[Failure] = []
        self.removed = 0

    def known_pages(self, doc_id: str) -> Collection[int] | None:
        """Numbers of the pages that need no reading; None stands for all, so that nothing is opened."""
        if doc_id in self.met:  # the same content under a second name in this run
            return None
        self.met.add(doc_id)
        stored = self.before.get(doc_id)
        if stored is None:
            return frozenset()
        if stored.total_pages is not None and stored.pages >= stored.total_pages:
            return None
        return self.store.page_numbers(doc_id)

    def take(self, event: Event) -> int:
        """Account for what a reader says; returns how many pages of progress it is."""
        if isinstance(event, PageRead):
            self.waiting.append(event.page)
            if len(self.waiting) >= self.batch_size:
                self.flush()
            return 1
        if not isinstance(event, DocumentDone):
            self.failed.append(event.failure)
            return 0
        self.ended.append(event)
        if not self.waiting:
            self.flush()
        return 0

    def flush(self) -> None:
        """Embed and add what waits, then settle the documents that ended before it."""
        pages, self.waiting = self.waiting, []
        if pages:
            self._add(pages)
        ended, self.ended = self.ended, []
        for document in ended:
            self._settle(document)

    def _add(self, pages: list[Page]) -> None:
        try:
            vectors = self.embedder.embed_pages(pages)
        except VisRAGError as error:
            if len(pages) > 1:  # find the page that cannot be embedded; the others are kept
                for page in pages:
                    self._add([page])
                return
            self.failed.append(Failure(pages[0].source, f"not embedded: {error}", pages[0].number))
            return
        self.store.add_pages(pages, vectors)
        self.added.update(page.doc_id for page in pages)

    def _settle(self, document: DocumentDone) -> None:
        """Remember the document's source; what this source held before is gone from the file, so it goes here too."""
        doc_id, source = document.doc_id, document.source
        if not self.added[doc_id] and doc_id not in self.before:
            return
        if not self.added[doc_id] or doc_id in self.sources:
            self.store.add_source(doc_id, source)
        self.sources.setdefault(doc_id, []).append(source)
        for old in self.before.values():
            if source in old.sources and old.doc_id != doc_id:
                self.removed += self.store.delete(doc_id=old.doc_id, source=source)

    def report(self, seconds: float) -> IndexReport:
        """The counts, once everything was flushed."""
        unchanged = sum(self.before[doc_id].pages for doc_id in self.sources if doc_id in self.before)
        added = sum(self.added.values())
        return IndexReport(
            documents=len(self.sources),
            pages=added + unchanged,
            added=added,
            unchanged=unchanged,
            removed=self.removed,
            failed=tuple(self.failed),
            seconds=seconds,
            doc_ids=tuple(self.sources),
        )
