"""How far a run is: a value for callbacks, and the progress bar."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from visrag_integrations.errors import printable
from visrag_integrations.progress_bars import progress_bar, set_total
from visrag_integrations.types import Page

# Seconds between two drawings while nothing happens: a clock that stands still looks like a program that hangs.
_TICK = 1.0
_LONGEST_NAME = 32  # of a document before the bar: the end of it, where file names differ
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}{postfix}]"
_FORMAT_WITHOUT_TOTAL = "{desc}: {n_fmt} pages [{elapsed}{postfix}]"


@dataclass(frozen=True)
class IndexProgress:
    """How far a run is. What is counted is durable.

    Attributes:
        documents: Documents that are done.
        pages: Pages of the given sources that are in the index so far.
        added: Those that are new.
        failed: Documents and pages that failed.
        seconds: Since the start.
        seconds_left: Estimated from the sizes of the files; None while that cannot be known.
        read: Pages that were read in this run, stored or not; 0 where other processes read.
        document: The document that was read last.
        expected: Pages of the documents that were opened so far, those not counted that were there already.
        all_opened: Whether `expected` is all there is.
    """

    documents: int = 0
    pages: int = 0
    added: int = 0
    failed: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None
    read: int = 0
    document: str = ""
    expected: int = 0
    all_opened: bool = False

    @property
    def pages_per_second(self) -> float:
        """New pages per second so far.

        >>> IndexProgress(added=30, seconds=10.0).pages_per_second
        3.0
        """
        if self.seconds <= 0:
            return 0.0
        return self.added / self.seconds


@dataclass
class Reading:
    """What was read so far.

    Attributes:
        documents: How many there are; None where that is not known.
        pages: Pages that were read.
        document: What was read last.
        ended: Documents that came to an end, however they did.
    """

    documents: int | None
    pages: int = 0
    document: str = ""
    ended: int = 0

    def __post_init__(self) -> None:
        self._expected: dict[str, int] = {}
        self._open: set[str] = set()

    def page(self, page: Page) -> None:
        """A page was read; its document says how many there are to come."""
        self.pages += 1
        self.document = page.source
        if page.doc_id not in self._expected:
            total = page.metadata.get("total_pages")
            self._expected[page.doc_id] = total if isinstance(total, int) else 0
            self._open.add(page.doc_id)

    def end(self, doc_id: str, pages: int) -> None:
        """A document ended, of which so many pages were read; "" for one that could not be opened."""
        self.ended += 1
        self._open.discard(doc_id)
        if doc_id in self._expected:  # not more were wanted, or some of them failed
            self._expected[doc_id] = pages

    @property
    def expected(self) -> int:
        """Pages of the documents that were opened."""
        return sum(self._expected.values())

    @property
    def all_opened(self) -> bool:
        """Whether no document is left that was not opened."""
        return self.documents is not None and self.ended + len(self._open) >= self.documents


class ProgressBar:
    """A tqdm bar of pages, with a clock that goes on while nothing happens.

    Their number is that of the documents that were opened, with a "+" until all are; the time that is left is estimated
    from the bytes that were read and those to come.

    Args:
        total_bytes: Of all documents; None where it is not known.
        shown: Whether it is drawn; None: where standard error is a terminal, and in a notebook.
        documents: How many there are; None where it is not known.
    """

    def __init__(self, total_bytes: int | None, shown: bool | None, documents: int | None = None) -> None:
        self._bar = progress_bar(shown, unit="", desc="Indexing", bar_format=_FORMAT_WITHOUT_TOTAL)
        self._started = time.monotonic()
        self._left = total_bytes
        self._bytes_read = 0
        self.reading = Reading(documents)
        self._closed = threading.Event()
        self._clock: threading.Thread | None = None
        if not self._bar.disable:
            self._clock = threading.Thread(target=self._tick, name="visrag-progress", daemon=True)
            self._clock.start()

    def _tick(self) -> None:
        while not self._closed.wait(_TICK):
            self._draw()

    def ended(self, size: int, *, was_read: bool) -> None:
        """A document of so many bytes is done; one that was not read took no time."""
        if self._left is not None:
            self._left = max(0, self._left - size)
        if was_read:
            self._bytes_read += size

    def show(self, documents: int, pages: int, added: int, failed: int) -> IndexProgress:
        """Draw the bar, and give the same as a value."""
        seconds = time.monotonic() - self._started
        left: float | None = None
        # Nothing can be estimated before the first document is read, or where the sizes are not known.
        if self._left is not None and self._bytes_read:
            left = seconds * self._left / self._bytes_read
        self._bar.n = added
        self._draw()
        read = self.reading
        return IndexProgress(
            documents, pages, added, failed, seconds, left, read.pages, read.document, read.expected, read.all_opened
        )

    def _draw(self) -> None:
        """Draw it as it is now; from the run's thread and from the clock's."""
        if self._bar.disable:
            return
        read = self.reading
        if read.document:
            name = printable(read.document)
            if len(name) > _LONGEST_NAME:
                name = f"…{name[-_LONGEST_NAME:]}"
            self._bar.set_description_str(f"Indexing {name}", refresh=False)
        if read.pages:
            self._bar.set_postfix_str(f"{read.pages} read", refresh=False)
            self._bar.bar_format = _FORMAT
            set_total(self._bar, max(self._bar.n, read.expected))
            self._bar.unit = " pages" if read.all_opened else "+ pages"
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._closed.set()
        if self._clock is not None:
            self._clock.join()
            self._clock = None
        self._draw()
        self._bar.close()
