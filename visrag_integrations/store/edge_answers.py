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

# The engine goes through all vectors of a collection that is smaller, even where it has a graph (`full_scan_threshold`,
# 10,000 kB), so that to ask for all of them takes no longer: 0.11 ms both ways at 2,000 of 64 numbers. Then none that
# it does not find is nearer than the last one it finds. In a larger collection a graph is faster.
_SCANNED_BYTES = 10_000 * 1024
_BYTES_A_NUMBER = 4
# Points of a collection whose searches take no longer than to read the ids of what they find, so that to search twice
# now and then costs less than is saved. On drawn pages, whose vectors and words have nothing to do with each other, a
# first look saved a third of a search at 2,000 pages, a quarter at 3,000, and made one half as slow again at 10,000.
_QUICK = 3_000


def nearest(shard: qe.EdgeShard, search: VectorSearch) -> list[SearchHit]:
    """The best points of one search."""
    found: Any = shard.query(nearest_request(search, search.limit, with_payload=False))
    return _with_payload(shard, [(hit.id, hit.score) for hit in found], search.payload)


def fused(shard: qe.EdgeShard, search: FusedSearch) -> list[SearchHit]:
    """The best points of two searches, with their payload."""
    count = shard.info().points_count
    if not search.all_compared and _is_scanned(search.dense, count):
        search = replace(search, dense=replace(search.dense, exact=True), all_compared=True)
    scores = _Scores(shard)
    best = fuse(scores, search, look_first=count <= _QUICK)
    return _with_payload(shard, [(scores.ids[number], score) for number, score in best], True)


def _is_scanned(half: VectorSearch, count: int) -> bool:
    """Whether the engine goes through the single vectors of so many points anyway."""
    if half.among is not None or not isinstance(half.vector, np.ndarray) or half.vector.ndim != 1:
        return False
    return count * half.vector.size * _BYTES_A_NUMBER <= _SCANNED_BYTES


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
