"""The ways to search a collection: by vector, by words, by both."""

from __future__ import annotations

from typing import Any

from visrag_integrations import lexical
from visrag_integrations.errors import SettingError
from visrag_integrations.store.engine import TEXT_VECTOR, Engine, Found, Schema, SparseVector, Vector
from visrag_integrations.store.filters import Condition, Ids
from visrag_integrations.store.vectors import check_vector
from visrag_integrations.types import Mode

CANDIDATES = 100
"""How many pages each half of a hybrid search proposes, at least."""


def search(
    engine: Engine, schema: Schema, vector: Any, text: str, top_k: int, condition: Condition | None, mode: Mode
) -> tuple[list[Found], str]:
    """The best points with their payload, best first, and what their score is."""
    if mode == "lexical":
        return _lexical(engine, text, top_k, condition), "bm25"
    if vector is None:
        raise SettingError(f"mode={mode!r} searches with a vector, and there is none. Give one, or say mode='lexical'.")
    checked = check_vector(vector, schema, lambda: "The query")
    if mode == "hybrid":
        return _hybrid(engine, schema.vector_name, checked, text, top_k, condition), "fused"
    if checked is None:
        return [], "cosine"
    found = engine.nearest(schema.vector_name, checked, top_k, condition)
    return found, "maxsim" if schema.kind == "multi" else "cosine"


def text_vector(text: str) -> SparseVector | None:
    """The lexical vector of a page's text; None when it has no words."""
    indices, values = lexical.document_vector(text) if text else ([], [])
    return SparseVector(indices, values) if indices else None


def _query_vector(text: str) -> SparseVector | None:
    indices, values = lexical.query_vector(text)
    return SparseVector(indices, values) if indices else None


def _lexical(engine: Engine, text: str, top_k: int, condition: Condition | None) -> list[Found]:
    words = _query_vector(text)
    return [] if words is None else engine.nearest(TEXT_VECTOR, words, top_k, condition)


def _hybrid(
    engine: Engine, name: str, vector: Vector | None, text: str, top_k: int, condition: Condition | None
) -> list[Found]:
    """Candidates of both halves, each scored by both, fused."""
    halves: list[tuple[str, Vector | SparseVector]] = []
    words = _query_vector(text)
    if vector is not None:
        halves.append((name, vector))
    if words is not None:
        halves.append((TEXT_VECTOR, words))
    limit = max(CANDIDATES, 4 * top_k)
    scores: dict[str, dict[str, float]] = {name: {}, TEXT_VECTOR: {}}
    for half, asked in halves:
        found = engine.nearest(half, asked, limit, condition, with_payload=False)
        scores[half] = {hit.id: hit.score for hit in found}
    candidates = {id_ for half in scores.values() for id_ in half}
    for half, asked in halves:
        missing = tuple(candidates - scores[half].keys())
        if missing:
            found = engine.nearest(half, asked, len(missing), Ids(missing), with_payload=False, exact=True)
            scores[half].update({hit.id: hit.score for hit in found})
    vectors = len(vector) if vector is not None and vector.ndim == 2 else 1  # MaxSim is a sum over the query's vectors
    dense = {id_: score / vectors for id_, score in scores[name].items()}
    fused = lexical.fuse(dense, scores[TEXT_VECTOR], text)
    best = sorted(fused, key=lambda id_: (-fused[id_], id_))[:top_k]
    payloads = {record.id: record.payload for record in engine.retrieve(best)}
    return [Found(id_, fused[id_], payloads[id_]) for id_ in best if id_ in payloads]
