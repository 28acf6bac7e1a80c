"""A collection made again with another embedder, beside the one in use, which it replaces when it is whole."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from visrag_integrations.errors import StoreError, StoreMismatchError
from visrag_integrations.ingestion.documents import failed_page
from visrag_integrations.ingestion.embedding import Embedding
from visrag_integrations.ingestion.pipeline import index_documents
from visrag_integrations.ingestion.progress import ProgressBar
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.retry import Retry, RetryingClient
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page

_CHECKED = 256


def reindex(
    store: QdrantPageStore,
    *,
    embedder: PageEmbedder,
    sources: Any = None,
    allow_failures: bool = False,
    batch_size: int = 16,
    progress: bool | None = None,
    retry: Retry | None = None,
    **settings: Any,
) -> IndexReport:
    """Embed everything again with another embedder; searches see the old vectors until all new ones are there.

    A run that was killed goes on where it stopped. Pages that are added to the store meanwhile are not taken along.

    Args:
        store: What is made again.
        embedder: What makes the new vectors.
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
    tries = retry or Retry()
    again = functools.partial(RetryingClient, retry=tries)
    with store.next_version() as staged, store.client_through(again), staged.client_through(again):
        if store.info is None:
            if staged.info is None:
                raise StoreError("There is no collection to index again. Fill it first: index_documents(...).")
            store.take_over(staged)  # a run was cut off in the very moment
            return IndexReport()
        _prepare(staged, embedder, store.info.reader)
        if sources is None:
            report = _copy(store, staged, embedder, batch_size, progress)
        else:
            settings |= {"retry": tries, "batch_size": batch_size, "progress": progress}
            report = index_documents(sources, store=staged, embedder=embedder, **settings)
        if allow_failures or not report.failed:
            store.take_over(staged)
    return report


def _prepare(staged: QdrantPageStore, embedder: PageEmbedder, reader: Any) -> None:
    try:
        staged.prepare(embedder, reader)
    except StoreMismatchError:  # a run with a third embedder was given up
        staged.forget()
        staged.prepare(embedder, reader)


def _copy(
    store: QdrantPageStore, staged: QdrantPageStore, embedder: PageEmbedder, batch_size: int, progress: bool | None
) -> IndexReport:
    """Every page of the one store into the other, with new vectors."""
    started = time.monotonic()
    failed: list[Failure] = []
    embedding = Embedding(embedder, staged, lambda page, error: failed.append(failed_page(page, error)))
    bar = ProgressBar(None, progress)
    added = unchanged = 0
    for pages in _batches(store.scroll(), batch_size):
        there = _held(staged, pages)
        kept, vectors, _ = embedding.embed([page for page in pages if page.id not in there])
        embedding.flying.clear()
        staged.add_pages(kept, vectors)
        added, unchanged = added + len(kept), unchanged + len(there)
        bar.show(0, added + unchanged, added, len(failed))
    bar.close()
    for pages in _batches(staged.scroll(), _CHECKED):  # a run that was cut off may have taken what is gone by now
        here = _held(store, pages)
        staged.delete(ids=[page.id for page in pages if page.id not in here])
    doc_ids = tuple(document.doc_id for document in staged.documents())
    seconds = time.monotonic() - started
    return IndexReport(
        len(doc_ids), added + unchanged, added, unchanged, 0, tuple(failed), seconds, doc_ids, embedding.embedded
    )


def _held(store: QdrantPageStore, pages: list[Page]) -> set[str]:
    return {page.id for page in store.get_pages([page.id for page in pages])}


def _batches(pages: Iterator[Page], size: int) -> Iterator[list[Page]]:
    while batch := list(islice(pages, size)):
        yield batch
