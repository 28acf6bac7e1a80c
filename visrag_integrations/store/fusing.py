"""A fused search out of an engine's plain searches, which asks for no more than can change the result.

Each half proposes its best points. What one half did not propose may still have a score there, and the fused score
needs both. But most of the proposed points cannot come among the best whatever that other score is, for any that a
half did not find has less there than the last one it did:

    place in its half       1     2     3    ...   40    each as it counts in the fused score
    by the vector          0.60  0.50  0.30       0.20
    by words               1.00  0.79  0.05       0.04

If the first two of both are the same two points, these have 1.60 and 1.29, and any that is in one half only has at most
0.30 + 0.04 or 0.05 + 0.20. One that comes behind them all has at most 0.20 + 0.04, so that the hundred that each half
would propose need not even be looked at. An engine is asked again for the scores that are missing of the few that are
left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeVar

from visrag_integrations.store.conditions import Ids
from visrag_integrations.store.engine import Engine, FusedSearch, SearchHit, VectorSearch

Id = TypeVar("Id")
# An engine computes in float32, and a point that is out by less than it rounds away may be one of equal ones.
_ROUNDING = 1e-5
# The most that a cosine can be, and a little: numbers kept in eight or four bits give somewhat more than 1.
_NEAREST = 1.1
# Points of each half that are looked at first, for each that is wanted. Of 306 questions on 591 pages of manuals nine
# in ten needed no more than 3, and on drawn pages, whose vectors and words have nothing to do with each other, nine in
# ten no more than 8. Fewer: more searches are done twice. More: ids are read that nobody needs, each of which takes
# longer to read than a point takes to be found.
_LOOKED_AT = 8


class Asked(Protocol[Id]):
    """What is needed of an engine; ids are as it gives them: to make text of hundreds takes longer than a search."""

    def scores(self, half: VectorSearch, limit: int) -> Mapping[Id, float]:
        """By id, the best points of a search; no more than this many."""

    def scores_of(self, half: VectorSearch, ids: Sequence[Id]) -> Mapping[Id, float]:
        """By id, the exact scores of these points in one half; of those that have one."""


class Fused(NamedTuple, Generic[Id]):
    """A point with its fused score."""

    id: Id
    score: float


def fuse(engine: Asked[Id], search: FusedSearch, *, look_first: bool = False) -> list[Fused[Id]]:
    """The best points of both searches with their fused scores, best first; equal ones by their ids.

    Args:
        engine: What searches.
        search: The two searches.
        look_first: Whether to look at a few points of each half first, which saves most of the ids where it is enough,
            and costs both searches once more where it is not.

    >>> class Engine:
    ...     def scores(self, half, limit):
    ...         return {"words": {"a": 9.0, "b": 3.0}, "page": {"a": 0.5, "c": 0.4}}[half.name]
    ...     def scores_of(self, half, ids):
    ...         return {}
    >>> halves = VectorSearch("page", [], 2), VectorSearch("words", [], 2)
    >>> fuse(Engine(), FusedSearch(*halves, (1.0, 1 / 9), 1))
    [Fused(id='a', score=1.5)]
    """
    few = _LOOKED_AT * search.limit
    if look_first and search.all_compared and few < max(search.dense.limit, search.lexical.limit):
        best = _best_of_few(engine, search, few)
        if best is not None:
            return best
    dense, lexical = _look(engine, search, max(search.dense.limit, search.lexical.limit))
    return _best(engine, dense, lexical, search.limit)


def fuse_by_parts(engine: Engine, search: FusedSearch) -> list[SearchHit]:
    """What `Engine.fused` gives, by its other operations."""
    best = fuse(_Plainly(engine), search)
    payloads = {record.id: record.payload for record in engine.retrieve([point.id for point in best])}
    return [SearchHit(point.id, point.score, payloads[point.id]) for point in best if point.id in payloads]


class _Plainly:
    """The scores of an engine whose own ids are not to be had."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def scores(self, half: VectorSearch, limit: int) -> dict[str, float]:
        found = self._engine.nearest(replace(half, limit=limit, with_payload=False))
        return {hit.id: hit.score for hit in found}

    def scores_of(self, half: VectorSearch, ids: Sequence[str]) -> dict[str, float]:
        return self.scores(replace(half, condition=Ids(tuple(ids)), exact=True, among=None), len(ids))


@dataclass
class _Half(Generic[Id]):
    """What one half found.

    Attributes:
        search: What was asked for.
        factor: Of its scores.
        points: By id, what scores count in the fused score; best first, then those that were asked for again.
        is_whole: Whether all that have a score were found.
        most_of_others: The most points that one which was not found can have.
    """

    search: VectorSearch
    factor: float
    points: dict[Id, float]
    is_whole: bool
    most_of_others: float


def _look(engine: Asked[Id], search: FusedSearch, looked_at: int) -> tuple[_Half[Id], _Half[Id]]:
    """The first points of the dense and of the lexical half, or all that they propose where these are fewer."""
    halves: list[_Half[Id]] = []
    for half, factor in zip((search.dense, search.lexical), search.factors, strict=True):
        limit = min(looked_at, half.limit)
        points = _points(half, factor, engine.scores(half, limit))
        is_whole = len(points) < limit
        others = 0.0 if is_whole else min(points.values())
        if not half.is_lexical and not search.all_compared:
            others = _NEAREST if factor else 0.0  # such a cosine, or one a vector of the query
        halves.append(_Half(half, factor, points, is_whole, others))
    return halves[0], halves[1]


def _best_of_few(engine: Asked[Id], search: FusedSearch, few: int) -> list[Fused[Id]] | None:
    """The best, out of a look at a few points of each half; None where others may come before them."""
    dense, lexical = _look(engine, search, few)
    best = _best(engine, dense, lexical, search.limit)
    is_all = dense.is_whole and lexical.is_whole
    if is_all or dense.most_of_others + lexical.most_of_others < _needed(dense, lexical, search.limit):
        return best
    return None


def _best(engine: Asked[Id], dense: _Half[Id], lexical: _Half[Id], wanted: int) -> list[Fused[Id]]:
    """The best that either half found, once the scores that matter are known in both."""
    for half, other in ((dense, lexical), (lexical, dense)):
        unknown = _unknown(half, other, _needed(dense, lexical, wanted))
        if unknown:
            half.points |= dict.fromkeys(unknown, 0.0)
            half.points |= _points(half.search, half.factor, engine.scores_of(half.search, unknown))
    # Not the ids as text: numbers of ids are in the order of the ids ("9" is not), so that `_hybrid` agrees with this.
    best: list[tuple[float, Id]] = []
    for id_ in dense.points.keys() & lexical.points.keys():  # of others one score is unknown: they are out
        best.append((-dense.points[id_] - lexical.points[id_], id_))
    best.sort()
    return [Fused(id_, -less) for less, id_ in best[:wanted]]


def _unknown(half: _Half[Id], other: _Half[Id], needed: float) -> list[Id]:
    """The points that the other half found, and this one did not, which can be among the best."""
    unknown: list[Id] = []
    for id_, points in other.points.items():
        if points + half.most_of_others >= needed and id_ not in half.points:
            unknown.append(id_)
    return unknown


def _needed(dense: _Half[Id], lexical: _Half[Id], wanted: int) -> float:
    """What a point needs to be among the best: what the last of them has at least, by what is known; a little less."""
    least = {**dense.points, **lexical.points}
    if len(least) < wanted:
        return -_ROUNDING
    for id_ in dense.points.keys() & lexical.points.keys():
        least[id_] = dense.points[id_] + lexical.points[id_]
    last = sorted(least.values())[-wanted]
    return last - _ROUNDING * (1.0 + last)


def _points(half: VectorSearch, factor: float, scores: Mapping[Id, float]) -> dict[Id, float]:
    """What the scores of one half count in the fused score."""
    if half.is_lexical:
        return {id_: (factor * score) ** 2 for id_, score in scores.items()}
    # One that points the other way is as far away as any.
    return {id_: factor * max(0.0, score) for id_, score in scores.items()}
