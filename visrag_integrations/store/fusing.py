"""A fused search out of an engine's plain searches, which looks again only where that can change the result.

Each half proposes its best points. What one half did not propose may still have a score there, and the fused score
needs both. But most of the proposed points cannot come among the best whatever that other score is:

    found by words       k points, all of them where fewer than asked for were found: any other has 0 there
                         else no other has more than the last one
    found by the vector  the same where all vectors were compared; else no other has more than a cosine can be

So each point has a least and a most that it can score. Those whose most is less than what `limit` others have at
least are out, and the engine is asked again for the few that are left.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from visrag_integrations.store.conditions import Ids
from visrag_integrations.store.engine import Engine, FusedSearch, SearchHit, VectorSearch

Id = TypeVar("Id")
# An engine computes in float32, and a point that is out by less than it rounds away may be one of equal ones.
_ROUNDING = 1e-5
# The most that a cosine can be, and a little: numbers kept in eight or four bits give somewhat more than 1.
_NEAREST = 1.1


class Asked(Protocol[Id]):
    """What is needed of an engine; ids are as it gives them: to make text of hundreds takes longer than a search."""

    def scores(self, half: VectorSearch) -> dict[Id, float]:
        """By id, what the search finds; best first."""

    def scores_of(self, half: VectorSearch, ids: Sequence[Id]) -> Mapping[Id, float]:
        """By id, the exact scores of these points in one half; of those that have one."""


class Fused(NamedTuple, Generic[Id]):
    """A point with its fused score."""

    id: Id
    score: float


def fuse(engine: Asked[Id], search: FusedSearch) -> list[Fused[Id]]:
    """The best points of both searches with their fused scores, best first; equal ones by their ids.

    >>> class Engine:
    ...     def scores(self, half):
    ...         return {"words": {"a": 9.0, "b": 3.0}, "page": {"a": 0.5, "c": 0.4}}[half.name]
    ...     def scores_of(self, half, ids):
    ...         return {}
    >>> halves = VectorSearch("page", [], 2), VectorSearch("words", [], 2)
    >>> fuse(Engine(), FusedSearch(*halves, (1.0, 1 / 9), 1))
    [Fused(id='a', score=1.5)]
    """
    dense = engine.scores(search.dense)
    lexical = engine.scores(search.lexical)
    candidates = _candidates(dense, lexical, search)
    _complete(engine, search.dense, dense, candidates)
    _complete(engine, search.lexical, lexical, candidates)
    dense_factor, lexical_factor = search.factors
    fused: list[Fused[Id]] = []
    for id_ in candidates:
        points = lexical_factor * lexical.get(id_, 0.0)
        fused.append(Fused(id_, dense_factor * max(0.0, dense.get(id_, 0.0)) + points * points))
    fused.sort(key=_best_first)
    return fused[: search.limit]


def fuse_by_parts(engine: Engine, search: FusedSearch) -> list[SearchHit]:
    """What `Engine.fused` gives, by its other operations."""
    best = fuse(_Plainly(engine), search)
    payloads = {record.id: record.payload for record in engine.retrieve([point.id for point in best])}
    return [SearchHit(point.id, point.score, payloads[point.id]) for point in best if point.id in payloads]


class _Plainly:
    """The scores of an engine whose own ids are not to be had."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def scores(self, half: VectorSearch) -> dict[str, float]:
        found = self._engine.nearest(replace(half, with_payload=False))
        return {hit.id: hit.score for hit in found}

    def scores_of(self, half: VectorSearch, ids: Sequence[str]) -> dict[str, float]:
        return self.scores(replace(half, limit=len(ids), condition=Ids(tuple(ids)), exact=True, among=None))


def _best_first(point: Fused[Any]) -> tuple[float, Any]:
    # Not the id as text: numbers of ids are in the order of the ids ("9" is not), so that `_hybrid` agrees with this.
    return -point.score, point.id


def _candidates(dense: Mapping[Id, float], lexical: Mapping[Id, float], search: FusedSearch) -> list[Id]:
    """The points of both halves that can be among the best."""
    by_vector, by_words = search.factors[0], search.factors[1] ** 2
    least: dict[Id, float] = {}
    for id_ in dense.keys() & lexical.keys():
        least[id_] = by_vector * max(0.0, dense[id_]) + by_words * lexical[id_] ** 2
    in_both = list(least)
    # Of each half only the first can be among the best of it, and both come best first.
    for id_ in islice(dense, search.limit):
        least.setdefault(id_, by_vector * max(0.0, dense[id_]))
    for id_ in islice(lexical, search.limit):
        least.setdefault(id_, by_words * lexical[id_] ** 2)
    needed = 0.0
    if len(least) >= search.limit:
        needed = heapq.nlargest(search.limit, least.values())[-1]
    needed -= _ROUNDING * (1.0 + needed)
    found = [id_ for id_ in in_both if least[id_] >= needed]

    most_dense, most_lexical = _most_of_others(dense, lexical, search)
    for id_, score in dense.items():
        if by_vector * max(0.0, score) + by_words * most_lexical**2 < needed:
            break  # nor has any of those after it more
        if id_ not in lexical:
            found.append(id_)
    for id_, score in lexical.items():
        if by_words * score**2 + by_vector * most_dense < needed:
            break
        if id_ not in dense:
            found.append(id_)
    return found


def _most_of_others(dense: Mapping[Id, float], lexical: Mapping[Id, float], search: FusedSearch) -> tuple[float, float]:
    """The most that a point which a half did not find can score in that half."""
    most_dense = 0.0
    if search.all_compared:
        most_dense = _last_of(dense, search.dense.limit)
    elif search.factors[0]:
        most_dense = _NEAREST / search.factors[0]  # such a cosine, or one a vector of the query
    return most_dense, _last_of(lexical, search.lexical.limit)


def _last_of(scores: Mapping[Id, float], limit: int) -> float:
    """The score of the last point; 0 where all points that have a score were found."""
    if len(scores) < limit:
        return 0.0
    return max(0.0, min(scores.values()))


def _complete(engine: Asked[Id], half: VectorSearch, found: dict[Id, float], candidates: Sequence[Id]) -> None:
    """Add the scores of the candidates that this half did not find."""
    missing = [id_ for id_ in candidates if id_ not in found]
    if missing:
        found.update(engine.scores_of(half, missing))
