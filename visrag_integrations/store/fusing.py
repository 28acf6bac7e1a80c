"""A fused search by an engine that can only search by one vector at a time."""

from __future__ import annotations

from dataclasses import replace

from visrag_integrations.store.conditions import Ids
from visrag_integrations.store.engine import Engine, FusedSearch, SearchHit, VectorSearch


def fuse_by_parts(engine: Engine, search: FusedSearch) -> list[SearchHit]:
    """What `Engine.fused` gives, by its other operations."""
    dense = _scores(engine, search.dense)
    lexical = _scores(engine, search.lexical)
    # Every candidate gets both scores, however far down it is in the other half.
    dense |= _scores_of(engine, search.dense, lexical.keys() - dense.keys())
    lexical |= _scores_of(engine, search.lexical, dense.keys() - lexical.keys())

    dense_factor, lexical_factor = search.factors
    fused: dict[str, float] = {}
    for id_ in {**dense, **lexical}:
        above_zero = max(0.0, dense.get(id_, 0.0))
        points = lexical_factor * lexical.get(id_, 0.0)
        fused[id_] = dense_factor * above_zero + points * points
    best = sorted(fused, key=lambda id_: (-fused[id_], id_))[: search.limit]
    payloads = {record.id: record.payload for record in engine.retrieve(best)}
    return [SearchHit(id_, fused[id_], payloads[id_]) for id_ in best if id_ in payloads]


def _scores(engine: Engine, half: VectorSearch) -> dict[str, float]:
    found = engine.nearest(replace(half, with_payload=False))
    return {hit.id: hit.score for hit in found}


def _scores_of(engine: Engine, half: VectorSearch, ids: set[str]) -> dict[str, float]:
    """The scores of these points in one half; of those that have one."""
    if not ids:
        return {}
    among = replace(half, limit=len(ids), condition=Ids(tuple(ids)), exact=True, among=None)
    return _scores(engine, among)
