"""Feeding a device: batch by cost, halve what does not fit, group what is alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")


def batch_by_cost(
    items: Iterable[In], cost: Callable[[In], int], limit: Callable[[], tuple[int, int]]
) -> Iterator[list[In]]:
    """Neighbours together, up to a number of items and a sum of costs, which are asked for anew each time.

    An item that is beyond the sum by itself makes a batch of its own.
    """
    batch: list[In] = []
    total = 0
    for item in items:
        count, budget = limit()
        if batch and (len(batch) >= count or total + cost(item) > budget):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += cost(item)
    if batch:
        yield batch


def group_by_length(lengths: Sequence[int], budget: int, floor: int) -> list[list[int]]:
    """Indices in groups of about equal length, longest first.

    Args:
        lengths: Tokens of each sequence.
        budget: A group, padded, has at most so many tokens, unless it is one sequence.
        floor: A group with fewer tokens takes shorter sequences too: padding is cheaper than a run of its own.

    >>> group_by_length([10, 99, 100, 9], budget=1000, floor=1)
    [[2, 1], [0, 3]]
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups:
            longest = lengths[groups[-1][0]]
            size = len(groups[-1])
            # At most a fifth of a sequence is padding, unless the group is so small that padding costs nothing.
            close = lengths[index] >= 0.8 * longest or longest * size < floor
            if close and longest * (size + 1) <= budget:
                groups[-1].append(index)
                continue
        groups.append([index])
    return groups


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory is full."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    # cuBLAS and other libraries below torch have no class of their own for it.
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


def run_halving(batch: list[In], run: Callable[[list[In]], list[Out]], shrink: Callable[[int], None]) -> list[Out]:
    """`run` of a batch; where its memory does not suffice, of its halves, and of theirs.

    Args:
        batch: What to run.
        run: Gives one result an item, in order.
        shrink: Told how many items were too many, so that later batches are smaller from the start.
    """
    try:
        return run(batch)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(batch) == 1:
            raise
    shrink(len(batch))  # outside the except block, so that the error's frames do not keep the memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return [*run_halving(batch[:half], run, shrink), *run_halving(batch[half:], run, shrink)]
