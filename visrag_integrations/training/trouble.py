"""What is said when a step cannot be taken: which rows made the loss no number, and what needs less memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from visrag_integrations.errors import TrainingError
from visrag_integrations.training.gradcache import Vectors
from visrag_integrations.training.stream import ReadyPair

ROWS_SHOWN = 5  # a whole batch has 128; a few show what they have in common


@contextlib.contextmanager
def memory_trouble(micro_batch: int, what: str = "pairs") -> Iterator[None]:
    """A block that says plainly what to do where memory does not suffice.

    Raises:
        TrainingError: It does not.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as err:
        raise TrainingError(too_little_memory(micro_batch, what)) from err
    except RuntimeError as err:
        if "not enough memory" in str(err) or "out of memory" in str(err):  # the processor's allocator
            raise TrainingError(too_little_memory(micro_batch, what)) from err
        raise


def too_little_memory(micro_batch: int, what: str = "pairs") -> str:
    """What to try, in the order of what it costs: nothing, a third of the speed, another kind of training."""
    advice: list[str] = []
    if micro_batch > 1:
        advice.append(f"micro_batch={micro_batch // 2}")
    advice += ['arguments={"gradient_checkpointing": True}', "lora=True"]
    return (
        f"Memory does not hold a micro-batch of {micro_batch} {what}. Try {' or '.join(advice)}: micro_batch changes "
        "no number of the result. Run again with the same output to go on from the last checkpoint."
    )


def not_finite(what: str, step: int, pairs: Sequence[ReadyPair], parts: Sequence[Vectors]) -> str:
    """Which rows to look at: those whose own vectors are no numbers; where all are fine, all rows of the step.

    Args:
        what: "The loss" or "The gradient".
        step: From 1.
        pairs: Of the step.
        parts: Their vectors, as far as they are known.
    """
    rows = _bad_rows(pairs, parts)
    if not rows:
        rows = [pair.where for pair in pairs]
    more = ""
    if len(rows) > ROWS_SHOWN:
        more = f" and {len(rows) - ROWS_SHOWN} more"
    return (
        f"{what} of step {step} is not finite, so training stopped; the last checkpoint is good. The step's data: "
        f"{'; '.join(rows[:ROWS_SHOWN])}{more}. Look at these rows, or lower lr."
    )


def _bad_rows(pairs: Sequence[ReadyPair], parts: Sequence[Vectors]) -> list[str]:
    """The pairs with a query or page whose vector is no number."""
    bad: list[str] = []
    place = 0
    for queries, pages in parts:
        per_query = len(pages) // len(queries)
        for index in range(len(queries)):
            own_pages = pages[index * per_query : (index + 1) * per_query]
            if not bool(torch.isfinite(queries[index]).all() and torch.isfinite(own_pages).all()):
                bad.append(pairs[place].where)
            place += 1
    return bad
