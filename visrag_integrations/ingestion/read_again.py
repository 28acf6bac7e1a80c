"""The documents of a store read again from their files, into its next version.

Needed where an older version of the reader filled a collection, for a file that did not change is never read again by
itself. What cannot be read again (its file is gone, it was given as bytes) is taken over as it was, and told by name;
so are pages that a host or a program made. A page's own metadata that no reader makes is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.indexing import Embedders, EmbedsPages, as_list, fill_store, prepare_store, stored_ids
from visrag_integrations.indexing.loop import in_batches
from visrag_integrations.ingestion.documents import failed_page
from visrag_integrations.ingestion.pipeline import index_documents
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.stored_sources import (
    GONE,
    DocumentInStore,
    ReadableSources,
    documents_in,
    is_surely_gone,
    outer_source,
    to_read,
)
from visrag_integrations.interfaces.reader_versions import is_outdated, with_oldest_version
from visrag_integrations.interfaces.stores import page_for
from visrag_integrations.readers.events import ReadingWarning
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page

_MADE_BY_READERS = frozenset(
    ("total_pages", "page_label", "warnings", "speaker_notes", "text_source", "text_suspect", "text_turned", "sources")
)
"""Metadata that a page gets anew when it is read; everything else on it is its owner's."""


# Pages looked up in one request; it bounds the request and its answer.
_LOOKED_UP_AT_ONCE = 256


@dataclass
class _TakenOver:
    """What is not read again.

    Attributes:
        whole: (tenant, doc_id) of documents that are taken over as they were.
        replaced: (tenant, doc_id) of documents whose files hold something else now, or are to be left out.
        failed: Documents that could not be read again, and why.
        warnings: Documents that were not to be read again.
    """

    whole: set[tuple[str, str]] = field(default_factory=set)
    replaced: set[tuple[str, str]] = field(default_factory=set)
    failed: list[Failure] = field(default_factory=list)
    warnings: list[ReadingWarning] = field(default_factory=list)


@dataclass(frozen=True)
class ReadingAgain:
    """One run that reads the documents of a store again.

    Attributes:
        store: What is read again.
        staged: Its next version, prepared for the embedders.
        embedders: What makes the vectors.
        fills: The same, as it fills the next version.
        given: The files, folders and URLs that may be read; None takes the sources that the store names.
        settings: Of `index_documents`.
        prune: Leave out documents whose files are gone, instead of taking them over.
    """

    store: QdrantPageStore
    staged: QdrantPageStore
    embedders: Embedders
    fills: EmbedsPages
    given: Any
    settings: dict[str, Any]
    prune: bool = False

    def run(self) -> IndexReport:
        """Fill the next version; the report counts what was taken over as unchanged.

        Raises:
            SettingError: The store is on a server, and no files were given.
        """
        started = time.monotonic()
        check_given(self.store, self.given)
        readable = ReadableSources(self.given)
        documents = documents_in(self.store)
        report = self._read(documents, readable)
        self._remove_what_left(documents, report)
        rest = self._not_read(documents, readable, report)
        if not report.documents:  # nothing could be read again: the store stays as it is
            return replace(report, failed=(*report.failed, *rest.failed), warnings=(*report.warnings, *rest.warnings))
        kept = self._take_over(documents, rest)
        report = _with_rest(report, rest, kept, documents)
        return replace(report, seconds=time.monotonic() - started)

    def _read(self, documents: list[DocumentInStore], readable: ReadableSources) -> IndexReport:
        """Index the sources of each tenant as that tenant's."""
        report = IndexReport()
        for tenant, sources in to_read(documents, readable).items():
            part = index_documents(
                sources,
                store=self.staged.of_tenant(tenant),
                embedder=self.embedders,
                complete=_with_metadata_of(self.store.of_tenant(tenant)),
                **self.settings,
            )
            report = _joined(report, part)
        return report

    def _remove_what_left(self, documents: list[DocumentInStore], report: IndexReport) -> None:
        """An earlier run that was cut off may have read documents that were removed from the store since."""
        known = {document.doc_id for document in documents} | set(report.doc_ids)
        for document in self.staged.documents():
            if document.doc_id not in known:
                self.staged.delete(doc_id=document.doc_id)

    def _not_read(self, documents: list[DocumentInStore], readable: ReadableSources, report: IndexReport) -> _TakenOver:
        """What happens to each document that is not in the next version now."""
        rest = _TakenOver()
        said = {failure.source for failure in report.failed if failure.page is None}
        for tenant in {document.tenant for document in documents}:
            staged = list(self.staged.of_tenant(tenant).documents())
            there = {document.doc_id for document in staged}
            settled = {source for document in staged for source in document.sources}
            for document in documents:
                if document.tenant == tenant and document.doc_id not in there:
                    self._decide(document, settled, said, readable, rest)
        return rest

    def _decide(
        self,
        document: DocumentInStore,
        settled: Collection[str],
        said: Collection[str],
        readable: ReadableSources,
        rest: _TakenOver,
    ) -> None:
        key = (document.tenant, document.doc_id)
        if not document.is_read:
            rest.whole.add(key)
            return
        left = [source for source in document.sources if source not in settled and outer_source(source) not in settled]
        if not left:
            rest.replaced.add(key)  # its files hold something else now
            return
        source = left[0]
        why = readable.why_not(source)
        if why == GONE and self.prune and all(map(is_surely_gone, left)):
            rest.replaced.add(key)
            return
        rest.whole.add(key)
        if why.startswith("it is not among"):
            rest.warnings.append(ReadingWarning(source, f"was not read again: {why}. Its pages stay as they were."))
        elif source not in said:
            advice = ""
            if why == GONE:
                advice = " --prune (prune=True) removes them."
            reason = why or "no page of it could be read"
            rest.failed.append(Failure(source, f"was not read again: {reason}. Its pages stay as they were.{advice}"))

    def _take_over(self, documents: list[DocumentInStore], rest: _TakenOver) -> int:
        """Copy what stays as it was, with the vectors that the embedders make; gives how many pages."""
        made_by_readers = {(document.tenant, document.doc_id) for document in documents if document.is_read}
        outdated = False
        for page in self._missing_pages(rest):
            outdated = outdated or (page.tenant, page.doc_id) in made_by_readers
        if outdated:
            self._remember_older_reader()

        def fail(page: Page, error: Exception) -> None:
            rest.failed.append(failed_page(page, error))

        counts = fill_store(
            self._missing_pages(rest),
            self.staged,
            self.fills,
            batch_size=self.settings["batch_size"],
            on_failure=fail,
            on_batch=lambda counts: None,
        )
        return counts.added

    def _remember_older_reader(self) -> None:
        """The next version will hold pages of the older reader too.

        Said before they are copied: a run that is cut off while it copies must not take the copies for pages that were
        read again.
        """
        before, after = self.store.info, self.staged.info
        if before is not None and after is not None and is_outdated(before.reader):
            mixed = with_oldest_version(after.reader, before.reader)
            prepare_store(self.staged, as_list(self.embedders), mixed)

    def _missing_pages(self, rest: _TakenOver) -> Iterator[Page]:
        """The stored pages that stay and are not in the next version yet."""
        for pages in in_batches(self.store.scroll(), _LOOKED_UP_AT_ONCE):
            there = stored_ids(self.staged, pages)
            for page in pages:
                if page.id not in there and (page.tenant, page.doc_id) not in rest.replaced:
                    yield page


def check_given(store: QdrantPageStore, given: Any) -> None:
    """Nothing where the sources that a store names may be read.

    Raises:
        SettingError: Others can write to the store, so that it must not choose which files of this machine are read.
    """
    if given is None and store.folder is None:
        raise SettingError(
            "The sources in a collection on a server may have been written by others, so they are not read unasked. "
            "Name the files or folders: visrag reindex --read-again PATH..., or sources=[...]."
        )


def _with_metadata_of(store: QdrantPageStore) -> Callable[[Page], Page]:
    """Gives a page that was read again the metadata that its owner put to the stored one."""

    def complete(page: Page) -> Page:
        stored = store.get_pages([page_for(store, page).id])
        if not stored:
            return page
        metadata = {key: value for key, value in stored[0].metadata.items() if key not in _MADE_BY_READERS}
        return replace(page, metadata={**metadata, **page.metadata})

    return complete


def _joined(one: IndexReport, other: IndexReport) -> IndexReport:
    """Two runs as one."""
    return IndexReport(
        documents=one.documents + other.documents,
        pages=one.pages + other.pages,
        added=one.added + other.added,
        unchanged=one.unchanged + other.unchanged,
        removed=one.removed + other.removed,
        failed=one.failed + other.failed,
        doc_ids=one.doc_ids + other.doc_ids,
        embedded=one.embedded + other.embedded,
        warnings=one.warnings + other.warnings,
        left_out=one.left_out + other.left_out,
    )


def _with_rest(report: IndexReport, rest: _TakenOver, kept: int, documents: list[DocumentInStore]) -> IndexReport:
    """The report with what was taken over, and what went because its file holds something else or is gone."""
    removed = 0
    for document in documents:
        if (document.tenant, document.doc_id) in rest.replaced:
            removed += document.pages
    return replace(
        report,
        documents=report.documents + len(rest.whole),
        pages=report.pages + kept,
        unchanged=report.unchanged + kept,
        removed=report.removed + removed,
        failed=(*report.failed, *rest.failed),
        warnings=(*report.warnings, *rest.warnings),
        doc_ids=(*report.doc_ids, *(doc_id for _, doc_id in sorted(rest.whole))),
    )
