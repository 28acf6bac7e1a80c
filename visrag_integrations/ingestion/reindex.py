"""A collection made again with other embedders, beside the one in use, which it replaces when it is whole."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from visrag_integrations.ingestion.read_again import ReadingAgain, check_given
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.retry import Retry, RetryingStoreClient
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.interfaces.stores import stored_embeddings
from visrag_integrations.readers import PageReader
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.info import describe_all, same_pages
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
    read_again: bool = False,
    prune: bool = False,
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
        sources: Files and folders to read again, as for `index_documents`; then the store holds what they hold, and
            nothing else. When not given, the pages come from the store, pictures included; those are JPEG files unless
            the store was told otherwise.
        read_again: Read every document of the store again from its file, as a collection needs that an older version
            filled (`store.outdated`). What cannot be read again is taken over as it was, and stands in `failed`. With
            `sources`, only those files are read, and all others taken over: a store on a server needs them.
        prune: With `read_again`: leave out documents whose files are gone from folders that are there.
        allow_failures: Switch although pages failed; they are missing then. Otherwise the old collection stays in use,
            and running it again tries only what failed.
        batch_size: Pages embedded and added together.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        retry: How requests to a server are tried again.
        **settings: Of `index_documents`, where documents are read.

    Raises:
        StoreError: There is nothing to make again, or the store failed.
    """
    check_batch_size(batch_size)
    tries, embedders = retry or Retry(), as_list(embedder)
    retrying = functools.partial(RetryingStoreClient, retry=tries)
    store.refresh()  # what fills it by now: an earlier run may have ended since the store was opened
    if store.info is None and not store.restore_alias() and _was_cut_off(store):
        return IndexReport()
    if read_again:
        check_given(store, sources)  # before anything is made
    reading = {**settings, "retry": tries, "batch_size": batch_size, "progress": progress}
    reader = _described_reader(store, reading, from_files=read_again or sources is not None, read_again=read_again)
    try:
        with _next_version(store, embedders, retrying, reader) as staged:
            if read_again:
                report = _read_again(store, staged, embedders, sources, reading, prune=prune)
                is_whole = report.documents > 0  # what could not be read again was taken over
            elif sources is not None:
                report = _read_sources(store, staged, embedders, sources, reading)
                is_whole = allow_failures or not report.failed
            else:
                fills = _prepare(staged, embedders, store, reader)
                report = _copy(store, staged, fills, batch_size, progress)
                is_whole = allow_failures or not report.failed
            # Otherwise the new collection stays beside the old one: the next run tries only what failed.
            if not is_whole or store.take_over(staged):
                return report
    except StoreSwitchedError:
        store.refresh()
    return _unchanged(store, embedders, from_files=read_again or sources is not None)


def _described_reader(
    store: QdrantPageStore, reading: Mapping[str, Any], *, from_files: bool, read_again: bool
) -> Mapping[str, Any]:
    """How the pages of the next version are read, as it will remember it."""
    assert store.info is not None
    reader: PageReader | None = reading.get("reader")
    if not from_files:
        return store.info.reader
    if reader is None:
        reader = reader_like(store.info.reader) if read_again else PageReader()
    return reader.describe()


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


def _unchanged(store: QdrantPageStore, embedders: list[PageEmbedder], *, from_files: bool) -> IndexReport:
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
    if from_files:
        raise StoreError(
            "While this re-index ran, another one with the same embedder ended. What it made is in use, and may lack "
            "some of these sources: index them, or run this again."
        )
    logger.warning("another run of this re-index was first; what it made is in use")
    documents = list(store.documents())
    pages = sum(document.pages for document in documents)
    doc_ids = tuple(document.doc_id for document in documents)
    return IndexReport(documents=len(doc_ids), pages=pages, unchanged=pages, doc_ids=doc_ids)


@contextlib.contextmanager
def _next_version(
    store: QdrantPageStore,
    embedders: list[PageEmbedder],
    retrying: Callable[[Any, str], Any],
    reader: Mapping[str, Any],
) -> Iterator[QdrantPageStore]:
    """The version that is to take the store's place, prepared; both retry while the block lasts."""
    for left in reversed(range(_TRIES)):
        made = store.next_version(embedders, reader)
        with made as staged, store.client_through(retrying), staged.client_through(retrying):
            _forget_of_another_reader(staged, reader)
            try:
                _prepare(staged, embedders, store, reader)
            except StoreMismatchError:
                if store.folder is None and left:
                    continue  # another run, with other embedders, began a version of this name at the same moment
                if store.folder is None:
                    raise
                staged.forget()  # an earlier run with other embedders was given up
                _prepare(staged, embedders, store, reader)
            yield staged
            return


def _read_sources(
    store: QdrantPageStore,
    staged: QdrantPageStore,
    embedders: list[PageEmbedder],
    sources: Any,
    reading: dict[str, Any],
) -> IndexReport:
    """The next version filled with these files, and nothing else."""
    reader = reading.get("reader") or PageReader()
    _prepare(staged, embedders, store, reader.describe())
    report = index_documents(sources, store=staged, embedder=embedders, **reading)
    _remove_other_documents(staged, report)
    return report


def _read_again(
    store: QdrantPageStore,
    staged: QdrantPageStore,
    embedders: list[PageEmbedder],
    given: Any,
    reading: dict[str, Any],
    *,
    prune: bool,
) -> IndexReport:
    """The next version filled with the documents of the store as they are read now."""
    assert store.info is not None
    reader = reading.get("reader") or reader_like(store.info.reader)
    fills = _prepare(staged, embedders, store, reader.describe())
    return ReadingAgain(store, staged, embedders, fills, given, {**reading, "reader": reader}, prune).run()


def _forget_of_another_reader(staged: QdrantPageStore, reader: Mapping[str, Any]) -> None:
    """Drop what an earlier run read otherwise, or copied: its pages would not be read again.

    On a server the version was chosen by how it is read, and another run may be filling it.
    """
    if staged.folder is not None and staged.info is not None and dict(staged.info.reader) != dict(reader):
        staged.forget()


def reader_like(described: Mapping[str, Any]) -> PageReader:
    """A reader with the settings that a collection remembers, and those that it does not (`password`, `max_pages`)."""
    settings: dict[str, Any] = {}
    for name in ("backend", "max_pixels", "ocr", "text_assembly", "ocr_pixels", "password", "max_pages"):
        if name in described:
            settings[name] = described[name]
    return PageReader(**settings)


def _remove_other_documents(staged: QdrantPageStore, report: IndexReport) -> None:
    """An earlier run that was cut off may have stored documents whose files are gone by now."""
    stored = {document.doc_id for document in staged.documents()}
    for doc_id in stored - set(report.doc_ids):
        staged.delete(doc_id=doc_id)


def _prepare(
    staged: QdrantPageStore, embedders: list[PageEmbedder], store: QdrantPageStore, reader: Mapping[str, Any]
) -> EmbedsPages:
    """What embeds the pages of the store for the next version, which is prepared for it and for how pages are read."""
    assert store.info is not None
    prepare_store(staged, embedders, reader)
    assert staged.info is not None
    before, after = store.info.embedders, staged.info.embedders
    # Where an embedder is added or taken away, the vectors of the one that stays need not be made again.
    kept: set[str] = set()
    if len(before) != len(after):
        kept = {info.kind for info in after if info in before}
    for old in before:
        # Where only what embeds queries is another model, the pages' vectors stay as they are.
        kept |= {new.kind for new in after if new.embedder != old.embedder and same_pages(old, new)}
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
