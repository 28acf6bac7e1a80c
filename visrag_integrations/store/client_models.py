"""What the client's own models look like for our values: vector settings, points, filters. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.store import filters
from visrag_integrations.store.engine import POOLED_VECTOR, Point, Schema, SparseVector, Vector

INFO_ID = str(uuid.UUID("00000000-0000-5000-8000-000000000001"))
_FLOATS_PER_REQUEST = 500_000  # a server takes 32 MiB a request, and a float is up to 20 bytes of JSON


def vector_params(schema: Schema) -> dict[str, Any]:
    """The settings of one embedder's vectors in a new collection, and of their pooled ones, by name."""
    from qdrant_client import models

    multi = schema.kind == "multi"
    maxsim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    binary = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    common: dict[str, Any] = {
        "size": schema.dimension,
        "distance": models.Distance.COSINE,
        "multivector_config": maxsim if multi else None,
    }
    dense = models.VectorParams(
        **common,
        datatype=_datatype(schema.storage),
        quantization_config=binary if schema.binary else None,
        hnsw_config=models.HnswConfigDiff(m=0) if multi else None,
        on_disk=True if schema.pooling else None,
    )
    if not schema.pooling:
        return {schema.vector_name: dense}
    pooled = models.VectorParams(**common, datatype=_datatype("8bit" if schema.storage == "compact" else "float32"))
    return {schema.vector_name: dense, POOLED_VECTOR: pooled}


def _datatype(storage: str) -> Any:
    from qdrant_client import models

    name = {"float32": None, "float16": "FLOAT16", "8bit": "TURBO8", "compact": "TURBO4"}[storage]
    if name is not None and not hasattr(models.Datatype, name):
        raise SettingError(
            f"storage={storage!r} needs an embedded folder or a newer qdrant-client. Say storage='float16'."
        )
    return None if name is None else models.Datatype[name]


def requests(points: Sequence[Point], structs: list[Any]) -> Iterator[list[Any]]:
    """The structs in requests that a server takes."""
    batch: list[Any] = []
    floats = 0
    for point, struct in zip(points, structs, strict=True):
        size = 2000 + sum(v.size for v in point.vectors.values() if not isinstance(v, SparseVector))
        if batch and floats + size > _FLOATS_PER_REQUEST:
            yield batch
            batch, floats = [], 0
        batch.append(struct)
        floats += size
    if batch:
        yield batch


def to_vector(vector: Vector | SparseVector) -> Any:
    """A vector as requests carry it."""
    if isinstance(vector, SparseVector):
        from qdrant_client import models

        return models.SparseVector(indices=vector.indices, values=vector.values)
    return vector.tolist()


def only_pages(condition: filters.Condition | None) -> Any:
    """The filter, and the reserved point left out."""
    return to_filter(filters.both(filters.Not(filters.Ids((INFO_ID,))), condition) or filters.All(()))


def to_filter(condition: filters.Condition) -> Any:
    """A condition as a filter."""
    from qdrant_client import models

    translated = _condition(condition)
    return translated if isinstance(translated, models.Filter) else models.Filter(must=[translated])


def _condition(condition: filters.Condition) -> Any:
    from qdrant_client import models

    match condition:
        case filters.Match(key, values):
            return _match(key, values)
        case filters.Range(key, bounds, True):
            return models.FieldCondition(key=key, range=models.DatetimeRange(**bounds))
        case filters.Range(key, bounds):
            return models.FieldCondition(key=key, range=models.Range(**bounds))
        case filters.Empty(key):
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        case filters.Ids(ids):
            return models.HasIdCondition(has_id=list(ids))
        case filters.Not(inner):
            return models.Filter(must_not=[_condition(inner)])
        case filters.All(inner_conditions):
            return models.Filter(must=[_condition(inner) for inner in inner_conditions])
        case filters.Either(inner_conditions):
            return models.Filter(should=[_condition(inner) for inner in inner_conditions])
        case _:
            return condition.filter


def _match(key: str, values: tuple[filters.Value, ...]) -> Any:
    from qdrant_client import models

    texts = [v for v in values if isinstance(v, str)]
    numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    matches: list[Any] = [models.MatchValue(value=v) for v in values if isinstance(v, bool)]
    matches += [models.MatchAny(any=texts)] if texts or not values else []
    matches += [models.MatchAny(any=numbers)] if numbers else []
    conditions: list[Any] = [models.FieldCondition(key=key, match=match) for match in matches]
    return conditions[0] if len(conditions) == 1 else models.Filter(should=conditions)
