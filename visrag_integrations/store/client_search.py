"""Searches as the client's requests carry them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from visrag_integrations.store.client_models import to_filter, to_vector
from visrag_integrations.store.conditions import Ids
from visrag_integrations.store.engine import FusedSearch, SearchHit, VectorSearch, rescoring
from visrag_integrations.store.strict_limits import StrictLimits, split_values

_NO_LIMITS = StrictLimits()


def nearest_request(search: VectorSearch, *, local: bool, limits: StrictLimits = _NO_LIMITS) -> dict[str, Any]:
    """The arguments of `query_points` for one search; `local` where the client is its own engine."""
    first_pass = _first_pass(search)
    if search.exact and not limits.exact:
        first_pass = _chosen(_filter(search), search.limit)
    return {
        "query": to_vector(search.vector),
        "using": search.name,
        "prefetch": first_pass,
        "limit": search.limit,
        "query_filter": _filter(search),
        "with_payload": search.payload,
        "search_params": _params(search, local=local, limits=limits),
    }


def fused_request(search: FusedSearch, halves: Sequence[Any]) -> dict[str, Any]:
    """The arguments of `query_points` for a fused search.

    Args:
        search: The two searches and what each counts.
        halves: A prefetch for each half, which gives every candidate's score in it: `candidates_of`, `among_ids`.
    """
    return {
        "prefetch": list(halves),
        "query": _fused_score(*search.factors),
        "limit": search.limit,
        "with_payload": True,
    }


def candidates_of(search: FusedSearch, limits: StrictLimits = _NO_LIMITS) -> list[Any]:
    """Prefetches that score what either half proposes, in the dense and in the lexical half."""
    from qdrant_client import models

    proposed = []
    for half in (search.dense, search.lexical):
        asked = nearest_request(half, local=False, limits=limits)
        proposed.append(
            models.Prefetch(
                query=asked["query"],
                using=asked["using"],
                prefetch=asked["prefetch"],
                limit=asked["limit"],
                filter=asked["query_filter"],
                params=asked["search_params"],
            )
        )
    limit = search.dense.limit + search.lexical.limit
    return [
        models.Prefetch(
            prefetch=proposed,
            query=to_vector(half.vector),
            using=half.name,
            limit=limit,
            params=_exactly(half, limit, limits),
        )
        for half in (search.dense, search.lexical)
    ]


def among_ids(search: FusedSearch, ids: Sequence[Any], limits: StrictLimits = _NO_LIMITS) -> list[Any]:
    """Prefetches that score the points with these ids in the dense and in the lexical half."""
    from qdrant_client import models

    chosen = to_filter(split_values(Ids(tuple(ids)), limits.values))
    first_pass = None if limits.exact else _chosen(chosen, len(ids))
    return [
        models.Prefetch(
            query=to_vector(half.vector),
            using=half.name,
            prefetch=first_pass,
            limit=len(ids),
            filter=chosen,
            params=_exactly(half, len(ids), limits),
        )
        for half in (search.dense, search.lexical)
    ]


def to_hits(found: Iterable[Any]) -> list[SearchHit]:
    """The client's hits as ours."""
    return [SearchHit(str(hit.id), hit.score, hit.payload or {}) for hit in found]


def _first_pass(search: VectorSearch) -> Any:
    """The search for candidates; the condition holds there too, else one that it refuses takes a place."""
    from qdrant_client import models

    if search.among is None:
        return None
    return models.Prefetch(
        query=to_vector(search.vector), using=search.among.name, limit=search.among.limit, filter=_filter(search)
    )


def _filter(search: VectorSearch) -> Any:
    if search.condition is None:
        return None
    return to_filter(search.condition)


def _chosen(condition: Any, limit: int) -> Any:
    """A first pass that compares nothing: the points of a filter, which the search then scores one by one.

    Where exact searches are forbidden, this is how a score is exact all the same.
    """
    from qdrant_client import models

    return models.Prefetch(filter=condition, limit=limit)


def _params(search: VectorSearch, *, local: bool, limits: StrictLimits) -> Any:
    """How numbers are compared; local mode always compares all of them, and words are always compared exactly."""
    if search.is_lexical or local:
        return None
    return _quantized(search.limit, exact=search.exact, limits=limits)


def _exactly(search: VectorSearch, limit: int, limits: StrictLimits) -> Any:
    """The same for scores that must be exact."""
    if search.is_lexical:
        return None
    return _quantized(limit, exact=True, limits=limits)


def _quantized(limit: int, *, exact: bool, limits: StrictLimits) -> Any:
    from qdrant_client import models

    oversampling = rescoring(limit)
    if limits.oversampling is not None:
        oversampling = min(oversampling, limits.oversampling)
    quantized = models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=oversampling)
    return models.SearchParams(exact=exact and limits.exact, quantization=quantized)


def _fused_score(dense_factor: float, lexical_factor: float) -> Any:
    """dense_factor x max(0, dense) + (lexical_factor x lexical) squared; the maximum as (x + |x|) / 2."""
    from qdrant_client import models

    dense, lexical = "$score[0]", "$score[1]"
    above_zero = models.SumExpression(sum=[dense, models.AbsExpression(abs=dense)])
    formula = models.SumExpression(
        sum=[
            models.MultExpression(mult=[dense_factor / 2, above_zero]),
            models.MultExpression(mult=[lexical_factor**2, lexical, lexical]),
        ]
    )
    return models.FormulaQuery(formula=formula, defaults={dense: 0.0, lexical: 0.0})
