"""Searches as the embedded engine's requests carry them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.store.edge_models import to_filter, to_vector
from visrag_integrations.store.engine import VectorSearch, rescoring

if TYPE_CHECKING:
    import qdrant_edge as qe


def nearest_request(search: VectorSearch, limit: int, *, with_payload: Any) -> qe.QueryRequest:
    """One search by one vector, for this many points."""
    import qdrant_edge as qe

    asked, only = to_vector(search.vector), to_filter(search.condition)
    first_pass = []
    if search.among is not None:  # the condition holds in both passes, else a candidate that it refuses takes a place
        nearest = qe.Query.Nearest(asked, using=search.among.name)
        first_pass.append(qe.Prefetch(limit=search.among.limit, query=nearest, filter=only))
    return qe.QueryRequest(
        limit=limit,
        query=qe.Query.Nearest(asked, using=search.name),
        prefetches=first_pass,
        filter=only,
        with_payload=with_payload,
        params=_params(search, limit, exact=search.exact),
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


def _params(search: VectorSearch, limit: int, *, exact: bool) -> qe.SearchParams | None:
    """How numbers are compared; words are always compared exactly."""
    import qdrant_edge as qe

    if search.is_lexical:
        return None
    quantized = qe.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=rescoring(limit))
    return qe.SearchParams(exact=exact, quantization=quantized)
