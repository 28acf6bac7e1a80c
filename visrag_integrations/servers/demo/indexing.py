"""Indexing in the background: a thread for each knowledge base, one of them at work, and how far it is as one value."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from visrag_integrations.errors import VisRAGError
from visrag_integrations.ingestion import IndexProgress, IndexReport
from visrag_integrations.types import Failure

logger = logging.getLogger(__name__)

# Seconds between two looks at whether to stop, while another knowledge base is indexed: who closes the demo or deletes
# a knowledge base waits for so long.
_PATIENCE = 0.2

Index = Callable[[Sequence[Path | str], Callable[[IndexProgress], None], Callable[[Failure], None]], IndexReport]
"""Indexes files and web addresses, and reports progress and failures as they come."""


@dataclass(frozen=True)
class IndexingState:
    """How far the indexing of one knowledge base is.

    Attributes:
        running: Whether it goes on.
        progress: Of the run at hand, or the last one.
        failures: What could not be indexed since the indexer was last idle.
        error: Why a whole run failed; "" when none did.
    """

    running: bool = False
    progress: IndexProgress = field(default_factory=IndexProgress)
    failures: tuple[Failure, ...] = ()
    error: str = ""


class Indexer:
    """Indexes the files it is given, in a thread that ends when nothing waits; files may come at any time.

    Args:
        index: Does one run.
        after: Called with the failures of a run once it is over.
        turn: Held while a run is at work; a run takes every core, so that several at once would only be slower.
    """

    def __init__(
        self, index: Index, after: Callable[[Sequence[Failure]], None], turn: threading.Lock | None = None
    ) -> None:
        self._index, self._after, self._turn = index, after, turn or threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[Path | str] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self.state = IndexingState()

    def put(self, paths: Sequence[Path | str], failures: Sequence[Failure] = ()) -> None:
        """Index these too; `failures` are shown with those to come."""
        with self._guard:
            # Failures are shown until something new comes to an idle indexer.
            if self._thread is None:
                self.state = IndexingState()
            self.state = replace(self.state, failures=(*self.state.failures, *failures))
            self._waiting += paths
            if self._thread is None and self._waiting and not self._stopped.is_set():
                self.state = replace(self.state, running=True)
                self._thread = threading.Thread(target=self._run, name="visrag-demo-indexing", daemon=True)
                self._thread.start()

    def forget(self, names: Collection[str] | None = None) -> None:
        """Show what failed no longer: all of it, or what these documents did."""
        with self._guard:
            left: list[Failure] = []
            if names is not None:
                left = [failure for failure in self.state.failures if failure.source not in names]
            error = self.state.error
            if names is None and not self.state.running:
                error = ""
            self.state = replace(self.state, failures=tuple(left), error=error)

    def stop(self, timeout: float) -> bool:
        """End after the batch at hand; True when it ended in time. What was indexed is kept."""
        self._stopped.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        while paths := self._next():
            failed: list[Failure] = []
            if not self._wait_for_turn():
                continue
            try:
                self._index(paths, self._progress, functools.partial(self._failed, failed))
            except _Stopped:
                logger.info("indexing stopped; it goes on when the knowledge base is opened again")
            except VisRAGError as err:
                self._update(error=str(err))
            except Exception:
                logger.exception("indexing failed")
                self._update(error="Something went wrong while indexing; the log of the server says what.")
            else:
                self._after(failed)
            finally:
                self._turn.release()

    def _wait_for_turn(self) -> bool:
        """True once nobody else is at work; False when this one is to stop."""
        while not self._turn.acquire(timeout=_PATIENCE):
            if self._stopped.is_set():
                return False
        return True

    def _next(self) -> list[Path | str]:
        with self._guard:
            paths, self._waiting = self._waiting, []
            # Under the same guard as `put`: nothing can be added between this look and the thread's end.
            if not paths or self._stopped.is_set():
                self.state = replace(self.state, running=False)
                self._thread = None
                return []
            return paths

    def _progress(self, progress: IndexProgress) -> None:
        if self._stopped.is_set():
            raise _Stopped
        self._update(progress=progress)

    def _failed(self, failed: list[Failure], failure: Failure) -> None:
        failed.append(failure)
        self._update(failures=(*self.state.failures, failure))

    def _update(self, **changes: object) -> None:
        with self._guard:
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]


class _Stopped(Exception):
    """Ends a run from within."""
