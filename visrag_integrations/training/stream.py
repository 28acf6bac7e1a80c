"""Which pairs each step sees, and the threads that make them ready while the device works on those before.

Everything follows from the seed and the step's number, so a run that was stopped sees the same pairs when it goes on.
A broken row is left out: the next good one, by its number in the data, takes its place in the batch.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visrag_integrations import images
from visrag_integrations.errors import DatasetError, MissingExtraError, SettingError, VisRAGError
from visrag_integrations.training.examples import Order, PageSource, Pairs, TextOfPage

AHEAD = 4  # pairs a thread that are made ready before they are asked for: a slow page then stops nobody


@dataclass(frozen=True)
class ReadyPair:
    """An example as the network takes it.

    Attributes:
        query: The query.
        pages: The right page first.
        page_ids: Equal where pages are equal, wherever they come from.
        where: Where the example stands.
    """

    query: Any
    pages: tuple[Any, ...]
    page_ids: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class MicroBatch:
    """Pairs that go through the network together; their queries first, then their pages."""

    pairs: Sequence[ReadyPair]

    @property
    def queries(self) -> list[Any]:
        """One a pair."""
        return [pair.query for pair in self.pairs]

    @property
    def pages(self) -> list[Any]:
        """The first pair's pages, then the second's."""
        pages: list[Any] = []
        for pair in self.pairs:
            pages += pair.pages
        return pages


@dataclass(frozen=True)
class PairPreparer:
    """How an embedder makes items: of a query, of a page's picture, and of a text that stands for a page."""

    query: Callable[[str], Any]
    picture: Callable[[Any], Any]
    text: Callable[[str], Any] | None = None

    def ready(self, pairs: Pairs, index: int) -> ReadyPair:
        """One example, its pictures opened and cut."""
        example = pairs.example(index)
        made: list[Any] = []
        ids: list[str] = []
        for source in example.pages:
            item, page_id = self._page(source, example.where)
            made.append(item)
            ids.append(page_id)
        return ReadyPair(self.query(example.query), tuple(made), tuple(ids), example.where)

    def _page(self, source: PageSource, where: str) -> tuple[Any, str]:
        if isinstance(source, TextOfPage):
            if self.text is None:
                raise DatasetError(where, "it has a text in place of a page, and this network's pages are pictures.")
            return self.text(source.text), "text:" + _digest(source.text.encode("utf-8", "replace"))
        # Down to bytes or pixels, which tell whether two pages are the same one.
        if callable(source):
            source = source()
        if isinstance(source, Path):
            source = source.read_bytes()
        with images.open_picture(source) as image:
            page_id = _digest(source) if isinstance(source, bytes) else _digest(image.tobytes())
            return self.picture(image), page_id


@dataclass
class StepBatch:
    """This device's pairs of one step, as a sequence of micro-batches that are waited for when they are taken."""

    step: int
    submit: Callable[[int], Future[ReadyPair]]
    numbers: list[int]
    micro_batch: int
    ahead: int
    _futures: list[Future[ReadyPair]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start(self.ahead)

    def start(self, count: int) -> None:
        """Let the threads begin with the first `count` pairs."""
        while len(self._futures) < min(count, len(self.numbers)):
            self._futures.append(self.submit(self.numbers[len(self._futures)]))

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.micro_batch)

    def __getitem__(self, place: int) -> MicroBatch:
        first, end = place * self.micro_batch, (place + 1) * self.micro_batch
        if not 0 <= first < len(self.numbers):
            raise IndexError(place)
        # Kept, because GradCache takes each micro-batch twice, and to open and cut a page again takes longer than its
        # 6 MB of pixels are worth.
        self.start(end + self.ahead)
        return MicroBatch([future.result() for future in self._futures[first:end]])

    def __iter__(self) -> Iterator[MicroBatch]:
        for place in range(len(self)):
            yield self[place]

    def ready(self) -> list[ReadyPair]:
        """All pairs; waits for them."""
        self.start(len(self.numbers))
        return [future.result() for future in self._futures]


class PairStream:
    """The steps of a run, each a batch of pairs of which this device gets its share.

    Args:
        pairs: The data.
        preparer: What makes items.
        batch_size: Pairs a step, over all devices.
        micro_batch: Pairs in the network at once.
        seed: Of the order.
        rank: Which device this is.
        world: How many there are.
        workers: Threads.
    """

    def __init__(
        self,
        pairs: Pairs,
        preparer: PairPreparer,
        *,
        batch_size: int,
        micro_batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
    ) -> None:
        if batch_size % world:
            raise SettingError(f"batch_size is {batch_size} and there are {world} devices; it must be a multiple.")
        if batch_size > len(pairs):
            raise SettingError(
                f"batch_size is {batch_size} and there are {len(pairs)} pairs. Say batch_size={len(pairs)} or less."
            )
        if batch_size == 1 and not pairs.negatives:
            raise SettingError("batch_size is 1: a query has nothing to tell its page from. Say 2 or more.")
        self.pairs, self.preparer = pairs, preparer
        self.batch_size, self.micro_batch, self.seed = batch_size, micro_batch, seed
        self.rank, self.world, self.workers = rank, world, workers
        self.broken: dict[str, str] = {}
        """Rows that were left out, and why."""
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pairs")
        self._next: StepBatch | None = None
        self._order = functools.lru_cache(maxsize=2)(self._make_order)

    def numbers(self, step: int) -> list[int]:
        """The pairs of this device's share of a step (from 0), by their numbers in the data."""
        # What does not fill a batch is left out of this epoch; the next one is in another order.
        # 11 pairs in batches of 4: steps 0 and 1 are epoch 0, steps 2 and 3 epoch 1.
        in_epoch = len(self.pairs) // self.batch_size
        epoch, place = divmod(step, in_epoch)
        share = self.batch_size // self.world
        first = place * self.batch_size + self.rank * share
        return [int(number) for number in self._order(epoch)[first : first + share]]

    def batch(self, step: int) -> StepBatch:
        """The pairs of a step; the first ones of the next step are begun with too."""
        batch = self._next
        if batch is None or batch.step != step:
            batch = self._batch(step)
        # Its threads begin while the device is busy with this step.
        self._next = self._batch(step + 1)
        return batch

    def close(self) -> None:
        """End the threads."""
        self._next = None
        self._pool.shutdown(cancel_futures=True)

    def _batch(self, step: int) -> StepBatch:
        ahead = AHEAD * self.workers
        return StepBatch(step, self._submit, self.numbers(step), self.micro_batch, ahead)

    def _submit(self, number: int) -> Future[ReadyPair]:
        return self._pool.submit(self._ready, number)

    def _ready(self, number: int) -> ReadyPair:
        """The pair of that number, or the next good one."""
        # By its number in the data and not in the order: whoever resumes or shares the batch finds the same one.
        reason: Exception | None = None
        for offset in range(len(self.pairs)):
            try:
                return self.preparer.ready(self.pairs, (number + offset) % len(self.pairs))
            except MissingExtraError:
                raise
            except (VisRAGError, OSError) as err:
                reason = err
                self._note((number + offset) % len(self.pairs), err)
        raise DatasetError(self.pairs.name, f"has no pair that can be read; the last one: {reason}") from reason

    def _note(self, number: int, error: Exception) -> None:
        source, why = f"pair {number + 1}", str(error)
        if isinstance(error, DatasetError):
            source, why = error.source, error.reason
        else:
            source = _where(self.pairs, number) or source
        with self._lock:
            self.broken.setdefault(source, why)

    def _make_order(self, epoch: int) -> Order:
        return self.pairs.order(self.seed, epoch)


def _where(pairs: Pairs, number: int) -> str:
    try:
        return pairs.example(number).where
    except (VisRAGError, OSError):
        return ""


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
