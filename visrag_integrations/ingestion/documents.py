"""Which documents a run meets, what the store held of them before, and how each one ends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from visrag_integrations.errors import printable
from visrag_integrations.readers.pool import DocumentDone
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page, StoredDocument


class Documents:
    """The documents of one run. `known_pages` is for the reading thread; everything else for the writing one.

    With `replace_last`, documents that another one replaces go at the very end: until then anybody may need them.

    Attributes:
        pages: doc_id -> how many of its pages are in the index, for each document that ended well.
        added: Pages that are new.
        unchanged: Pages that were there already, under the same document or the one it replaces.
        removed: Pages that are gone with their file or from it.
        failed: What went wrong, in order.
    """

    def __init__(
        self, store: QdrantPageStore, on_failure: Callable[[Failure], None], *, replace_last: bool = False
    ) -> None:
        self._store, self.fail, self._replace_last = store, on_failure, replace_last
        self._was_filled = store.count() > 0
        self._guard = threading.Lock()
        self._met: set[str] = set()
        self._before: dict[str, int] = {}
        self._ids: dict[str, set[str]] = {}
        self._late: list[tuple[StoredDocument, str, str, int]] = []
        self.pages: dict[str, int] = {}
        self.added = self.unchanged = self.removed = 0

    def known_pages(self, doc_id: str) -> Collection[int] | None:
        """Numbers of the pages that need no reading; None stands for all, so that nothing is opened."""
        if doc_id in self._met:  # the same content under a second name in this run
            return None
        with self._guard:  # from here on nobody removes it
            self._met.add(doc_id)
            before, numbers = stored_pages(self._store, doc_id) if self._was_filled else (0, frozenset())
        self._before[doc_id] = before
        return numbers

    def met_elsewhere(self, doc_id: str, before: int) -> None:
        """Another process met this document, of which the store held so many pages when the run began."""
        self._met.add(doc_id)
        if doc_id not in self.pages:
            self._before[doc_id] = before

    def added_pages(self, pages: Iterable[Page]) -> None:
        """These are in the store now."""
        for page in pages:
            ids = self._ids.setdefault(page.doc_id, set())
            if page.doc_id not in self.pages and page.id not in ids:
                ids.add(page.id)
                self.added += 1

    def settle(self, done: DocumentDone) -> None:
        """Remember the document's source; what this source held before is gone from the file, so it goes here too."""
        doc_id, source = done.doc_id, done.source
        added = len(self._ids.pop(doc_id, ()))
        before = self._before.pop(doc_id, 0)
        if doc_id not in self.pages:
            if not added and not before:
                if done.total_pages is None:
                    self.fail(Failure(source, "has the content of another file, of which no page could be indexed."))
                return
            self.pages[doc_id] = added + before
            self.unchanged += before
            if not self._was_filled:
                return
        found = self._found_at(source)
        here = sum(document.pages for document in found if document.doc_id == doc_id)
        if here < self.pages[doc_id]:
            self._store.add_source(doc_id, source)
        for old in found:
            if old.doc_id == doc_id:
                continue
            with self._guard:
                further_on = old.doc_id in self._met and old.doc_id not in self.pages  # as another file's content
                if further_on or self._replace_last:
                    self._late.append((old, doc_id, source, added))
                else:
                    self._replace(old, doc_id, source, added)

    def discard(self, done: DocumentDone) -> None:
        """Take back what was added of a file that changed while it was read: nobody knows which content it is of."""
        ids = self._ids.pop(done.doc_id, set())
        self._before.pop(done.doc_id, None)
        self.added -= len(ids)
        if ids:
            self._store.delete(ids=ids)
        self.fail(Failure(done.source, "changed while it was read; index it again."))

    def finish(self, gone: Callable[[str], bool] | None) -> None:
        """Remove what had to wait, and with `gone` the documents whose sources are."""
        for late in self._late:
            self._replace(*late)
        if gone is None:
            return
        for document in self._store.documents():
            for source in filter(gone, document.sources):
                self.removed += self._delete(document.doc_id, source)

    def _found_at(self, source: str) -> Sequence[StoredDocument]:
        found = self._store.documents(filter={"source": source})
        return [document for document in found if source in document.sources]  # the filter takes file names too

    def _replace(self, old: StoredDocument, doc_id: str, source: str, added: int) -> None:
        """Remove the document that was found at this source before; its pages that are in the new one count as kept."""
        equal = Counter(self._contents(old.doc_id)) & Counter(self._contents(doc_id))
        removed = self._delete(old.doc_id, source)
        kept = min(removed, equal.total())
        moved = min(kept, added)
        self.removed += removed - kept
        self.added -= moved
        self.unchanged += moved

    def _contents(self, doc_id: str) -> list[str]:
        return self._store.contents(doc_id)

    def _delete(self, doc_id: str, source: str) -> int:
        return self._store.delete(doc_id=doc_id, source=source)


def stored_pages(store: QdrantPageStore, doc_id: str) -> tuple[int, Collection[int] | None]:
    """How many pages of a document a store holds, and which; None where it holds all of them."""
    found = store.documents(filter={"doc_id": doc_id})
    if not found:
        return 0, frozenset()
    (stored,) = found
    if stored.total_pages is not None and stored.pages >= stored.total_pages:
        return stored.pages, None
    return stored.pages, store.page_numbers(doc_id)


def failed_page(page: Page, error: Exception) -> Failure:
    """A page that could not be embedded or stored, in words."""
    return Failure(page.source, f"not embedded: {printable(str(error).strip() or type(error).__name__)}", page.number)
