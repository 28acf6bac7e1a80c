"""`Writer`: adds embedded batches to the store and settles documents, in order, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.errors import StoreError, VisRAGError
from visrag_integrations.ingestion.documents import Documents
from visrag_integrations.readers.pool import DocumentDone
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page

_WAITING = 1
"""Batches that may wait while another one is written; drawn pixels are five megabytes a page."""


@dataclass(frozen=True)
class Ended:
    """A document whose pages are all in this batch or before it."""

    done: DocumentDone
    changed: bool = False


@dataclass(frozen=True)
class Batch:
    """Pages with their vectors, and the documents that end with them."""

    pages: Sequence[Page] = ()
    vectors: Sequence[Any] = ()
    keys: Sequence[str] = ()
    ended: Sequence[Ended] = field(default=())


class Writer:
    """Takes batches from the embedding thread; what it has written is durable.

    Args:
        store: Where pages go.
        documents: Is told of every page and document.
        on_failure: Is told of a page that the store refuses.
        flying: content key -> vector of what is not written yet; written keys are taken out.
    """

    def __init__(
        self,
        store: QdrantPageStore,
        documents: Documents,
        on_failure: Callable[[Page, Exception], None],
        flying: dict[str, Any],
    ) -> None:
        self._store, self._documents = store, documents
        self._fail, self._flying = on_failure, flying
        self._queue: queue.Queue[Batch | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="visrag-writer", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Hand over a batch; waits while the store is behind.

        Raises:
            StoreError: The store failed, now or before.
        """
        self._queue.put(batch)
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
        while (batch := self._queue.get()) is not None:
            if self._error is not None:
                continue  # nobody waits for ever
            try:
                self._write(batch)
            except BaseException as err:  # noqa: BLE001  the caller's thread raises it
                self._error = err

    def _write(self, batch: Batch) -> None:
        if batch.pages:
            self._add(batch.pages, batch.vectors)
        for key in batch.keys:
            self._flying.pop(key, None)
        for ended in batch.ended:
            (self._documents.discard if ended.changed else self._documents.settle)(ended.done)

    def _add(self, pages: Sequence[Page], vectors: Sequence[Any]) -> None:
        try:
            self._store.add_pages(pages, vectors)
        except StoreError:
            raise
        except VisRAGError as err:  # one of the pages is at fault: the others are kept
            if len(pages) == 1:
                self._fail(pages[0], err)
                return
            for page, vector in zip(pages, vectors, strict=True):
                self._add([page], [vector])
            return
        self._documents.added_pages(pages)
