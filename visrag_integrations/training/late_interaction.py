"""The contrastive loss of multi-vector embedders (ColPali, ColQwen2): a query is compared with a page by MaxSim.

Letters: B queries on this device, n pages a query, Q and P vectors of the longest query and page, D numbers of each.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from visrag_integrations.training.losses import PageIds, cross_entropy, gather, gather_ids, world_size


def contrastive_late(
    queries: Tensor, pages: Tensor, temperature: float = 0.02, page_ids: PageIds | None = None, *, mean: bool = True
) -> Tensor:
    """`losses.contrastive` with MaxSim in place of the cosine.

    Args:
        queries: `(B, Q, D)`, unit vectors; rows of zeros are padding.
        pages: `(B * n, P, D)`, unit vectors; rows of zeros are padding.
        temperature: What scores are divided by.
        page_ids: As in `contrastive`.
        mean: Divide a score by the query's number of vectors. It is between -1 and 1 then, as a cosine is, and the
            same temperature suits it. False: the plain sum, for which a temperature near 1 is usual.

    Returns:
        A scalar.
    """
    all_queries, all_pages = gather(_same_length(queries)), gather(_same_length(pages))
    ids = None if page_ids is None else gather_ids(page_ids, len(pages), pages.device)
    scores = max_sim(all_queries, all_pages, mean=mean)
    return cross_entropy(scores, len(pages) // len(queries), temperature, ids) * world_size()


def max_sim(queries: Tensor, pages: Tensor, *, mean: bool = False) -> Tensor:
    """For every query vector the best page vector's cosine, summed up or averaged: (B, Q, D), (N, P, D) -> (B, N).

    >>> query = torch.eye(2)[None]
    >>> max_sim(query, torch.stack([torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 0.0]])])).tolist()
    [[2.0, 1.0]]
    """
    columns = []
    for page in pages:  # one page after the other: all at once would be (B, N, Q, P) numbers, gigabytes for real pages
        real = page.detach().abs().sum(dim=-1) > 0  # (P,)
        similar = queries @ page.T  # (B, Q, P)
        similar = similar.masked_fill(~real, float("-inf"))
        columns.append(similar.max(dim=-1).values)  # (B, Q)
    best = torch.stack(columns, dim=1)  # (B, N, Q)
    there = (queries.detach().abs().sum(dim=-1) > 0).to(best.dtype)  # (B, Q)
    scores = (best * there[:, None]).sum(dim=-1)
    if mean:
        scores = scores / there.sum(dim=-1)[:, None]
    return scores


def pad_rows(matrices: list[Tensor]) -> Tensor:
    """Matrices of (n, D) to (len, longest, D), filled up with zeros."""
    return torch.nn.utils.rnn.pad_sequence(matrices, batch_first=True)


def join_padded(parts: list[Tensor]) -> Tensor:
    """Stacks of padded matrices, each with its own longest, as one."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])


def _same_length(rows: Tensor) -> Tensor:
    """As many rows as on the device that has most: only equal shapes can be gathered."""
    if world_size() == 1:
        return rows
    longest = torch.tensor([rows.shape[1]], device=rows.device)
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    return F.pad(rows, (0, 0, 0, int(longest) - rows.shape[1]))
