"""The ways to search a collection: by vector, by words, by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from visrag_integrations.errors import SettingError
from visrag_integrations.scores import lexical
from visrag_integrations.store.engine import (
    POOLED_VECTOR,
    TEXT_VECTOR,
    Candidates,
    Engine,
    Found,
    Schema,
    SparseVector,
    Vector,
)
from visrag_integrations.store.filters import Condition, Ids
from visrag_integrations.store.vectors import check_vector, schema_for
from visrag_integrations.types import Mode

Fusion = Literal["scores", "rrf"]
_RANK_OFFSET = 60.0  # of RRF: how little the first ranks differ


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
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int) or self.candidates < 1:
            raise SettingError(f"candidates is {self.candidates!r}; it is a number of pages, 1 or more.")
        if self.fusion not in get_args(Fusion):
            raise SettingError(f"fusion is {self.fusion!r}; allowed: {', '.join(get_args(Fusion))}.")
        if len(self.weights) != 2 or not all(0 <= w < float("inf") for w in self.weights) or not any(self.weights):
            raise SettingError(f"fusion_weights is {self.weights!r}; give two numbers, for example (1.0, 0.5).")
        if self.fusion != "rrf" and tuple(self.weights) != (1.0, 1.0):
            raise SettingError("fusion_weights are for fusion='rrf' only. Say fusion='rrf', or leave them out.")


@dataclass(frozen=True)
class Asked:
    """One question to a collection."""

    vector: Any
    text: str
    top_k: int
    condition: Condition | None
    mode: Mode

    def __post_init__(self) -> None:
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1:
            raise SettingError(f"top_k is {self.top_k!r}; it is the number of pages wanted, 1 or more.")
        if self.mode not in get_args(Mode):
            raise SettingError(f"mode is {self.mode!r}; allowed: {', '.join(get_args(Mode))}.")


def search(
    engine: Engine, schemas: Sequence[Schema], asked: Asked, settings: SearchSettings
) -> tuple[list[Found], str]:
    """The best points with their payload, best first, and what their score is."""
    if asked.mode == "lexical":
        return _lexical(engine, asked), "bm25"
    if asked.vector is None:
        raise SettingError(
            f"mode={asked.mode!r} searches with a vector, and there is none. Give one, or say mode='lexical'."
        )
    schema = schema_for(asked.vector, schemas)
    vector = check_vector(asked.vector, schema, lambda: "The query")
    if asked.mode == "hybrid":
        return _hybrid(engine, schema, replace(asked, vector=vector), settings), "fused"
    if vector is None:
        return [], "cosine"
    among = _among(schema, asked.top_k, settings)
    found = engine.nearest(schema.vector_name, vector, asked.top_k, asked.condition, among=among)
    return found, "maxsim" if schema.kind == "multi" else "cosine"


def exact_scores(engine: Engine, schemas: Sequence[Schema], vector: Any, ids: tuple[str, ...]) -> dict[str, float]:
    """The dense score of each of these points by all its vectors; of those that have some."""
    schema = schema_for(vector, schemas)
    asked = check_vector(vector, schema, lambda: "The query")
    if asked is None:
        return {}
    found = engine.nearest(schema.vector_name, asked, len(ids), Ids(ids), with_payload=False, exact=True)
    return {hit.id: hit.score for hit in found}


def _among(schema: Schema, limit: int, settings: SearchSettings) -> Candidates | None:
    """The first pass over pooled vectors, in a collection that has them."""
    return Candidates(POOLED_VECTOR, max(settings.candidates, 4 * limit)) if schema.pooling else None


def _query_vector(text: str) -> SparseVector | None:
    indices, values = lexical.query_vector(text)
    return SparseVector(indices, values) if indices else None


def _lexical(engine: Engine, asked: Asked) -> list[Found]:
    words = _query_vector(asked.text)
    return [] if words is None else engine.nearest(TEXT_VECTOR, words, asked.top_k, asked.condition)


def _hybrid(engine: Engine, schema: Schema, asked: Asked, settings: SearchSettings) -> list[Found]:
    """Candidates of both halves, fused by their scores or by their ranks."""
    name, words = schema.vector_name, _query_vector(asked.text)
    limit = max(settings.candidates, 4 * asked.top_k)
    scores: dict[str, dict[str, float]] = {name: {}, TEXT_VECTOR: {}}
    if asked.vector is not None:
        among = _among(schema, limit // 4, settings)
        found = engine.nearest(name, asked.vector, limit, asked.condition, with_payload=False, among=among)
        scores[name] = {hit.id: hit.score for hit in found}
    if words is not None:
        found = engine.nearest(TEXT_VECTOR, words, limit, asked.condition, with_payload=False)
        scores[TEXT_VECTOR] = {hit.id: hit.score for hit in found}
    if settings.fusion == "rrf":
        fused = reciprocal_ranks([scores[name], scores[TEXT_VECTOR]], settings.weights)
    else:
        _complete(engine, {name: asked.vector, TEXT_VECTOR: words}, scores)
        vectors = len(asked.vector) if schema.kind == "multi" and asked.vector is not None else 1
        dense = {id_: score / vectors for id_, score in scores[name].items()}  # MaxSim is a sum over so many
        fused = lexical.fuse(dense, scores[TEXT_VECTOR], asked.text)
    best = sorted(fused, key=lambda id_: (-fused[id_], id_))[: asked.top_k]
    payloads = {record.id: record.payload for record in engine.retrieve(best)}
    return [Found(id_, fused[id_], payloads[id_]) for id_ in best if id_ in payloads]


def _complete(
    engine: Engine, asked: dict[str, Vector | SparseVector | None], scores: dict[str, dict[str, float]]
) -> None:
    """Give the candidates of one half the score they have in the other."""
    candidates = {id_ for half in scores.values() for id_ in half}
    for half, vector in asked.items():
        missing = tuple(candidates - scores[half].keys())
        if missing and vector is not None:
            found = engine.nearest(half, vector, len(missing), Ids(missing), with_payload=False, exact=True)
            scores[half].update({hit.id: hit.score for hit in found})


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
