"""Gradients of a large batch with the memory of a small one: GradCache (https://arxiv.org/abs/2101.06983).

The loss of a contrastive batch needs the vectors of all pages at once, but the network's inner values, which fill the
memory, are needed of one micro-batch only. So there are two passes:

1. Every micro-batch is embedded without keeping inner values. The loss of all vectors gives a gradient for each vector.
2. Every micro-batch is embedded again, now with inner values, and its vectors' gradients are sent back through it.

The sum over micro-batches is the gradient of the whole batch, at the cost of one more forward pass. Both passes must
draw the same random numbers (dropout), so the state of the generators is kept from the first for the second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

MicroBatch = TypeVar("MicroBatch", covariant=True)


class MicroBatches(Protocol[MicroBatch]):
    """A list of parts, or anything like it that makes them when they are taken."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[MicroBatch]: ...


Vectors = tuple[Tensor, ...]
"""What a micro-batch is embedded to: for example queries `(b, D)` and pages `(b * n, D)`."""


@dataclass(frozen=True)
class RandomState:
    """Where the random number generators of the processor and of the GPUs stand."""

    processor: Tensor
    devices: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> RandomState:
        """The state at this moment."""
        devices = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else ()
        return cls(torch.get_rng_state(), devices)

    def restore(self) -> None:
        """Go back to this state."""
        torch.set_rng_state(self.processor)
        if self.devices:
            torch.cuda.set_rng_state_all(list(self.devices))


def backward_cached(
    micro_batches: MicroBatches[MicroBatch],
    embed: Callable[[MicroBatch], Vectors],
    loss_of: Callable[[list[Vectors]], Tensor],
    *,
    backward: Callable[[Tensor], object] = torch.Tensor.backward,
    no_sync: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Tensor:
    """Add the gradient of a batch's loss to the network's weights, one micro-batch at a time.

    Args:
        micro_batches: The batch in parts, at least one; read twice.
        embed: One part through the network.
        loss_of: The vectors of all parts, in order, to the loss of the whole batch (a scalar).
        backward: Sends a scalar back; a trainer's own, where it scales losses.
        no_sync: Entered for every part but the last, so that DDP exchanges gradients once a batch.

    Returns:
        The loss, without history.
    """
    cached: list[Vectors] = []
    states: list[RandomState] = []
    with torch.no_grad():
        for part in micro_batches:
            states.append(RandomState.now())
            cached.append(embed(part))
    after = RandomState.now()

    # The vectors are leaves now: the loss's gradient stops at them, and is kept there.
    leaves: list[Vectors] = []
    for vectors in cached:
        leaves.append(tuple(each.detach().requires_grad_() for each in vectors))
    loss = loss_of(leaves)
    loss.backward()  # type: ignore[no-untyped-call]

    last = len(micro_batches) - 1
    for index, part in enumerate(micro_batches):
        states[index].restore()
        with contextlib.nullcontext() if index == last else no_sync():
            again = embed(part)
            backward(_towards(again, leaves[index]))
    after.restore()  # what is drawn next does not depend on how often the batch was embedded
    return loss.detach()


def _towards(vectors: Vectors, leaves: Vectors) -> Tensor:
    """A scalar whose gradient at each vector is the one that the loss left at its leaf."""
    total = vectors[0].new_zeros((), dtype=torch.float32)
    for vector, leaf in zip(vectors, leaves, strict=True):
        if leaf.grad is not None:
            total = total + (vector.float() * leaf.grad.float()).sum()
    return total
