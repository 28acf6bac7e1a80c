"""What a server refuses of points, vectors, ids and filters, which `QdrantClient(":memory:")` takes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import pydantic

from fake_qdrant.requests import Refusal
from fake_qdrant.state import FakeCollection
from fake_qdrant.strict_mode import conditions

LARGEST_MULTIVECTOR = 1_048_576
"""Numbers in one multi-vector: fewer than this."""


def check_body(body: Any, model: type[pydantic.BaseModel]) -> Any:
    """The body as the client's own model.

    Raises:
        Refusal: It does not fit.
    """
    try:
        return model(**body)
    except pydantic.ValidationError as err:
        raise Refusal(400, f"Format error in JSON body: {_first(err)}") from err


def check_ids(ids: Iterable[Any]) -> None:
    """Refuse ids that are no UUID and no whole number from 0."""
    for id_ in ids:
        if isinstance(id_, int) and not isinstance(id_, bool) and id_ >= 0:
            continue
        try:
            uuid.UUID(id_)
        except (ValueError, AttributeError, TypeError):
            raise Refusal(
                400,
                f"Format error in JSON body: value {id_} is not a valid point ID, valid values are either an unsigned "
                "integer or a UUID",
            ) from None


def check_conditions(filter: Any) -> None:
    """Refuse what no filter may say: a match with a float, an id that is none."""
    for condition in conditions(filter):
        match = condition.get("match") or {}
        values = [match.get("value"), *(match.get("any") or ()), *(match.get("except") or ())]
        if any(isinstance(value, float) for value in values):
            raise Refusal(
                400, "Format error in JSON body: data did not match any variant of untagged enum MatchInterface"
            )
        check_ids(condition.get("has_id") or ())


def check_query(query: dict[str, Any], collection: FakeCollection) -> None:
    """Refuse a search in vectors that the collection lacks, at any depth of prefetches."""
    prefetches = query.get("prefetch") or []
    for prefetch in [prefetches] if isinstance(prefetches, dict) else prefetches:
        check_query(prefetch, collection)
    check_conditions(query.get("filter"))
    asked = query.get("query")
    if isinstance(asked, str):
        check_ids([asked])
    if asked is None or (isinstance(asked, dict) and asked.keys() & {"fusion", "formula", "order_by", "sample", "rrf"}):
        return
    check_vector_name(query.get("using") or "", collection)
    if _is_numbers(asked):
        _check_dimension(query.get("using") or "", asked, collection)


def check_vector_name(name: str, collection: FakeCollection) -> None:
    """Refuse vectors that the collection lacks."""
    if name not in collection.vector_names:
        raise Refusal(400, f"Wrong input: Not existing vector name error: {name}")


def check_points(points: list[dict[str, Any]], collection: FakeCollection) -> None:
    """Refuse a request with a point that cannot be stored: none of them is."""
    check_ids(point.get("id") for point in points)
    for point in points:
        for name, vector in _named(point.get("vector")):
            check_vector_name(name, collection)
            _check_vector(name, vector, collection)


def _check_vector(name: str, vector: Any, collection: FakeCollection) -> None:
    if isinstance(vector, dict):
        return  # sparse
    if not vector:
        raise Refusal(422, "Validation error in JSON body: [vector: dense vector must not be empty]")
    rows = vector if isinstance(vector[0], list) else [vector]
    if any(not row for row in rows):
        raise Refusal(422, "Validation error in JSON body: [vector: dense vector must not be empty]")
    numbers = sum(len(row) for row in rows)
    if len(rows) > 1 and numbers >= LARGEST_MULTIVECTOR:
        raise Refusal(
            422,
            f"Validation error in JSON body: [vector: Total size of all vectors ({numbers}) must be less than "
            f"{LARGEST_MULTIVECTOR}]",
        )
    _check_dimension(name, vector, collection)


def _check_dimension(name: str, vector: Any, collection: FakeCollection) -> None:
    wanted = (collection.vectors.get(name) or {}).get("size")
    row = vector[0] if vector and isinstance(vector[0], list) else vector
    if wanted is not None and len(row) != wanted:
        raise Refusal(400, f"Wrong input: Vector dimension error: expected dim: {wanted}, got {len(row)}")


def _is_numbers(query: Any) -> bool:
    return isinstance(query, list) and bool(query)


def _named(vector: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(vector, dict) and "indices" not in vector:
        yield from vector.items()
    elif vector is not None:
        yield "", vector


def _first(err: pydantic.ValidationError) -> str:
    return re.sub(r"\s+", " ", str(err.errors()[0]["msg"]))
