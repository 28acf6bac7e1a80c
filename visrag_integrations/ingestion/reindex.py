"""A collection made again with other embedders, beside the one in use, which it replaces when it is whole."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from visrag_integrations.errors import StoreError, StoreMismatchError, StoreSwitchedError
from visrag_integrations.indexing import (
    Embedders,
    EmbedsPages,
    FillCounts,
    JointEmbedder,
    as_list,
    check_batch_size,
    fill_store,
    prepare_store,
    stored_ids,
)
from visrag_integrations.indexing.loop import in_batches
from visrag_integrations.ingestion.documents import failed_page
from visrag_integrations.ingestion.pipeline import index_documents
from visrag_integrations.ingestion.progress import ProgressBar
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.retry import Retry, RetryingStoreClient
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.interfaces.stores import stored_embeddings
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.info import describe_all
from visrag_integrations.types import Failure, Page

logger = logging.getLogger(__name__)

# Runs with different embedders that begin at the very same moment: each time one of them gets the name.
_TRIES = 5
# Pages looked up in one request when those that are gone are searched for; it bounds the request and its answer.
_LOOKED_UP_AT_ONCE = 256


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
    check_batch_size(batch_size)
    tries, embedders = retry or Retry(), as_list(embedder)
    retrying = functools.partial(RetryingStoreClient, retry=tries)
    store.refresh()  # what fills it by now: an earlier run may have ended since the store was opened
    if store.info is None and not store.restore_alias() and _was_cut_off(store):
        return IndexReport()
    try:
        with _next_version(store, embedders, retrying) as (staged, fills):
            if sources is None:
                report = _copy(store, staged, fills, batch_size, progress)
            else:
                settings |= {"retry": tries, "batch_size": batch_size, "progress": progress}
                report = index_documents(sources, store=staged, embedder=embedder, **settings)
            # The new collection stays beside the old one: the next run tries only what failed.
            if report.failed and not allow_failures:
                return report
            if sources is not None:
                _remove_other_documents(staged, report)
            if store.take_over(staged):
                return report
    except StoreSwitchedError:
        store.refresh()
    return _unchanged(store, embedders, sources)


def _was_cut_off(store: QdrantPageStore) -> bool:
    """Whether an earlier run was cut off just before its version took the place of the old one, which is done now.

    Raises:
        StoreError: There is nothing to make again.
    """
    with store.next_version() as staged:
        if staged.info is None:
            raise StoreError("There is no collection to index again. Fill it first: index_documents(...).")
        store.take_over(staged)
    return True


def _unchanged(store: QdrantPageStore, embedders: list[PageEmbedder], sources: Any) -> IndexReport:
    """The report of a run that found its work done by another one.

    Raises:
        StoreError: The other one made something else.
    """
    info = store.info
    if info is None or not all(info.of(embedder) is not None for embedder in embedders):
        held = "nothing" if info is None else describe_all(info)
        raise StoreError(
            f"While this re-index ran, another one ended, and the collection holds {held} now. Run this one again if "
            "its embedder is to fill the collection."
        )
    if sources is not None:
        raise StoreError(
            "While this re-index ran, another one with the same embedder ended. What it made is in use, and may lack "
            "some of these sources: index them, or run this again."
        )
    logger.warning("another run of this re-index was first; what it made is in use")
    documents = store.documents()
    pages = sum(document.pages for document in documents)
    doc_ids = tuple(document.doc_id for document in documents)
    return IndexReport(documents=len(doc_ids), pages=pages, unchanged=pages, doc_ids=doc_ids)


@contextlib.contextmanager
def _next_version(
    store: QdrantPageStore, embedders: list[PageEmbedder], retrying: Callable[[Any, str], Any]
) -> Iterator[tuple[QdrantPageStore, EmbedsPages]]:
    """The version that is to take the store's place, and what embeds its pages; both retry while the block lasts."""
    for left in reversed(range(_TRIES)):
        with store.next_version(embedders) as staged, store.client_through(retrying), staged.client_through(retrying):
            try:
                fills = _prepare(staged, embedders, store)
            except StoreMismatchError:
                if store.folder is None and left:
                    continue  # another run, with other embedders, began a version of this name at the same moment
                if store.folder is None:
                    raise
                staged.forget()  # an earlier run with other embedders was given up
                fills = _prepare(staged, embedders, store)
            yield staged, fills
            return


def _remove_other_documents(staged: QdrantPageStore, report: IndexReport) -> None:
    """An earlier run that was cut off may have stored documents whose files are gone by now."""
    stored = {document.doc_id for document in staged.documents()}
    for doc_id in stored - set(report.doc_ids):
        staged.delete(doc_id=doc_id)


def _prepare(staged: QdrantPageStore, embedders: list[PageEmbedder], store: QdrantPageStore) -> EmbedsPages:
    """What embeds the pages of the store for the next version, which is prepared for it."""
    assert store.info is not None
    prepare_store(staged, embedders, store.info.reader)
    assert staged.info is not None
    before, after = store.info.embedders, staged.info.embedders
    # Where an embedder is added or taken away, the vectors of the one that stays need not be made again.
    kept: set[str] = set()
    if len(before) != len(after):
        kept = {info.kind for info in after if info in before}
    each: list[PageEmbedder] = []
    for embedder in embedders:
        each.append(_StoredVectors(embedder, store) if embedder.kind in kept else embedder)
    if len(each) == 1:
        return each[0]
    return JointEmbedder(each)


class _StoredVectors:
    """An embedder whose vectors are taken from a store that it fills; pages that have none there are embedded."""

    def __init__(self, embedder: PageEmbedder, store: QdrantPageStore) -> None:
        self.name, self.kind, self.dimension = embedder.name, embedder.kind, embedder.dimension
        self.embed_queries = embedder.embed_queries
        self._embedder, self._store = embedder, store
        self.made = 0

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        pages = list(pages)
        vectors = dict(stored_embeddings(self._store, [page.id for page in pages], self._embedder))
        missing = [page for page in pages if page.id not in vectors]
        if missing:
            made = self._embedder.embed_pages(missing)
            self.made += len(missing)
            for page, vector in zip(missing, made, strict=True):
                vectors[page.id] = vector
        return [vectors[page.id] for page in pages]


def _copy(
    store: QdrantPageStore, staged: QdrantPageStore, embedder: EmbedsPages, batch_size: int, progress: bool | None
) -> IndexReport:
    """Every page of the one store into the other, with new vectors."""
    started = time.monotonic()
    failed: list[Failure] = []
    bar = ProgressBar(None, progress)

    def fail(page: Page, error: Exception) -> None:
        failed.append(failed_page(page, error))

    def show(counts: FillCounts) -> None:
        bar.show(0, counts.added + counts.unchanged, counts.added, len(failed))

    # What an earlier run copied is skipped by the loop, as in any run that goes on.
    try:
        counts = fill_store(store.scroll(), staged, embedder, batch_size=batch_size, on_failure=fail, on_batch=show)
    finally:
        bar.close()
    _remove_other_pages(staged, store)
    doc_ids = tuple(document.doc_id for document in staged.documents())
    return IndexReport(
        documents=len(doc_ids),
        pages=counts.added + counts.unchanged,
        added=counts.added,
        unchanged=counts.unchanged,
        failed=tuple(failed),
        seconds=time.monotonic() - started,
        doc_ids=doc_ids,
        embedded=embedder.made if isinstance(embedder, _StoredVectors) else counts.embedded,
    )


def _remove_other_pages(staged: QdrantPageStore, store: QdrantPageStore) -> None:
    """An earlier run that was cut off may have copied pages that were removed from the store since."""
    for pages in in_batches(staged.scroll(), _LOOKED_UP_AT_ONCE):
        there = stored_ids(store, pages)
        staged.delete(ids=[page.id for page in pages if page.id not in there])
