"""What the embedded engine's own classes look like for our values: its settings, vectors, filters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import FilterError
from visrag_integrations.store import conditions
from visrag_integrations.store.engine import POOLED_VECTOR, TEXT_VECTOR, Schema, SparseVector, Vector

if TYPE_CHECKING:
    import qdrant_edge as qe


def to_config(schemas: Sequence[Schema]) -> qe.EdgeConfig:
    """The settings of a new collection."""
    import qdrant_edge as qe

    vectors: dict[str, qe.EdgeVectorParams] = {}
    for schema in schemas:
        vectors |= _vector_params(schema)
    words = qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)
    return qe.EdgeConfig(vectors=dict(vectors), sparse_vectors={TEXT_VECTOR: words})


def _vector_params(schema: Schema) -> dict[str, qe.EdgeVectorParams]:
    """One embedder's vectors, and their pooled ones."""
    import qdrant_edge as qe

    types = qe.VectorStorageDatatype
    datatypes: dict[str, Any] = {
        "float32": types.Float32,
        "float16": types.Float16,
        "8bit": types.Turbo8,
        "compact": types.Turbo4,  # type: ignore[attr-defined]  # its stubs do not know it yet
    }
    common: dict[str, Any] = {"size": schema.dimension, "distance": qe.Distance.Cosine}
    graph = None
    if schema.kind == "multi":
        common["multivector_config"] = qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim)
        # No graph over all vectors of all pages (m=0): searches compare them exactly. The other two are the engine's
        # own defaults, which it wants said.
        graph = qe.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000)
    dense = qe.EdgeVectorParams(
        **common,
        datatype=datatypes[schema.storage],
        quantization_config=qe.BinaryQuantizationConfig() if schema.binary else None,
        hnsw_config=graph,
        memory=qe.Memory.Cold if schema.pooling else None,  # a search reads those of the candidates only
    )
    if not schema.pooling:
        return {schema.vector_name: dense}
    # Pooled vectors are few, and much faster to compare as float32; only a compact collection saves there too.
    pooled = qe.EdgeVectorParams(**common, datatype=types.Turbo8 if schema.storage == "compact" else None)
    return {schema.vector_name: dense, POOLED_VECTOR: pooled}


def to_index(kind: str) -> qe.PayloadSchemaType:
    """The engine's index for fields of this kind."""
    import qdrant_edge as qe

    found: qe.PayloadSchemaType = getattr(qe.PayloadSchemaType, kind.capitalize())
    return found


def to_vector(vector: Vector | SparseVector) -> Any:
    """A vector as the engine takes it."""
    if isinstance(vector, SparseVector):
        import qdrant_edge as qe

        return qe.SparseVector(vector.indices, vector.values)
    # The engine reads numpy arrays too, number by number: 83 us for 2304 of them, 41 as a list.
    return vector.tolist()


def to_filter(condition: conditions.Condition | None) -> qe.Filter | None:
    """A condition as a filter; None for none."""
    import qdrant_edge as qe

    if condition is None:
        return None
    translated = _condition(condition)
    if isinstance(translated, qe.Filter):
        return translated
    return qe.Filter(must=[translated])


def _condition(condition: conditions.Condition) -> Any:
    import qdrant_edge as qe

    match condition:
        case conditions.FieldMatch():
            return _match(condition)
        case conditions.Range(key, bounds, True):
            return qe.FieldCondition(key, range=qe.RangeDateTime(**bounds))
        case conditions.Range(key, bounds):
            return qe.FieldCondition(key, range=qe.RangeFloat(**bounds))
        case conditions.Empty(key):
            return qe.IsEmptyCondition(key)
        case conditions.Ids(ids):
            return qe.HasIdCondition(set(ids))
        case conditions.Not(inner):
            return qe.Filter(must_not=[_condition(inner)])
        case conditions.All(inner_conditions):
            return qe.Filter(must=[_condition(inner) for inner in inner_conditions])
        case conditions.Either(inner_conditions):
            return qe.Filter(should=[_condition(inner) for inner in inner_conditions])
        case _:
            raise FilterError("A Qdrant client Filter works with a client, not with an embedded folder; use a dict.")


def _match(condition: conditions.FieldMatch) -> Any:
    import qdrant_edge as qe

    truths, texts, numbers = condition.by_type()
    # A Python bool would be taken for the integer it is; numpy's is taken for a bool.
    matches: list[Any] = [qe.MatchValue(np.bool_(truth)) for truth in truths]  # type: ignore[arg-type]
    if texts or not condition.values:  # any of no values matches nothing, as it should
        matches.append(qe.MatchAny(texts))
    if numbers:
        matches.append(qe.MatchAny(numbers))
    fields: list[Any] = [qe.FieldCondition(condition.key, match=match) for match in matches]
    if len(fields) == 1:
        return fields[0]
    return qe.Filter(should=fields)
