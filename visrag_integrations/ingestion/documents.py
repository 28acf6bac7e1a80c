"""Which documents a run meets, what the store held of them before, and how each one ends.

Who decides that a document is done: `Documents.settle`. Its states, in order:

    seen -> reading -> stored      its pages are in the index under its source
                    -> failed      no page of it could be indexed, or its file changed while it was read
    stored -> gone                 its source is gone, or holds another document now
"""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from visrag_integrations.errors import printable, storable
from visrag_integrations.ingestion.lookahead import Given, SourceLookahead
from visrag_integrations.ingestion.sources import GivenSources
from visrag_integrations.readers.pool import DocumentDone
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page, StoredDocument


class DocumentStatus(enum.Enum):
    """How far a document is in this run."""

    SEEN = "seen"
    READING = "reading"
    STORED = "stored"
    FAILED = "failed"
    GONE = "gone"


@dataclass
class TrackedDocument:
    """One document of the run.

    Attributes:
        status: How far it is.
        before: How many of its pages the store held when the run met it.
        new_ids: Of the pages that this run added; empty once it is settled.
    """

    status: DocumentStatus = DocumentStatus.SEEN
    before: int = 0
    new_ids: set[str] = field(default_factory=set)


class Documents:
    """The documents of one run. `known_pages` is for the reading thread; everything else for the writing one.

    With `replace_last`, documents that another one replaces are removed at the very end: where documents end in any
    order, pages of later ones may still need their vectors.

    Attributes:
        pages: doc_id -> how many of its pages are in the index, for each document that ended well.
        added: Pages that are new.
        unchanged: Pages that were there already, under the same document or the one it replaces.
        removed: Pages that are gone with their file or from it.
    """

    def __init__(
        self, store: QdrantPageStore, on_failure: Callable[[Failure], None], *, replace_last: bool = False
    ) -> None:
        self._store, self._fail, self._replace_last = store, on_failure, replace_last
        self._was_filled = store.count() > 0
        self._ahead = SourceLookahead(store)
        # Held while a document is met and while one is replaced: what was just met as known must not be removed.
        self._guard = threading.Lock()
        self._tracked: dict[str, TrackedDocument] = {}
        self._new_outer: set[str] = set()
        self._inner_sources: set[str] = set()
        self._to_replace_last: list[tuple[StoredDocument, DocumentDone, int]] = []
        self.pages: dict[str, int] = {}
        self.added = self.unchanged = self.removed = 0

    def looking_ahead(self, sources: Iterable[Given]) -> Iterable[Given]:
        """The sources as they are; what the store holds of them is asked for many in one request."""
        if not self._was_filled:
            return sources
        return self._ahead.over(sources)

    def known_pages(self, doc_id: str) -> Collection[int] | None:
        """Numbers of the pages that need no reading; None stands for all, so that nothing is opened."""
        if doc_id in self._tracked:  # the same content under a second name in this run
            return None
        with self._guard:
            document = self._tracked[doc_id] = TrackedDocument()
            numbers: Collection[int] | None = frozenset()
            whole = self._ahead.pages_of_whole(doc_id)
            if whole is not None:
                document.before, numbers = whole, None
            elif self._was_filled:
                document.before, numbers = stored_pages(self._store, doc_id)
        if numbers is not None:
            document.status = DocumentStatus.READING
        return numbers

    def met_elsewhere(self, doc_id: str, before: int) -> None:
        """Another process met this document, of which the store held so many pages when the run began."""
        document = self._track(doc_id)
        if document.status is not DocumentStatus.STORED:
            document.before = before

    def added_pages(self, pages: Iterable[Page]) -> None:
        """These are in the store now."""
        for page in pages:
            document = self._track(page.doc_id)
            if document.status is DocumentStatus.SEEN:
                document.status = DocumentStatus.READING
            # A page that is added twice (a worker's repeated work) counts once.
            if document.status is not DocumentStatus.STORED and page.id not in document.new_ids:
                document.new_ids.add(page.id)
                self.added += 1

    def settle(self, done: DocumentDone) -> None:
        """The document is done: remember its source, and remove what this source held before."""
        if done.embedded:
            self._inner_sources.add(storable(done.source))
        document = self._track(done.doc_id)
        added, before = len(document.new_ids), document.before
        document.new_ids, document.before = set(), 0
        if document.status is not DocumentStatus.STORED:
            if not added and not before:
                self._settle_without_pages(document, done)
                return
            document.status = DocumentStatus.STORED
            self.pages[done.doc_id] = added + before
            self.unchanged += before
            if not self._was_filled:
                return
        self._replace_what_was_there(done, added)

    def discard(self, done: DocumentDone) -> None:
        """Take back what was added of a file that changed while it was read: nobody knows which content it is of."""
        document = self._track(done.doc_id)
        ids = document.new_ids
        document.new_ids, document.before = set(), 0
        if document.status is not DocumentStatus.STORED:
            document.status = DocumentStatus.FAILED
        self.added -= len(ids)
        if ids:
            self._store.delete(ids=ids)
        self._fail(Failure(done.source, "changed while it was read; index it again."))

    def finish(self, prune_by: GivenSources | None) -> None:
        """Remove what had to wait, and with `prune_by` the documents below and beside these whose files are gone."""
        for old, done, added in self._to_replace_last:
            self._replace(old, done, added)
        if self._new_outer:
            self._remove_inner_ones_that_left()
        if prune_by is None:
            return
        gone: set[str] = set()
        for document in self._store.documents_below(prune_by.folders, beside=prune_by.beside):
            for source in document.sources:
                if prune_by.gone(source):
                    self.removed += self._remove(document.doc_id, source)
                    gone.add(source)
        self._remove_what_lay_inside(gone)

    def _track(self, doc_id: str) -> TrackedDocument:
        return self._tracked.setdefault(doc_id, TrackedDocument())

    def _settle_without_pages(self, document: TrackedDocument, done: DocumentDone) -> None:
        document.status = DocumentStatus.FAILED
        # Where pages were tried, each of them was reported; a copy of such a document was not opened at all.
        if done.total_pages is None:
            self._fail(Failure(done.source, "has the content of another file, of which no page could be indexed."))

    def _replace_what_was_there(self, done: DocumentDone, added: int) -> None:
        """Note the source of a document, and remove the documents that were found at this source before."""
        at_source = self._ahead.take_at(done.source)
        if at_source is None or added:  # what was added is in no earlier answer
            at_source = list(self._store.documents(filter={"source": done.source}))
        pages_here = 0
        others: list[StoredDocument] = []
        for found in at_source:
            if storable(done.source) not in found.sources:  # the filter takes file names too
                continue
            if found.doc_id == done.doc_id:
                pages_here = found.pages
            else:
                others.append(found)
        if pages_here < self.pages[done.doc_id]:
            self._store.add_source(done.doc_id, done.source)
        if others and not done.embedded:
            self._new_outer.add(storable(done.source))
        for old in others:
            with self._guard:
                # Two files that swapped their names: the old content of this one is met again as another file's.
                met = self._tracked.get(old.doc_id)
                needed_later = met is not None and met.status is not DocumentStatus.STORED
                if needed_later or self._replace_last:
                    self._to_replace_last.append((old, done, added))
                else:
                    self._replace(old, done, added)

    def _replace(self, old: StoredDocument, done: DocumentDone, added: int) -> None:
        """Remove the document that was found at this source before; its pages that are in the new one count as kept.

        Before [A B C], now [A X B], of which all three were added: C was removed, only X is new, A and B are unchanged.
        """
        equal = Counter(self._store.contents(old.doc_id)) & Counter(self._store.contents(done.doc_id))
        removed = self._remove(old.doc_id, done.source)
        kept = min(removed, equal.total())
        moved = min(kept, added)
        self.removed += removed - kept
        self.added -= moved
        self.unchanged += moved

    def _remove_inner_ones_that_left(self) -> None:
        """Remove files that lay inside of documents whose new content does not hold them any more."""
        for document in self._store.documents_inside(self._new_outer):
            for source in document.sources:
                outer = source.rpartition("/")[0]
                if outer in self._new_outer and source not in self._inner_sources:
                    self.removed += self._remove(document.doc_id, source)

    def _remove_what_lay_inside(self, gone: set[str]) -> None:
        """Remove the files that lay inside of files that are gone."""
        for document in self._store.documents_inside(gone):
            for source in document.sources:
                if source.rpartition("/")[0] in gone:
                    self.removed += self._remove(document.doc_id, source)

    def _remove(self, doc_id: str, source: str) -> int:
        """Take a source from a document; gives how many pages went, where it was the last source."""
        removed = self._store.delete(doc_id=doc_id, source=source)
        if removed and doc_id in self._tracked:
            self._tracked[doc_id].status = DocumentStatus.GONE
        return removed


def stored_pages(store: QdrantPageStore, doc_id: str) -> tuple[int, Collection[int] | None]:
    """How many pages of a document a store holds, and which; None where it holds all of them."""
    found = list(store.documents(filter={"doc_id": doc_id}))
    if not found:
        return 0, frozenset()
    (stored,) = found
    if stored.total_pages is not None and stored.pages >= stored.total_pages:
        return stored.pages, None
    return stored.pages, store.page_numbers(doc_id)


def failed_page(page: Page, error: Exception) -> Failure:
    """A page that could not be embedded or stored, in words."""
    return Failure(page.source, f"not embedded: {printable(str(error).strip() or type(error).__name__)}", page.number)
