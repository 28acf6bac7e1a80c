"""What a retriever is trained by: each query should score its own page above all other pages of the batch.

The loss of VisRAG-Ret (https://arxiv.org/abs/2410.10594; `src/openmatch/loss.py` of its repository): cross-entropy over
the scores of a query with every page of the batch, over all devices, divided by a temperature.

Letters: B queries on this device, n pages a query, D numbers of a vector, W devices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from visrag_integrations.errors import SettingError

PageIds = Sequence[str] | Tensor
"""Which page each row is: strings, or integers in a tensor."""

NEVER = float("-inf")
"""The score of a page that must not count: it adds nothing to the sum of a softmax."""


def contrastive(queries: Tensor, pages: Tensor, temperature: float = 0.02, page_ids: PageIds | None = None) -> Tensor:
    """The contrastive loss of queries and their pages, with every other page of the batch as a negative.

    On several devices (an initialised `torch.distributed`) queries and pages of all of them are one batch. Only the
    rows of this device carry gradient, and the loss is times the number of devices, so that the mean which DDP takes
    over the devices' gradients is exactly the gradient of one big batch.

    Args:
        queries: `(B, D)`, unit vectors.
        pages: `(B * n, D)`, unit vectors; of the n pages of a query the first is right, the others are hard negatives.
        temperature: What scores are divided by; 0.02 is published.
        page_ids: Which page each row of `pages` is. A page with the id of a query's right page is never its negative.

    Returns:
        A scalar.

    Raises:
        SettingError: The shapes do not fit, or the temperature is not above 0.

    >>> unit = torch.eye(2)
    >>> float(contrastive(unit, unit, temperature=1.0))  # log(1 + e^-1)
    0.3132616...
    >>> same = ["page", "page"]  # the same page twice in a batch is no negative
    >>> float(contrastive(unit, unit, temperature=1.0, page_ids=same))
    0.0
    """
    per_query = _pages_per_query(queries, pages)
    all_queries, all_pages = gather(queries), gather(pages)
    ids = None if page_ids is None else gather_ids(page_ids, len(pages), pages.device)
    loss = cross_entropy(all_queries @ all_pages.T, per_query, temperature, ids)
    return loss * world_size()


def cross_entropy(scores: Tensor, pages_per_query: int, temperature: float, page_ids: Tensor | None = None) -> Tensor:
    """The mean over queries of -log softmax of the right page's score.

    Args:
        scores: `(queries, pages)`; the right page of query i is column i * `pages_per_query`.
        pages_per_query: How many columns belong to each query.
        temperature: What scores are divided by.
        page_ids: `(pages,)` integers; columns with the id of a query's right page do not count for this query.
    """
    if not temperature > 0:
        raise SettingError(f"temperature is {temperature}; it must be above 0 (0.02 is published).")
    targets = torch.arange(len(scores), device=scores.device) * pages_per_query
    scores = scores / temperature
    if page_ids is not None:
        same = page_ids[targets][:, None] == page_ids[None, :]  # (queries, pages)
        same[torch.arange(len(scores), device=scores.device), targets] = False  # the right page itself counts
        scores = scores.masked_fill(same, NEVER)
    return F.cross_entropy(scores, targets)


def world_size() -> int:
    """How many devices train together; 1 where there is no process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return 1


def gather(rows: Tensor) -> Tensor:
    """`(B, D)` -> `(W * B, D)`: the rows of all devices, by rank; only this device's carry gradient.

    Raises:
        SettingError: The devices have different numbers of rows.
    """
    world = world_size()
    if world == 1:
        return rows
    _check_equal(len(rows), rows.device)
    parts = [torch.empty_like(rows) for _ in range(world)]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[dist.get_rank()] = rows  # the one with its history, in its place
    return torch.cat(parts)


def gather_ids(page_ids: PageIds, pages: int, device: torch.device) -> Tensor:
    """The pages of all devices as integers, equal where the ids are equal: `(W * B * n,)`."""
    if len(page_ids) != pages:
        raise SettingError(f"There are {len(page_ids)} page_ids for {pages} pages; give one for each, in order.")
    if isinstance(page_ids, Tensor):
        own = page_ids.to(device=device, dtype=torch.int64)
    else:
        own = torch.tensor([_number_of(page_id) for page_id in page_ids], dtype=torch.int64, device=device)
    return gather(own)


def _number_of(page_id: str) -> int:
    """64 bits of a hash: two of a million pages are taken for the same once in 40 million trainings."""
    return int.from_bytes(hashlib.blake2b(page_id.encode(), digest_size=8).digest(), "big", signed=True)


def _pages_per_query(queries: Tensor, pages: Tensor) -> int:
    fits = queries.ndim == 2 and pages.ndim == 2 and queries.shape[1:] == pages.shape[1:] and len(queries) > 0
    if not fits or len(pages) < len(queries) or len(pages) % len(queries):
        raise SettingError(
            f"queries have the shape {tuple(queries.shape)} and pages {tuple(pages.shape)}; they must be (B, D) and "
            "(B * n, D), with the same number n of pages for every query."
        )
    return len(pages) // len(queries)


def _check_equal(rows: int, device: torch.device) -> None:
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[dist.get_rank()] = rows
    dist.all_reduce(counts)
    if len(set(counts.tolist())) > 1:
        raise SettingError(
            f"The devices have {counts.tolist()} rows each; a batch must be of the same size on all of them. "
            "Leave out the last batch of an epoch that is smaller (drop_last)."
        )
