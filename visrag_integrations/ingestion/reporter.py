"""`RunReporter`: counts what a run has done so far, keeps what failed, and reports both to whoever wants to know."""

from __future__ import annotations

import logging

from visrag_integrations.errors import printable
from visrag_integrations.ingestion.documents import Documents, failed_page
from visrag_integrations.ingestion.progress import ProgressBar
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.settings import IndexSettings
from visrag_integrations.ingestion.sources import EndedDocument, GivenSources, size_of
from visrag_integrations.readers.pool import DocumentFailed, PageFailed, ReadingWarning
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page

logger = logging.getLogger(__name__)


class RunReporter:
    """Keeps the counts of one run.

    Args:
        store: Where the pages go.
        given: The sources, measured for the progress bar.
        settings: Of the run; its callbacks are called by `report_progress`.
        replace_last: See `Documents`.
    """

    def __init__(
        self, store: QdrantPageStore, given: GivenSources, settings: IndexSettings, *, replace_last: bool = False
    ) -> None:
        self.failed: list[Failure] = []
        self.warnings: list[ReadingWarning] = []
        self._given = given
        self.documents = Documents(store, self.failed.append, replace_last=replace_last)
        self.bar = ProgressBar(given.total_bytes, settings.progress, given.total_documents)
        self._on_progress, self._on_failure = settings.on_progress, settings.on_failure
        self._reported_failures = 0

    def fail_page(self, page: Page, error: Exception) -> None:
        """A page could not be embedded or stored."""
        self.failed.append(failed_page(page, error))

    def failed_reading(self, event: PageFailed | DocumentFailed) -> None:
        """A page or a whole document could not be read."""
        self.failed.append(event.failure)
        if isinstance(event, DocumentFailed):
            self.bar.reading.end("", 0)
            self.bar.ended(size_of(event.failure.source), was_read=False)

    def ended(self, ended: EndedDocument) -> None:
        """A document was read to its end."""
        if not ended.done.embedded:  # the files inside of a document are not among those that were given
            self.bar.reading.end(ended.done.doc_id, ended.done.pages)
        for warning in ended.done.warnings:
            self.warnings.append(warning)
        self.bar.ended(size_of(ended.done.source), was_read=ended.done.pages > 0)

    def settle(self, ended: EndedDocument) -> None:
        """A document's pages are all in the store, or known to be lost."""
        if ended.changed:
            self.documents.discard(ended.done)
        else:
            self.documents.settle(ended.done)

    def report_progress(self) -> None:
        """Show how far the run is: the new failures first, then the counts. What a callback raises ends the run."""
        # Counted up before the call: a callback that raises must not be called again with the same failure.
        while self._reported_failures < len(self.failed):
            failure = self.failed[self._reported_failures]
            self._reported_failures += 1
            if self._on_failure is not None:
                self._on_failure(failure)
            else:  # a report that nobody reads must not be the only place where it stands
                logger.warning("not indexed: %s", _line(failure))
        done = self.documents
        progress = self.bar.show(len(done.pages), done.added + done.unchanged, done.added, len(self.failed))
        if self._on_progress is not None:
            self._on_progress(progress)

    def final_report(self, seconds: float, embedded: int) -> IndexReport:
        """The counts, once everything was written."""
        done = self.documents
        return IndexReport(
            documents=len(done.pages),
            pages=done.added + done.unchanged,
            added=done.added,
            unchanged=done.unchanged,
            removed=done.removed,
            failed=(*self.failed, *self._given.unreadable),
            warnings=tuple(self.warnings),
            left_out=tuple(self._given.left_out),
            seconds=seconds,
            doc_ids=tuple(done.pages),
            embedded=embedded,
        )


def _line(failure: Failure) -> str:
    """What failed, where and why, in one line."""
    where = printable(failure.source)
    if failure.page is not None:
        where += f", page {failure.page}"
    return f"{where}: {failure.error}"
