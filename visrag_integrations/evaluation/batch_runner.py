"""Questions (or pages) through a model in batches: one that fails does not stop the others, and five in a row do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from visrag_integrations.errors import MissingExtraError, SettingError, StoreError, UnknownNameError

Item = TypeVar("Item")
Result = TypeVar("Result")

# After so many failures in a row it is the model or the server, not the questions. One hard group of questions may
# well have two or three; with a larger number a dead server costs as many timeouts before anybody hears of it.
_MAX_FAILURES_IN_A_ROW = 5

ERRORS_THAT_END_A_RUN = (SettingError, StoreError, MissingExtraError, UnknownNameError)
"""Errors that the next question would meet too."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What came of one item: results (of which there is one) or an error."""

    item: Item
    results: tuple[Result, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True)
class BatchRunner(Generic[Item, Result]):
    """Runs items in batches.

    Attributes:
        run: What is called with a batch; gives one result each, in order.
        on_done: Called with each batch's items and results, in the calling thread.
        on_failure: Called with each item that failed even when it was alone, in the calling thread.
        batch_size: Items in a batch.
        workers: Batches that run at the same time; with 1 they run in the calling thread.
    """

    run: Callable[[list[Item]], Sequence[Result]]
    on_done: Callable[[list[tuple[Item, Result]]], None]
    on_failure: Callable[[Item, Exception], None]
    batch_size: int = 8
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(f"{name} is {value!r}; it must be a whole number from 1.")

    def all(self, items: Iterable[Item]) -> None:
        """Run everything; a batch that fails is tried one by one, and one item's failure does not stop the others.

        Raises:
            Exception: The last error, after five failures in a row; or at once one that every item would meet.
        """
        failures_in_a_row = 0
        for outcomes in self._outcomes(_batches(items, self.batch_size)):
            done: list[tuple[Item, Result]] = []
            for outcome in outcomes:
                for result in outcome.results:
                    done.append((outcome.item, result))
            # Before the failures are reported, one of which may end the run: what was paid for is kept.
            self.on_done(done)
            for outcome in outcomes:
                if outcome.error is None:
                    failures_in_a_row = 0
                    continue
                failures_in_a_row += 1
                self.on_failure(outcome.item, outcome.error)
                if failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
                    raise outcome.error

    def _outcomes(self, batches: Iterator[list[Item]]) -> Iterator[list[Outcome[Item, Result]]]:
        if self.workers == 1:
            yield from map(self._try, batches)
            return
        with ThreadPoolExecutor(self.workers, "visrag-evaluation") as pool:
            running: set[Future[list[Outcome[Item, Result]]]] = set()
            try:
                while True:
                    # Only as many as can run now are taken, so that items that are read lazily stay unread.
                    for batch in islice(batches, self.workers - len(running)):
                        running.add(pool.submit(self._try, batch))
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _try(self, batch: list[Item]) -> list[Outcome[Item, Result]]:
        try:
            results = self.run(batch)
            if len(results) != len(batch):
                raise SettingError(
                    f"{len(results)} results came back for a batch of {len(batch)}; there must be one each."
                )
        except ERRORS_THAT_END_A_RUN:
            raise
        except Exception as err:  # noqa: BLE001  embedders and generators of all kinds raise anything
            if len(batch) == 1:
                return [Outcome(batch[0], error=err)]
            return self._one_by_one(batch)
        return [Outcome(item, (result,)) for item, result in zip(batch, results, strict=True)]

    def _one_by_one(self, batch: list[Item]) -> list[Outcome[Item, Result]]:
        """Each alone; what comes after too many failures in a row is not tried, as `all` ends there."""
        outcomes: list[Outcome[Item, Result]] = []
        failures_in_a_row = 0
        for item in batch:
            (outcome,) = self._try([item])
            outcomes.append(outcome)
            if outcome.error is None:
                failures_in_a_row = 0
                continue
            failures_in_a_row += 1
            if failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
                break
        return outcomes


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
