"""One network on one device, fed by many threads: batch after batch, halved where memory does not suffice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from visrag_integrations.embedders.device_batches import batch_by_cost, run_halving
from visrag_integrations.errors import EmbedderError

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding

logger = logging.getLogger(__name__)

NO_LIMIT = 1 << 30  # more pages than memory holds: only the token budget counts

In = TypeVar("In")
Network = TypeVar("Network", bound=nn.Module)


class PendingCopy(NamedTuple):
    """A batch's vectors on their way from the device to the host.

    Attributes:
        vectors: Those of all items, one below the other.
        shapes: Of each item's part.
        arrived: Happens when they are there; None: they are.
    """

    vectors: Tensor
    shapes: list[torch.Size]
    arrived: torch.cuda.Event | None = None


class DeviceRunner(Generic[Network, In]):
    """A network and how much of it fits on its device at once; safe to call from many threads.

    A system's own runner says what an item costs, and in `launch` how a batch becomes one vector, or one matrix, each.
    """

    def __init__(self, model: Any, batch_size: int | None, token_budget: int | None) -> None:
        self.model: Network | None = model
        self.batch_size = batch_size or NO_LIMIT
        self._asked_budget = token_budget
        self.token_budget = token_budget or self._usual_budget(model.device)
        self._lock = threading.Lock()
        self._said = False

    def embed(self, items: Iterable[In]) -> list[Embedding]:
        """What `launch` gives for each item, in order; the device works on a batch while the last one is fetched."""
        embeddings: list[Embedding] = []
        last: PendingCopy | None = None
        for batch in batch_by_cost(items, self._cost, lambda: (self.batch_size, self.token_budget)):
            with self._lock, torch.inference_mode():
                copy = _start_copy(run_halving(batch, self.launch, self._shrink))
            if last is not None:  # waited for only now, while the device already has its next batch
                embeddings += _finish_copy(last)
            last = copy
        if last is not None:
            embeddings += _finish_copy(last)
        return embeddings

    def embed_sorted(self, items: Sequence[In]) -> list[Embedding]:
        """The same for items that are all at hand: equally long ones share a batch."""
        order = sorted(range(len(items)), key=lambda index: -self._length(items[index]))
        made = self.embed(items[index] for index in order)
        # Back in the order of the items: the vector of items[order[i]] is made[i].
        by_index = dict(zip(order, made, strict=True))
        return [by_index[index] for index in range(len(items))]

    def check_open(self) -> None:
        """Nothing, unless this was closed.

        Raises:
            EmbedderError: It was.
        """
        self.open_model()

    def move(self, device: torch.device) -> None:
        """Take the network to another device; batches are as large as is usual there, unless a size was asked for."""
        with self._lock:
            self.open_model().to(device)
            self.token_budget = self._asked_budget or self._usual_budget(device)

    def close(self) -> None:
        """Let go of the network and of its memory."""
        with self._lock:
            self.model = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _usual_budget(self, device: torch.device) -> int:
        """Tokens and patches of a batch, where nobody says it."""
        raise NotImplementedError

    def _cost(self, item: In) -> int:
        """Tokens and patches, which count towards a batch's budget."""
        raise NotImplementedError

    def _length(self, item: In) -> int:
        """Tokens of its sequence; those of about equal length share a batch where order is free."""
        raise NotImplementedError

    def launch(self, batch: list[In]) -> list[Tensor]:
        """One tensor an item, still on the device; nothing here waits for it."""
        raise NotImplementedError

    def open_model(self) -> Network:
        if self.model is None:
            raise EmbedderError("This embedder was closed. Load it again with load_embedder(...).")
        return self.model

    def _shrink(self, count: int) -> None:
        """Smaller batches from now on."""
        self.batch_size = min(self.batch_size, max(1, count // 2))
        if not self._said:
            logger.warning(
                "The device's memory does not hold a batch of %d; going on with batches of at most %d. "
                "Set batch_size or token_budget to avoid this.",
                count,
                self.batch_size,
            )
        self._said = True


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor to the device, without waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # only from pinned memory is a copy truly asynchronous


def _start_copy(rows: list[Tensor]) -> PendingCopy:
    """Copy a batch's vectors to the host, as soon as they are computed; does not wait for it."""
    shapes = [row.shape for row in rows]
    vectors = torch.cat([row.float().reshape(-1, row.shape[-1]) for row in rows])
    if vectors.device.type != "cuda":
        return PendingCopy(vectors.cpu(), shapes)
    host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
    host.copy_(vectors, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(vectors.device))
    return PendingCopy(host, shapes, arrived)


def _finish_copy(copy: PendingCopy) -> list[Embedding]:
    """Each item's part, once the vectors are there: (dimension,) or (n, dimension)."""
    if copy.arrived is not None:
        copy.arrived.synchronize()
    embeddings = []
    start = 0
    for shape in copy.shapes:
        end = start + shape.numel() // shape[-1]
        part = copy.vectors[start:end].reshape(shape)
        embeddings.append(part.numpy().copy())  # a copy, so that one kept vector does not keep the whole batch
        start = end
    return embeddings
