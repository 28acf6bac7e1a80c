"""`Account`: what a run has done so far, and everybody who wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable

from visrag_integrations.ingestion.documents import Documents, failed_page
from visrag_integrations.ingestion.progress import IndexProgress, ProgressBar
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.sources import Ended, GivenSources, size_of
from visrag_integrations.readers.pool import DocumentFailed, PageFailed
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page


class Account:
    """Counts what is done, keeps what failed, and tells of both.

    Args:
        store: Where the pages go.
        given: The sources, measured for the progress bar.
        shown: A progress bar; None shows one where standard error is a terminal.
        on_progress: Told by `tell`; what it raises ends the run.
        on_failure: Told by `tell` of everything that failed since.
        replace_last: See `Documents`.
    """

    def __init__(
        self,
        store: QdrantPageStore,
        given: GivenSources,
        shown: bool | None,
        on_progress: Callable[[IndexProgress], None] | None,
        on_failure: Callable[[Failure], None] | None,
        *,
        replace_last: bool = False,
    ) -> None:
        self.failed: list[Failure] = []
        self.documents = Documents(store, self.failed.append, replace_last=replace_last)
        self.bar = ProgressBar(given.total_bytes, shown)
        self._on_progress, self._on_failure = on_progress, on_failure
        self._told = 0

    def fail_page(self, page: Page, error: Exception) -> None:
        """A page could not be embedded or stored."""
        self.failed.append(failed_page(page, error))

    def failed_reading(self, event: PageFailed | DocumentFailed) -> None:
        """A page or a whole document could not be read."""
        self.failed.append(event.failure)
        if isinstance(event, DocumentFailed):
            self.bar.ended(size_of(event.failure.source), was_read=False)

    def ended(self, ended: Ended) -> None:
        """A document was read to its end."""
        self.bar.ended(size_of(ended.done.source), was_read=ended.done.pages > 0)

    def settle(self, ended: Ended) -> None:
        """A document's pages are all in the store, or known to be lost."""
        (self.documents.discard if ended.changed else self.documents.settle)(ended.done)

    def tell(self) -> None:
        """Everybody hears how far it is."""
        while self._told < len(self.failed):
            self._told += 1
            if self._on_failure is not None:
                self._on_failure(self.failed[self._told - 1])
        done = self.documents
        progress = self.bar.show(len(done.pages), done.added + done.unchanged, done.added, len(self.failed))
        if self._on_progress is not None:
            self._on_progress(progress)

    def report(self, seconds: float, embedded: int) -> IndexReport:
        """The counts, once everything was written."""
        done = self.documents
        return IndexReport(
            documents=len(done.pages),
            pages=done.added + done.unchanged,
            added=done.added,
            unchanged=done.unchanged,
            removed=done.removed,
            failed=tuple(self.failed),
            seconds=seconds,
            doc_ids=tuple(done.pages),
            embedded=embedded,
        )
