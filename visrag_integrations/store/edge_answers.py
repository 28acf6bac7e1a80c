"""What the embedded engine finds, as few of its ids and as little of its payload read as a search needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from visrag_integrations.store.edge_search import among_request, nearest_request
from visrag_integrations.store.engine import FusedSearch, SearchHit, VectorSearch
from visrag_integrations.store.fusing import fuse

if TYPE_CHECKING:
    import qdrant_edge as qe

# The engine makes a graph of no fewer numbers than these, and goes through all of a collection of fewer even where it has
# one (its `full_scan_threshold`, 10,000 kB). Of one-bit copies it scores a thousand again, which takes as long.
_SCANNED_BYTES = 10_000 * 1024
_BYTES_A_NUMBER = 4


def nearest(shard: qe.EdgeShard, search: VectorSearch) -> list[SearchHit]:
    """The best points of one search."""
    found = shard.query(nearest_request(search, search.limit, with_payload=False))
    return _with_payload(shard, [(hit.id, hit.score) for hit in found], search.payload)


def fused(shard: qe.EdgeShard, search: FusedSearch) -> list[SearchHit]:
    """The best points of two searches, with their payload."""
    if not search.all_compared and _are_few(shard, search.dense):
        search = replace(search, dense=replace(search.dense, exact=True), all_compared=True)
    scores = _Scores(shard)
    best = fuse(scores, search)
    return _with_payload(shard, [(scores.ids[number], score) for number, score in best], True)


def _are_few(shard: qe.EdgeShard, half: VectorSearch) -> bool:
    """Whether the engine compares the single vectors of all points anyway, or could as fast."""
    if half.among is not None or not isinstance(half.vector, np.ndarray) or half.vector.ndim != 1:
        return False
    return shard.info().points_count * half.vector.size * _BYTES_A_NUMBER <= _SCANNED_BYTES


class _Scores:
    """The scores of one shard, for `fusing.fuse`, by the whole numbers of its ids, which dicts look up fastest."""

    def __init__(self, shard: qe.EdgeShard) -> None:
        self._shard = shard
        self.ids: dict[int, UUID] = {}  # to make one again takes longer than to find a point

    def scores(self, half: VectorSearch, limit: int) -> dict[int, float]:
        return self._ask(nearest_request(half, limit, with_payload=False))

    def scores_of(self, half: VectorSearch, ids: Sequence[int]) -> dict[int, float]:
        return self._ask(among_request(half, [self.ids[number] for number in ids]))

    def _ask(self, request: qe.QueryRequest) -> dict[int, float]:
        found: Any = self._shard.query(request)
        scores: dict[int, float] = {}
        for hit in found:
            id_ = hit.id
            number = id_.int
            self.ids[number] = id_
            scores[number] = hit.score
        return scores


def _with_payload(shard: qe.EdgeShard, scored: Sequence[tuple[UUID, float]], payload: Any) -> list[SearchHit]:
    """The points with what of their payload is wanted.

    It is read by itself: with a search, each segment of the engine would read that of all its own candidates.
    """
    payloads: dict[int, Any] = {}
    if scored and payload is not False:
        found: Any = shard.retrieve([id_ for id_, _ in scored], with_payload=payload, with_vector=False)
        for record in found:
            payloads[record.id.int] = record.payload
    return [SearchHit(str(id_), score, payloads.get(id_.int) or {}) for id_, score in scored]
