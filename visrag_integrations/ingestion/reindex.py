"""A collection made again with other embedders, beside the one in use, which it replaces when it is whole."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from visrag_integrations.errors import StoreError, StoreMismatchError
from visrag_integrations.ingestion.documents import failed_page
from visrag_integrations.ingestion.embedding import Embedding
from visrag_integrations.ingestion.pipeline import index_documents
from visrag_integrations.ingestion.progress import ProgressBar
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.retry import Retry, RetryingClient
from visrag_integrations.ingestion.together import Embedders, EmbedsPages, Together, as_list, filling
from visrag_integrations.ingestion.writer import add_pages
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page

_CHECKED = 256


def reindex(
    store: QdrantPageStore,
    *,
    embedder: Embedders,
    sources: Any = None,
    allow_failures: bool = False,
    batch_size: int = 16,
    progress: bool | None = None,
    retry: Retry | None = None,
    **settings: Any,
) -> IndexReport:
    """Embed everything again with another embedder; searches see the old vectors until all new ones are there.

    A run that was killed goes on where it stopped. Pages that are added to the store meanwhile are not taken along.
    Given the embedder that fills the store and a second one of the other kind, it keeps the vectors of the first and
    makes only those of the second; given one of two, it keeps only its.

    Args:
        store: What is made again.
        embedder: What makes the new vectors: one embedder, or a list of one of each kind.
        sources: Files and folders to read again, as for `index_documents`. When not given, the pages come from the
            store, pictures included; those are JPEG files unless the store was told otherwise.
        allow_failures: Switch although pages failed; they are missing then. Otherwise the old collection stays in use,
            and running it again tries only what failed.
        batch_size: Pages embedded and added together.
        progress: A progress bar; by default only where standard error is a terminal.
        retry: How requests to a server are tried again.
        **settings: Of `index_documents`, where sources are given.

    Raises:
        StoreError: There is nothing to make again, or the store failed.
    """
    tries, embedders = retry or Retry(), as_list(embedder)
    again = functools.partial(RetryingClient, retry=tries)
    with store.next_version() as staged, store.client_through(again), staged.client_through(again):
        if store.info is None:
            if staged.info is None:
                raise StoreError("There is no collection to index again. Fill it first: index_documents(...).")
            store.take_over(staged)  # a run was cut off in the very moment
            return IndexReport()
        fills = _prepare(staged, embedders, store)
        if sources is None:
            report = _copy(store, staged, fills, batch_size, progress)
        else:
            settings |= {"retry": tries, "batch_size": batch_size, "progress": progress}
            report = index_documents(sources, store=staged, embedder=embedder, **settings)
        if allow_failures or not report.failed:
            if sources is not None:  # a run that was cut off may have taken what is gone by now
                for doc_id in {document.doc_id for document in staged.documents()} - set(report.doc_ids):
                    staged.delete(doc_id=doc_id)
            store.take_over(staged)
    return report


def _prepare(staged: QdrantPageStore, embedders: list[PageEmbedder], store: QdrantPageStore) -> EmbedsPages:
    """What embeds the pages of the store for the next version, which is prepared for it."""
    assert store.info is not None
    try:
        filling(staged, embedders, store.info.reader)
    except StoreMismatchError:  # a run with other embedders was given up
        staged.forget()
        filling(staged, embedders, store.info.reader)
    assert staged.info is not None
    before, after = store.info.embedders, staged.info.embedders
    kept = {info.kind for info in after if info in before} if len(before) != len(after) else set()
    each: list[PageEmbedder] = [_Kept(e, store) if e.kind in kept else e for e in embedders]
    return each[0] if len(each) == 1 else Together(each)


class _Kept:
    """An embedder whose vectors are taken from a store that it fills; pages that have none there are embedded."""

    def __init__(self, embedder: PageEmbedder, store: QdrantPageStore) -> None:
        self.name, self.kind, self.dimension = embedder.name, embedder.kind, embedder.dimension
        self.embed_queries = embedder.embed_queries
        self._embedder, self._store = embedder, store
        self.made = 0

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        pages = list(pages)
        stored: dict[str, Any] = self._store.get_embeddings([page.id for page in pages], self._embedder)
        missing = [page for page in pages if page.id not in stored]
        if missing:
            made = self._embedder.embed_pages(missing)
            self.made += len(missing)
            stored |= {page.id: vector for page, vector in zip(missing, made, strict=True)}
        return [stored[page.id] for page in pages]


def _copy(
    store: QdrantPageStore, staged: QdrantPageStore, embedder: EmbedsPages, batch_size: int, progress: bool | None
) -> IndexReport:
    """Every page of the one store into the other, with new vectors."""
    started = time.monotonic()
    failed: list[Failure] = []

    def fail(page: Page, error: Exception) -> None:
        failed.append(failed_page(page, error))

    embedding = Embedding(embedder, staged, fail)
    bar = ProgressBar(None, progress)
    added = unchanged = 0
    for pages in _batches(store.scroll(), batch_size):
        there = _held(staged, pages)
        kept, vectors, _ = embedding.embed([page for page in pages if page.id not in there])
        embedding.flying.clear()
        added += len(add_pages(staged, kept, vectors, fail))
        unchanged += len(there)
        bar.show(0, added + unchanged, added, len(failed))
    bar.close()
    for pages in _batches(staged.scroll(), _CHECKED):  # a run that was cut off may have taken what is gone by now
        here = _held(store, pages)
        staged.delete(ids=[page.id for page in pages if page.id not in here])
    doc_ids = tuple(document.doc_id for document in staged.documents())
    seconds = time.monotonic() - started
    embedded = embedder.made if isinstance(embedder, _Kept) else embedding.embedded
    return IndexReport(len(doc_ids), added + unchanged, added, unchanged, 0, tuple(failed), seconds, doc_ids, embedded)


def _held(store: QdrantPageStore, pages: list[Page]) -> set[str]:
    return {page.id for page in store.get_pages([page.id for page in pages])}


def _batches(pages: Iterator[Page], size: int) -> Iterator[list[Page]]:
    while batch := list(islice(pages, size)):
        yield batch
