"""One network on one device, fed by many threads: batch after batch, halved where memory does not suffice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from visrag_integrations.embedders.device_batches import batches, run_halving
from visrag_integrations.errors import EmbedderError

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding

logger = logging.getLogger(__name__)

NO_LIMIT = 1 << 30


In = TypeVar("In")
Network = TypeVar("Network", bound=nn.Module)


class Landing(NamedTuple):
    """Vectors on their way from the device to the host, how they fall apart, and the event that says they are there."""

    vectors: Tensor
    shapes: list[torch.Size]
    arrived: torch.cuda.Event | None = None


class DeviceRunner(Generic[Network, In]):
    """A network and how much of it fits on its device at once; safe to call from many threads.

    A system's own runner says what an item costs, and in `_launch` how a batch becomes one vector, or one matrix, each.
    """

    def __init__(self, model: Network, batch_size: int | None, token_budget: int) -> None:
        self.model: Network | None = model
        self.batch_size = batch_size or NO_LIMIT
        self.token_budget = token_budget
        self._lock = threading.Lock()
        self._said = False

    def embed(self, items: Iterable[In]) -> list[Embedding]:
        """What `_launch` gives for each item, in order; the device works on a batch while the last one is fetched."""
        embeddings: list[Embedding] = []
        launched: Landing | None = None
        for batch in batches(items, self._cost, lambda: (self.batch_size, self.token_budget)):
            with self._lock, torch.inference_mode():
                landing = _take_off(run_halving(batch, self._launch, self._shrink))
            embeddings += _wait_for(launched)
            launched = landing
        return embeddings + _wait_for(launched)

    def embed_sorted(self, items: Sequence[In]) -> list[Embedding]:
        """The same for items that are all at hand: equally long ones share a batch."""
        order = sorted(range(len(items)), key=lambda index: -self._length(items[index]))
        embeddings = dict(zip(order, self.embed(items[index] for index in order), strict=True))
        return [embeddings[index] for index in range(len(items))]

    def check_open(self) -> None:
        """Nothing, unless this was closed.

        Raises:
            EmbedderError: It was.
        """
        self._open_model()

    def move(self, device: torch.device) -> None:
        """Take the network to another device."""
        with self._lock:
            self._open_model().to(device)

    def close(self) -> None:
        """Let go of the network and of its memory."""
        with self._lock:
            self.model = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _cost(self, item: In) -> int:
        """Tokens and patches, which count towards a batch's budget."""
        raise NotImplementedError

    def _length(self, item: In) -> int:
        """Tokens of its sequence; those of about equal length share a batch where order is free."""
        raise NotImplementedError

    def _launch(self, batch: list[In]) -> list[Tensor]:
        """One tensor an item, still on the device; nothing here waits for it."""
        raise NotImplementedError

    def _open_model(self) -> Network:
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
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _take_off(rows: list[Tensor]) -> Landing:
    """Start the way of a batch's vectors to the host, right behind their computation."""
    shapes = [row.shape for row in rows]
    vectors = torch.cat([row.float().reshape(-1, row.shape[-1]) for row in rows])
    if vectors.device.type != "cuda":
        return Landing(vectors.cpu(), shapes)
    host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
    host.copy_(vectors, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(vectors.device))
    return Landing(host, shapes, arrived)


def _wait_for(landing: Landing | None) -> list[Embedding]:
    if landing is None:
        return []
    if landing.arrived is not None:
        landing.arrived.synchronize()
    counts = [shape.numel() // shape[-1] for shape in landing.shapes]
    parts = torch.split(landing.vectors, counts)
    return [part.reshape(shape).numpy().copy() for part, shape in zip(parts, landing.shapes, strict=True)]
