"""`Writer`: adds embedded batches to the store and settles documents, in order, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.errors import StoreError, VisRAGError
from visrag_integrations.ingestion.account import Account
from visrag_integrations.ingestion.sources import Ended
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page

_WAITING = 1
"""Batches that may wait while another one is written; drawn pixels are five megabytes a page."""


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
        account: Is told of every page and document.
        flying: content key -> vector of what is not written yet; written keys are taken out.
    """

    def __init__(self, store: QdrantPageStore, account: Account, flying: dict[str, Any]) -> None:
        self._store, self._account, self._flying = store, account, flying
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
        added = add_pages(self._store, batch.pages, batch.vectors, self._account.fail_page)
        self._account.documents.added_pages(added)
        for key in batch.keys:
            self._flying.pop(key, None)
        for ended in batch.ended:
            self._account.settle(ended)


def add_pages(
    store: QdrantPageStore, pages: Sequence[Page], vectors: Sequence[Any], on_failure: Callable[[Page, Exception], None]
) -> list[Page]:
    """Add what the store takes of these pages; those it refuses are told of. Gives the pages that are in it now.

    Raises:
        StoreError: The store failed.
    """
    if not pages:
        return []
    try:
        store.add_pages(pages, vectors)
    except StoreError:
        raise
    except VisRAGError as err:  # one of the pages is at fault: the others are kept
        if len(pages) == 1:
            on_failure(pages[0], err)
            return []
        alone = (add_pages(store, [page], [vector], on_failure) for page, vector in zip(pages, vectors, strict=True))
        return [page for added in alone for page in added]
    return list(pages)
