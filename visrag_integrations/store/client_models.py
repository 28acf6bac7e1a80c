"""What the client's own models look like for our values: vector settings, points, filters. Pure."""

from __future__ import annotations

import uuid
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.store import conditions
from visrag_integrations.store.engine import POOLED_VECTOR, Schema, SparseVector, Vector

INFO_ID = str(uuid.UUID("00000000-0000-5000-8000-000000000001"))


def vector_params(schema: Schema) -> dict[str, Any]:
    """The settings of one embedder's vectors in a new collection, and of their pooled ones, by name."""
    from qdrant_client import models

    common: dict[str, Any] = {"size": schema.dimension, "distance": models.Distance.COSINE}
    graph = None
    if schema.kind == "multi":
        maxsim = models.MultiVectorComparator.MAX_SIM
        common["multivector_config"] = models.MultiVectorConfig(comparator=maxsim)
        graph = models.HnswConfigDiff(m=0)  # no graph over all vectors of all pages: searches compare them exactly
    quantization = None
    if schema.binary:
        quantization = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    dense = models.VectorParams(
        **common,
        datatype=_datatype(schema.storage),
        quantization_config=quantization,
        hnsw_config=graph,
        on_disk=True if schema.pooling else None,  # a search reads those of the candidates only
    )
    if not schema.pooling:
        return {schema.vector_name: dense}
    # Pooled vectors are few, and much faster to compare as float32; only a compact collection saves there too.
    pooled_storage = "8bit" if schema.storage == "compact" else "float32"
    pooled = models.VectorParams(**common, datatype=_datatype(pooled_storage))
    return {schema.vector_name: dense, POOLED_VECTOR: pooled}


def _datatype(storage: str) -> Any:
    from qdrant_client import models

    if storage == "float32":
        return None
    name = {"float16": "FLOAT16", "8bit": "TURBO8", "compact": "TURBO4"}[storage]
    if name not in models.Datatype.__members__:
        raise SettingError(
            f"storage={storage!r} needs an embedded folder or a newer qdrant-client. Say storage='float16'."
        )
    return models.Datatype[name]


def to_vector(vector: Vector | SparseVector) -> Any:
    """A vector as requests carry it."""
    if isinstance(vector, SparseVector):
        from qdrant_client import models

        return models.SparseVector(indices=vector.indices, values=vector.values)
    return vector.tolist()


def only_pages(condition: conditions.Condition | None) -> Any:
    """The filter, and the reserved point left out."""
    return to_filter(conditions.both(conditions.Not(conditions.Ids((INFO_ID,))), condition) or conditions.All(()))


def no_points() -> Any:
    """A filter that no point fits."""
    from qdrant_client import models

    return models.Filter(must=[models.HasIdCondition(has_id=[])])


def misfits(config: Any, wanted: dict[str, Any]) -> list[str]:
    """What keeps an empty collection that others made from holding these vectors, in words; nothing where all fits.

    Args:
        config: The `config.params` of the collection.
        wanted: The settings that this library would have made it with, by name (`vector_params`), and the sparse ones.
    """
    there: dict[str, Any] = {}
    for vectors in (config.vectors, config.sparse_vectors):
        if isinstance(vectors, dict):
            there |= vectors
    problems: list[str] = []
    for name, vector in wanted.items():
        found = there.get(name)
        if found is None:
            problems.append(f"it has no vectors named {name!r}")
            continue
        for setting in ("size", "distance", "modifier"):
            right, actual = getattr(vector, setting, None), getattr(found, setting, None)
            if right != actual:
                problems.append(f"{name!r} has the {setting} {_said(actual)} instead of {_said(right)}")
        if (getattr(vector, "multivector_config", None) is None) != (
            getattr(found, "multivector_config", None) is None
        ):
            kind = "many vectors" if getattr(vector, "multivector_config", None) is not None else "one vector"
            problems.append(f"{name!r} is to hold {kind} a page")
        if _said(getattr(found, "datatype", None)) == "uint8":
            problems.append(f"{name!r} keeps whole numbers (uint8)")
    return problems


def _said(value: Any) -> str:
    """A setting as messages show it: of an enumeration its value."""
    return str(getattr(value, "value", value))


def to_filter(condition: conditions.Condition) -> Any:
    """A condition as a filter."""
    from qdrant_client import models

    translated = _condition(condition)
    if isinstance(translated, models.Filter):
        return translated
    return models.Filter(must=[translated])


def _condition(condition: conditions.Condition) -> Any:
    from qdrant_client import models

    match condition:
        case conditions.FieldMatch():
            return _match(condition)
        case conditions.Range(key, bounds, True):
            return models.FieldCondition(key=key, range=models.DatetimeRange(**bounds))
        case conditions.Range(key, bounds):
            return models.FieldCondition(key=key, range=models.Range(**bounds))
        case conditions.Empty(key):
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        case conditions.Ids(ids):
            return models.HasIdCondition(has_id=list(ids))
        case conditions.Not(inner):
            return models.Filter(must_not=[_condition(inner)])
        case conditions.All(inner_conditions):
            return models.Filter(must=[_condition(inner) for inner in inner_conditions])
        case conditions.Either(inner_conditions):
            return models.Filter(should=[_condition(inner) for inner in inner_conditions])
        case _:
            return condition.filter


def _match(condition: conditions.FieldMatch) -> Any:
    from qdrant_client import models

    truths, texts, numbers = condition.by_type()
    matches: list[Any] = [models.MatchValue(value=truth) for truth in truths]
    if texts or not condition.values:  # any of no values matches nothing, as it should
        matches.append(models.MatchAny(any=texts))
    if numbers:
        matches.append(models.MatchAny(any=numbers))
    fields: list[Any] = [models.FieldCondition(key=condition.key, match=match) for match in matches]
    if len(fields) == 1:
        return fields[0]
    return models.Filter(should=fields)
