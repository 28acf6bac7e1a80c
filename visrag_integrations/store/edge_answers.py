"""What the embedded engine finds, as few of its ids and as little of its payload read as a search needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from visrag_integrations.store.edge_search import among_request, fused_request, nearest_request
from visrag_integrations.store.engine import FusedSearch, SearchHit, VectorSearch
from visrag_integrations.store.fusing import fuse

if TYPE_CHECKING:
    import qdrant_edge as qe


def nearest(shard: qe.EdgeShard, search: VectorSearch) -> list[SearchHit]:
    """The best points of one search."""
    found = shard.query(nearest_request(replace(search, with_payload=False)))
    return _with_payload(shard, [(hit.id, hit.score) for hit in found], search.payload)


def fused(shard: qe.EdgeShard, search: FusedSearch) -> list[SearchHit]:
    """The best points of two searches, with their payload."""
    if search.all_compared:
        best = [(UUID(int=number), score) for number, score in fuse(_Scores(shard), search)]
    else:
        best = _fused_by_engine(shard, search)
    return _with_payload(shard, best, True)


class _Scores:
    """The scores of one shard, for `fusing.fuse`, by the whole numbers of its ids, which dicts look up fastest."""

    def __init__(self, shard: qe.EdgeShard) -> None:
        self._shard = shard

    def scores(self, half: VectorSearch) -> dict[int, float]:
        return self._ask(nearest_request(replace(half, with_payload=False)))

    def scores_of(self, half: VectorSearch, ids: Sequence[int]) -> dict[int, float]:
        return self._ask(among_request(half, [UUID(int=number) for number in ids]))

    def _ask(self, request: qe.QueryRequest) -> dict[int, float]:
        found: Any = self._shard.query(request)
        return {hit.id.int: hit.score for hit in found}


def _fused_by_engine(shard: qe.EdgeShard, search: FusedSearch) -> list[tuple[Any, float]]:
    """The same where the vectors say little of pages that they did not find, so that most would be asked for again.

    Then the engine sums the scores of all itself, in a third request.
    """
    ids: set[Any] = set()
    for half in (search.dense, search.lexical):
        found = shard.query(nearest_request(replace(half, with_payload=False)))
        ids.update(hit.id for hit in found)
    if not ids:
        return []
    return [(hit.id, hit.score) for hit in shard.query(fused_request(search, list(ids)))]


def _with_payload(shard: qe.EdgeShard, scored: Sequence[tuple[Any, float]], payload: Any) -> list[SearchHit]:
    """The points with what of their payload is wanted.

    It is read by itself: with a search, each segment of the engine would read that of all its own candidates.
    """
    payloads: dict[Any, Any] = {}
    if scored and payload is not False:
        ids = [id_ for id_, _ in scored]
        for record in shard.retrieve(ids, with_payload=payload, with_vector=False):
            payloads[record.id] = record.payload
    return [SearchHit(str(id_), score, payloads.get(id_) or {}) for id_, score in scored]
