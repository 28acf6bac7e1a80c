"""`WriterThread`: adds embedded batches to the store and settles documents, in order, beside the embedding."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visrag_integrations.indexing import EmbeddedBatch, add_pages
from visrag_integrations.ingestion.reporter import RunReporter
from visrag_integrations.ingestion.sources import EndedDocument
from visrag_integrations.store import QdrantPageStore

# One batch may wait while another one is written: enough that neither side stands still between two batches. Each more
# costs memory: the drawn pixels of a page are five megabytes.
_MAX_WAITING_BATCHES = 1


@dataclass(frozen=True)
class WriteJob:
    """A batch to store, and the documents that end with it."""

    batch: EmbeddedBatch
    ended: Sequence[EndedDocument] = ()


class WriterThread:
    """Takes batches from the embedding thread; what it has written is durable.

    Args:
        store: Where pages go.
        reporter: Hears of every page and document.
        in_flight: content key -> vector of what is not written yet; the keys of what is written are taken out.
    """

    def __init__(self, store: QdrantPageStore, reporter: RunReporter, in_flight: dict[str, Any]) -> None:
        self._store, self._reporter, self._in_flight = store, reporter, in_flight
        self._queue: queue.Queue[WriteJob | None] = queue.Queue(_MAX_WAITING_BATCHES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="visrag-writer", daemon=True)
        self._thread.start()

    def put(self, job: WriteJob) -> None:
        """Hand over a batch; waits while the store is behind.

        Raises:
            StoreError: The store failed, now or before.
        """
        self._queue.put(job)
        self._raise()

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            StoreError: The store failed.
        """
        self.stop()
        self._raise()

    def stop(self) -> None:
        """Write what was handed over, and end."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            # After an error the queue is still emptied: the embedding thread would wait in `put` otherwise.
            if self._error is not None:
                continue
            try:
                self._write(job)
            except BaseException as err:  # noqa: BLE001  the caller's thread raises it
                self._error = err

    def _write(self, job: WriteJob) -> None:
        added = add_pages(self._store, job.batch.pages, job.batch.vectors, self._reporter.fail_page)
        self._reporter.documents.added_pages(added)
        # Only now: until the store can be asked, equal pages find the vector here.
        for key in job.batch.keys:
            self._in_flight.pop(key, None)
        for ended in job.ended:
            self._reporter.settle(ended)
