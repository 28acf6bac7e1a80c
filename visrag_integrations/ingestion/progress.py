"""How far a run is: a value for callbacks, and the progress bar."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm


@dataclass(frozen=True)
class IndexProgress:
    """How far a run is. What is counted is durable.

    Attributes:
        documents: Documents that are done.
        pages: Pages of the given sources that are in the index so far.
        added: Those that are new.
        failed: Documents and pages that failed.
        seconds: Since the start.
        seconds_left: Estimated from the sizes of the files; None while nobody can know.
    """

    documents: int = 0
    pages: int = 0
    added: int = 0
    failed: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None

    @property
    def pages_per_second(self) -> float:
        """New pages per second so far.

        >>> IndexProgress(added=30, seconds=10.0).pages_per_second
        3.0
        """
        return self.added / self.seconds if self.seconds > 0 else 0.0


class ProgressBar:
    """A tqdm bar of pages; their number is estimated from the bytes that were read and those to come."""

    def __init__(self, total_bytes: int | None, shown: bool | None) -> None:
        self._bar: Any = tqdm(unit="page", desc="Indexing", disable=None if shown is None else not shown)
        self._started = time.monotonic()
        self._left = total_bytes
        self._read = 0

    def ended(self, size: int, *, was_read: bool) -> None:
        """A document of so many bytes is done; one that was not read took no time."""
        if self._left is not None:
            self._left = max(0, self._left - size)
        self._read += size if was_read else 0

    def show(self, documents: int, pages: int, added: int, failed: int) -> IndexProgress:
        """Draw the bar, and give the same as a value."""
        seconds = time.monotonic() - self._started
        left = None if not self._read or self._left is None else seconds * self._left / self._read
        if not self._bar.disable:
            if self._left is not None and self._read:
                self._bar.total = max(added, round(added * (1 + self._left / self._read)))
            self._bar.update(added - self._bar.n)
        return IndexProgress(documents, pages, added, failed, seconds, left)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
