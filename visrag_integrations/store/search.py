"""The ways to search a collection: by vector, by words, by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from visrag_integrations.errors import SettingError
from visrag_integrations.scores import lexical
from visrag_integrations.store.conditions import Condition, Ids
from visrag_integrations.store.engine import (
    POOLED_VECTOR,
    TEXT_VECTOR,
    Candidates,
    Engine,
    FusedSearch,
    Schema,
    SearchHit,
    SparseVector,
    Vector,
    VectorSearch,
)
from visrag_integrations.store.parts import CollectionParts
from visrag_integrations.store.vectors import check_vector, schema_for
from visrag_integrations.types import Mode

Fusion = Literal["scores", "rrf"]
# Of RRF, as in the paper that introduced it (Cormack, Clarke and Buettcher, 2009). Smaller lets the first ranks of one
# half decide alone; larger makes all ranks count alike.
_RANK_OFFSET = 60.0
# Candidates a first pass proposes for each page that is wanted, where `candidates` is less: a page that is only fourth
# best in the first pass can still come first.
_PROPOSED_PER_PAGE = 4


@dataclass(frozen=True)
class SearchSettings:
    """How searches of more than one pass are done.

    Attributes:
        candidates: How many pages the pooled vectors propose to the exact MaxSim, and each half to a hybrid search,
            at least.
        fusion: How a hybrid search makes one score of two: "scores" (`lexical.fuse`) or "rrf" (reciprocal ranks).
        weights: What the dense and the lexical half weigh in RRF.
    """

    candidates: int = 100
    fusion: Fusion = "scores"
    weights: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not is_page_number(self.candidates):
            raise SettingError(f"candidates is {self.candidates!r}; it is a number of pages, 1 or more.")
        if self.fusion not in get_args(Fusion):
            raise SettingError(f"fusion is {self.fusion!r}; allowed: {', '.join(get_args(Fusion))}.")
        two = len(self.weights) == 2 and all(0 <= weight < float("inf") for weight in self.weights)
        if not two or not any(self.weights):
            raise SettingError(f"fusion_weights is {self.weights!r}; give two numbers, for example (1.0, 0.5).")
        if self.fusion != "rrf" and tuple(self.weights) != (1.0, 1.0):
            raise SettingError("fusion_weights are for fusion='rrf' only. Say fusion='rrf', or leave them out.")


@dataclass(frozen=True)
class StoreQuery:
    """One search of a collection, with the filter read."""

    vector: Any
    text: str
    top_k: int
    condition: Condition | None
    mode: Mode

    def __post_init__(self) -> None:
        if not is_page_number(self.top_k):
            raise SettingError(f"top_k is {self.top_k!r}; it is the number of pages wanted, 1 or more.")
        if self.mode not in get_args(Mode):
            raise SettingError(f"mode is {self.mode!r}; allowed: {', '.join(get_args(Mode))}.")


def is_page_number(value: object) -> bool:
    """Whether it is a number of pages: an integer from 1, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def search(parts: CollectionParts, query: StoreQuery, settings: SearchSettings) -> tuple[list[SearchHit], str]:
    """The best points with their payload, best first, and what their score is."""
    if query.mode == "lexical":
        return _lexical(parts.engine, query), "bm25"
    if query.vector is None:
        raise SettingError(
            f"mode={query.mode!r} searches with a vector, and there is none. Give one, or say mode='lexical'."
        )
    schema = schema_for(query.vector, parts.schemas)
    vector = check_vector(query.vector, schema, "The query")
    if query.mode == "hybrid":
        return _hybrid(parts.engine, schema, vector, query, settings), "fused"
    if vector is None:
        return [], "cosine"
    first_pass = _first_pass(schema, query.top_k, settings)
    asked = VectorSearch(schema.vector_name, vector, query.top_k, query.condition, among=first_pass)
    return parts.engine.nearest(asked), "maxsim" if schema.kind == "multi" else "cosine"


def exact_scores(parts: CollectionParts, vector: Any, ids: tuple[str, ...]) -> list[SearchHit]:
    """These points with their dense score by all their vectors; of those that have some."""
    schema = schema_for(vector, parts.schemas)
    checked = check_vector(vector, schema, "The query")
    if checked is None:
        return []
    fields = ("visrag.mark",) if parts.mark else False
    return parts.engine.nearest(
        VectorSearch(schema.vector_name, checked, len(ids), Ids(ids), with_payload=fields, exact=True)
    )


def _first_pass(schema: Schema, limit: int, settings: SearchSettings) -> Candidates | None:
    """The first pass over pooled vectors, in a collection that has them."""
    if not schema.pooling:
        return None
    return Candidates(POOLED_VECTOR, max(settings.candidates, _PROPOSED_PER_PAGE * limit))


def _query_vector(text: str) -> SparseVector | None:
    indices, values = lexical.query_vector(text)
    if not indices:
        return None
    return SparseVector(indices, values)


def _lexical(engine: Engine, query: StoreQuery) -> list[SearchHit]:
    words = _query_vector(query.text)
    if words is None:
        return []
    return engine.nearest(VectorSearch(TEXT_VECTOR, words, query.top_k, query.condition))


def _hybrid(
    engine: Engine, schema: Schema, vector: Vector | None, query: StoreQuery, settings: SearchSettings
) -> list[SearchHit]:
    """Candidates of both halves, fused by their scores or by their ranks."""
    words = _query_vector(query.text)
    limit = max(settings.candidates, _PROPOSED_PER_PAGE * query.top_k)
    # `limit` has the factor already: a first pass takes as many candidates as in a dense search for the wanted pages.
    first_pass = _first_pass(schema, limit // _PROPOSED_PER_PAGE, settings)
    halves: list[VectorSearch] = []
    if vector is not None:
        halves.append(VectorSearch(schema.vector_name, vector, limit, query.condition, among=first_pass))
    if words is not None:
        halves.append(VectorSearch(TEXT_VECTOR, words, limit, query.condition))
    if settings.fusion == "rrf":
        return _by_ranks(engine, halves, query.top_k, settings.weights)
    dense_factor, lexical_factor = lexical.fusion_factors(query.text)
    if schema.kind == "multi" and vector is not None:
        dense_factor /= len(vector)  # MaxSim is a sum over so many
    factors = (dense_factor, lexical_factor)
    if len(halves) < 2:
        return _one_half(engine, halves, query.top_k, factors)
    by_vector, by_words = halves
    # Many vectors have no graph and no one-bit copy; without pooled ones all of them are compared.
    all_compared = schema.kind == "multi" and first_pass is None and not schema.binary
    found = engine.fused(FusedSearch(by_vector, by_words, factors, query.top_k, all_compared))
    return sorted(found, key=_best_first)


def _best_first(hit: SearchHit) -> tuple[float, str]:
    return -hit.score, hit.id  # equal pages in one order, whatever the engine's


def _one_half(
    engine: Engine, halves: Sequence[VectorSearch], top_k: int, factors: tuple[float, float]
) -> list[SearchHit]:
    """A hybrid search for a query that has a vector only, or words only."""
    found: list[SearchHit] = []
    for half in halves:
        for hit in engine.nearest(replace(half, limit=top_k)):
            score = max(0.0, hit.score)
            if half.is_lexical:
                score = (factors[1] * score) ** 2
            else:
                score *= factors[0]
            found.append(SearchHit(hit.id, score, hit.payload))
    return sorted(found, key=_best_first)


def _by_ranks(
    engine: Engine, halves: Sequence[VectorSearch], top_k: int, weights: tuple[float, float]
) -> list[SearchHit]:
    """Fused by reciprocal ranks."""
    scores: dict[bool, dict[str, float]] = {False: {}, True: {}}
    for half in halves:
        found = engine.nearest(replace(half, with_payload=False))
        scores[half.is_lexical] = {hit.id: hit.score for hit in found}
    fused = reciprocal_ranks([scores[False], scores[True]], weights)
    best = sorted(fused, key=lambda id_: (-fused[id_], id_))[:top_k]
    payloads = {record.id: record.payload for record in engine.retrieve(best)}
    return [SearchHit(id_, fused[id_], payloads[id_]) for id_ in best if id_ in payloads]


def reciprocal_ranks(lists: Sequence[dict[str, float]], weights: Sequence[float]) -> dict[str, float]:
    """Reciprocal rank fusion: for every id the sum of weight / (60 + its rank from 1) over the lists it is in.

    >>> fused = reciprocal_ranks([{"a": 0.9, "b": 0.1}, {"b": 7.0}], (1.0, 0.5))
    >>> [(id_, round(score * 1000, 2)) for id_, score in fused.items()]
    [('a', 16.39), ('b', 24.33)]
    """
    fused: dict[str, float] = {}
    for scores, weight in zip(lists, weights, strict=True):
        for rank, id_ in enumerate(sorted(scores, key=lambda id_: (-scores[id_], id_)), 1):
            fused[id_] = fused.get(id_, 0.0) + weight / (_RANK_OFFSET + rank)
    return fused
