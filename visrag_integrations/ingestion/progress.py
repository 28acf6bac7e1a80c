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
        seconds_left: Estimated from the sizes of the files; None while that cannot be known.
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
        if self.seconds <= 0:
            return 0.0
        return self.added / self.seconds


class ProgressBar:
    """A tqdm bar of pages; their number is estimated from the bytes that were read and those to come."""

    def __init__(self, total_bytes: int | None, shown: bool | None) -> None:
        # `disable=None` is tqdm's own word for "only where standard error is a terminal".
        hidden = None if shown is None else not shown
        self._bar: Any = tqdm(unit="page", desc="Indexing", disable=hidden)
        self._started = time.monotonic()
        self._left = total_bytes
        self._read = 0

    def ended(self, size: int, *, was_read: bool) -> None:
        """A document of so many bytes is done; one that was not read took no time."""
        if self._left is not None:
            self._left = max(0, self._left - size)
        if was_read:
            self._read += size

    def show(self, documents: int, pages: int, added: int, failed: int) -> IndexProgress:
        """Draw the bar, and give the same as a value."""
        seconds = time.monotonic() - self._started
        # Nothing can be estimated before the first document is read, or where the sizes are not known.
        if self._left is None or not self._read:
            self._draw(added)
            return IndexProgress(documents, pages, added, failed, seconds)
        left_to_read = self._left / self._read  # 0.5: half as much is to come as was read
        self._draw(added, round(added * (1 + left_to_read)))
        return IndexProgress(documents, pages, added, failed, seconds, seconds * left_to_read)

    def _draw(self, added: int, total: int | None = None) -> None:
        if self._bar.disable:
            return
        if total is not None:
            self._bar.total = max(added, total)
        self._bar.update(added - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
