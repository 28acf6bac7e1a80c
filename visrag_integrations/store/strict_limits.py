"""What the strict mode of a collection allows, as Qdrant Cloud sets it, and requests cut to that.

Limits are not asked for in advance, which would cost every store a request: a request that is refused for one lets the
engine read them, and send it again within them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from visrag_integrations.store.conditions import All, Condition, Either, FieldMatch, Ids, Not
from visrag_integrations.store.engine import DENSE_VECTOR, POOLED_VECTOR, FusedSearch, VectorSearch
from visrag_integrations.store.new_collections import PoolingNeededError
from visrag_integrations.store.refusals import read_refusal

Item = TypeVar("Item")
Found = TypeVar("Found")

# What a server says where a limit was met; an index that is missing is no limit, and cannot be got round.
_LIMIT_MET = re.compile(r"Exact search disabled|Limit exceeded|Condition size limit reached|Request is forbidden on")
# Ids without payload that one request lists: some 0.5 MB of JSON. Fewer make counting slower where exact counts are
# forbidden: a million pages are a hundred requests.
_LISTED = 10_000


@dataclass(frozen=True)
class StrictLimits:
    """Limits of one collection; None where there is none.

    Attributes:
        exact: Whether searches and counts may be exact.
        points: Points that a search or a list may ask for.
        oversampling: Times as many points as wanted that a search over quantised vectors may look at.
        values: Ids or values in one condition.
        seconds: Time that a request may ask for.
        written: Points in one write.
    """

    exact: bool = True
    points: int | None = None
    oversampling: float | None = None
    values: int | None = None
    seconds: int | None = None
    written: int | None = None

    @property
    def listed(self) -> int:
        """Ids that one request may list."""
        return at_most(_LISTED, self.points)

    @property
    def chosen(self) -> int | None:
        """Ids that a search may be limited to, and find all of."""
        limits = [limit for limit in (self.points, self.values) if limit is not None]
        return min(limits, default=None)


def read_limits(collection: Any) -> StrictLimits:
    """The limits that `get_collection` shows."""
    said = getattr(collection.config, "strict_mode_config", None)
    if said is None or not said.enabled:
        return StrictLimits()
    return StrictLimits(
        exact=said.search_allow_exact is not False,
        points=said.max_query_limit,
        oversampling=said.search_max_oversampling,
        values=said.condition_max_size,
        seconds=said.max_timeout,
        written=said.upsert_max_batchsize,
    )


def met_limit(error: BaseException) -> bool:
    """Whether a request was refused for a limit of strict mode."""
    return _LIMIT_MET.search(read_refusal(error).sentence) is not None


class MostAtOnce:
    """How many things one request asks for where the limits were not read: fewer once it was refused.

    >>> MostAtOnce(256).within(1000, lambda most: f"the first {most}")
    'the first 256'
    """

    def __init__(self, most: int) -> None:
        self._most = most

    def within(self, wanted: int, ask: Callable[[int], Found]) -> Found:
        """What `ask` gives for so many, or for as many as are allowed."""
        while True:
            most = min(wanted, self._most)
            try:
                return ask(most)
            except Exception as err:
                # A request that meets a limit does nothing, so that half of it can be sent.
                if most == 1 or not met_limit(err):
                    raise
                self._most = most // 2

    def in_parts(self, items: Sequence[Item], ask: Callable[[Sequence[Item]], object]) -> None:
        """Ask for all of these at once, or for as many as are allowed, and then for the next."""
        done = 0

        def ask_for(most: int) -> int:
            some = items[done : done + most]
            ask(some)
            return len(some)

        while done < len(items):
            done += self.within(len(items) - done, ask_for)


def at_most(wanted: int, limit: int | None) -> int:
    """The smaller of the two.

    >>> at_most(5, None), at_most(5, 3)
    (5, 3)
    """
    return wanted if limit is None else min(wanted, limit)


def parts(items: Sequence[Item], limit: int | None) -> Iterator[Sequence[Item]]:
    """The items in parts of at most `limit`; all of them where there is none.

    >>> list(parts("abc", 2)), list(parts("abc", None))
    (['ab', 'c'], ['abc'])
    """
    size = limit or max(1, len(items))
    for start in range(0, len(items), size):
        yield items[start : start + size]


@overload
def split_values(condition: Condition, limit: int | None) -> Condition: ...
@overload
def split_values(condition: None, limit: int | None) -> None: ...
@overload
def split_values(condition: Condition | None, limit: int | None) -> Condition | None: ...
def split_values(condition: Condition | None, limit: int | None) -> Condition | None:
    """The condition with no more than `limit` values or ids in one part: those of a long list stand in several.

    >>> split_values(FieldMatch("a", (1, 2, 3)), 2)
    Either(conditions=(FieldMatch(key='a', values=(1, 2)), FieldMatch(key='a', values=(3,))))
    """
    if condition is None or limit is None:
        return condition
    return _split(condition, limit)


def _split(condition: Condition, limit: int) -> Condition:
    match condition:
        case FieldMatch(key, values) if len(values) > limit:
            return Either(tuple(FieldMatch(key, tuple(some)) for some in parts(values, limit)))
        case Ids(ids) if len(ids) > limit:
            return Either(tuple(Ids(tuple(some)) for some in parts(ids, limit)))
        case Not(inner):
            return Not(_split(inner, limit))
        case All(inner_conditions):
            return All(tuple(_split(inner, limit) for inner in inner_conditions))
        case Either(inner_conditions):
            return Either(tuple(_split(inner, limit) for inner in inner_conditions))
        case _:
            return condition


def within(search: VectorSearch, limits: StrictLimits) -> VectorSearch:
    """The search with as many points and candidates as may be asked for."""
    among = search.among
    if among is not None:
        among = among._replace(limit=at_most(among.limit, limits.points))
    condition = split_values(search.condition, limits.values)
    return replace(search, limit=at_most(search.limit, limits.points), among=among, condition=condition)


def fused_within(search: FusedSearch, limits: StrictLimits) -> FusedSearch:
    """The same of a fused search, whose second pass scores the candidates of both halves."""
    both = limits.points
    half = None if both is None else max(1, both // 2)
    halves = []
    for each in (search.dense, search.lexical):
        halves.append(within(replace(each, limit=at_most(each.limit, half)), limits))
    return replace(search, dense=halves[0], lexical=halves[1], limit=at_most(search.limit, limits.points))


def by_ids(search: VectorSearch, limits: StrictLimits) -> Iterator[VectorSearch]:
    """An exact search among given ids, as several where there are more of them than one may name."""
    ids = _ids_in(search.condition)
    if not search.exact or not ids:
        yield within(search, limits)
        return
    for some in parts(ids, limits.chosen):
        condition = split_values(_only(search.condition, tuple(some)), limits.values)
        yield replace(search, limit=min(search.limit, len(some)), condition=condition)


def _ids_in(condition: Condition | None) -> tuple[str, ...]:
    if isinstance(condition, Ids):
        return condition.ids
    if isinstance(condition, All):
        for part in condition.conditions:
            if isinstance(part, Ids):
                return part.ids
    return ()


def _only(condition: Condition | None, ids: tuple[str, ...]) -> Condition:
    """The condition with these ids in place of its own: those of `_ids_in`."""
    if not isinstance(condition, All):
        return Ids(ids)
    others = [part for part in condition.conditions if not isinstance(part, Ids)]
    return All((Ids(ids), *others))


def check_searchable(collection: Any, limits: StrictLimits, where: str) -> None:
    """Nothing, unless searches of the collection's vectors are exact, and exact searches are forbidden.

    Args:
        collection: What `get_collection` shows of it.
        limits: Its own.
        where: The collection in messages.

    Raises:
        PoolingNeededError: They are.
    """
    vectors = collection.config.params.vectors
    if limits.exact or not isinstance(vectors, dict):
        return
    if DENSE_VECTOR["multi"] in vectors and POOLED_VECTOR not in vectors:
        raise PoolingNeededError(
            f"{where}: the server forbids exact searches (strict mode: search_allow_exact), and without pooling a "
            "search compares all vectors of all pages. Say pooling='rows' (--pooling rows), or let whoever manages the "
            "server allow exact searches."
        )
