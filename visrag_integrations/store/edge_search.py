"""Searches as the embedded engine's requests carry them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.store.edge_models import to_filter, to_vector
from visrag_integrations.store.engine import FusedSearch, VectorSearch, rescoring

if TYPE_CHECKING:
    import qdrant_edge as qe


def nearest_request(search: VectorSearch) -> qe.QueryRequest:
    """One search by one vector."""
    import qdrant_edge as qe

    asked, only = to_vector(search.vector), to_filter(search.condition)
    first_pass = []
    if search.among is not None:  # the condition holds in both passes, else a candidate that it refuses takes a place
        nearest = qe.Query.Nearest(asked, using=search.among.name)
        first_pass.append(qe.Prefetch(limit=search.among.limit, query=nearest, filter=only))
    return qe.QueryRequest(
        limit=search.limit,
        query=qe.Query.Nearest(asked, using=search.name),
        prefetches=first_pass,
        filter=only,
        with_payload=search.payload,
        params=_params(search, search.limit, exact=search.exact),
    )


def among_request(half: VectorSearch, ids: Sequence[Any]) -> qe.QueryRequest:
    """The exact scores of the points with these ids, as the engine gave them."""
    import qdrant_edge as qe

    return qe.QueryRequest(
        limit=len(ids),
        query=qe.Query.Nearest(to_vector(half.vector), using=half.name),
        filter=qe.Filter(must=[qe.HasIdCondition(set(ids))]),
        params=_params(half, len(ids), exact=True),
    )


def fused_request(search: FusedSearch, ids: Sequence[Any]) -> qe.QueryRequest:
    """The fused scores of the points with these ids, as the engine gave them."""
    import qdrant_edge as qe

    candidates = set(ids)
    chosen = qe.Filter(must=[qe.HasIdCondition(candidates)])
    halves = []
    for half in (search.dense, search.lexical):
        halves.append(
            qe.Prefetch(
                limit=len(candidates),
                query=qe.Query.Nearest(to_vector(half.vector), using=half.name),
                filter=chosen,
                params=_params(half, len(candidates), exact=True),
            )
        )
    return qe.QueryRequest(
        limit=search.limit, query=_fused_score(*search.factors), prefetches=halves, with_payload=False
    )


def _params(search: VectorSearch, limit: int, *, exact: bool) -> qe.SearchParams | None:
    """How numbers are compared; words are always compared exactly."""
    import qdrant_edge as qe

    if search.is_lexical:
        return None
    quantized = qe.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=rescoring(limit))
    return qe.SearchParams(exact=exact, quantization=quantized)


def _fused_score(dense_factor: float, lexical_factor: float) -> Any:
    """dense_factor x max(0, dense) + (lexical_factor x lexical) squared; the maximum as (x + |x|) / 2."""
    import qdrant_edge as qe

    named = {"dense": "$score[0]", "lexical": "$score[1]"}
    dense, lexical = qe.Expression.Variable(named["dense"]), qe.Expression.Variable(named["lexical"])
    above_zero = qe.Expression.Sum([dense, qe.Expression.Abs(dense)])
    formula = qe.Expression.Sum(
        [
            qe.Expression.Mult([qe.Expression.Constant(dense_factor / 2), above_zero]),
            qe.Expression.Mult([qe.Expression.Constant(lexical_factor**2), lexical, lexical]),
        ]
    )
    return qe.Formula(formula, dict.fromkeys(named.values(), 0.0))
