"""What the workers of a cluster share: the store (where each can open it), and the run's register."""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from visrag_integrations.errors import StoreError
from visrag_integrations.ingestion.documents import stored_pages
from visrag_integrations.ingestion.retry import Retry, RetryingStoreClient
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.refusals import may_pass
from visrag_integrations.types import Page


class StoredPagesLookup(Protocol):
    """Knows how many pages of a document were stored, and which; None for all."""

    def __call__(self, doc_id: str) -> tuple[int, Collection[int] | None]: ...


class ServerStore:
    """A store on a server, opened where it is first used, whose requests are tried again."""

    def __init__(self, store: QdrantPageStore, retry: Retry) -> None:
        self._store, self._retry = pickle.dumps(store), retry

    def __getstate__(self) -> tuple[bytes, Retry]:
        return self._store, self._retry

    def __setstate__(self, state: tuple[bytes, Retry]) -> None:
        self._store, self._retry = state

    @functools.cached_property
    def store(self) -> QdrantPageStore:
        """The store, as it is seen from this process."""
        opened = self._retry.call(self._open)
        # Entered and never left: the retries hold for as long as this object lives.
        self._retries = contextlib.ExitStack()
        self._retries.enter_context(opened.client_through(functools.partial(RetryingStoreClient, retry=self._retry)))
        return opened

    def _open(self) -> QdrantPageStore:
        try:
            opened: QdrantPageStore = pickle.loads(self._store)
        except StoreError as err:
            # The cause tells whether trying again may help; the store's own error hides it from `Retry`.
            cause = err.__cause__
            if isinstance(cause, Exception) and may_pass(cause):
                raise cause from err
            raise
        return opened

    def embeddings_of_equals(self, pages: Sequence[Page]) -> dict[str, Any]:
        """Vectors of equal pages, by `content_key`."""
        return dict(self.store.embeddings_of_equals(pages))

    def __call__(self, doc_id: str) -> tuple[int, Collection[int] | None]:
        """What of a document is stored."""
        return stored_pages(self.store, doc_id)


class Register:
    """What the workers of a run must agree on; there is one.

    It says which pages of a document need not be read: the same to the same task, also when that is run again. And it
    counts how often a piece of work was begun and never ended, because it crashed its process.
    """

    def __init__(self, stored: StoredPagesLookup) -> None:
        self._stored = stored
        self._tasks: dict[str, str] = {}
        self._answers: dict[str, tuple[int, Collection[int] | None]] = {}
        self._begun: Counter[str] = Counter()

    def ask(self, doc_id: str, task: str) -> tuple[int, Collection[int] | None, bool]:
        """Pages stored before the run, their numbers (None: read nothing), and whether another task reads it."""
        # Remembered, and not asked again: a task that is run again after a crash must get the same answer, although
        # some of the document's pages are stored by then. The first task that asks is the one that reads it.
        if doc_id not in self._answers:
            self._answers[doc_id] = self._stored(doc_id)
            self._tasks[doc_id] = task
        before, numbers = self._answers[doc_id]
        if self._tasks[doc_id] == task:
            return before, numbers, False
        return before, None, numbers is not None

    def begin(self, work: str) -> int:
        """How often this work was begun and not ended: more than once where it crashed the process that did it."""
        self._begun[work] += 1
        return self._begun[work]

    def end(self, work: str) -> None:
        """The work is done."""
        del self._begun[work]
