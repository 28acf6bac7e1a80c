"""Requests about points: written, removed, changed, looked up, searched, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from fake_qdrant import cluster as nodes
from fake_qdrant import strict_mode, validity
from fake_qdrant.requests import Refusal, Request
from fake_qdrant.state import FakeCollection
from fake_qdrant.validity import check_body

if TYPE_CHECKING:
    from fake_qdrant.server import FakeQdrant

_DONE = {"operation_id": 0, "status": "completed"}
Operation = Callable[["FakeQdrant", FakeCollection, dict[str, Any]], Any]


def answer(fake: FakeQdrant, request: Request) -> Any:
    """The result of a request about the points of a collection.

    Raises:
        Refusal: As a server refuses it.
    """
    if request.parts[0] != "collections" or len(request.parts) < 3:
        raise Refusal(404, "")
    collection = fake.collection(request.parts[1])
    operation = _OPERATIONS.get((request.method, "/".join(request.parts[2:])))
    if operation is None:
        raise Refusal(404, "")
    nodes.check_nodes(request, collection, fake.cluster)
    strict_mode.check_timeout(request.query, collection)
    if request.is_write and collection.created.get("sharding_method") == "custom" and not request.body.get("shard_key"):
        raise Refusal(400, "Wrong input: Shard key not specified")
    result = operation(fake, collection, request.body)
    if request.is_write:
        nodes.check_copies_written(collection, fake.cluster)
    return result


# --- writing --------------------------------------------------------------------------------------------------------


def _upsert(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    points = body["points"] if "points" in body else _from_batch(body["batch"])
    strict_mode.check_limit(len(points), collection, "upsert_max_batchsize", "upsert limit")
    validity.check_points(points, collection)
    settings: dict[str, Any] = {}
    if body.get("update_filter"):
        validity.check_conditions(body["update_filter"])
        strict_mode.check_filter(body["update_filter"], collection, update=True)
        settings["update_filter"] = check_body(body["update_filter"], models.Filter)
    if body.get("update_mode"):
        settings["update_mode"] = models.UpdateMode(body["update_mode"])
    filling = fake.cluster.disk_full_after
    if filling:  # a part is stored, then there is no place left
        points, fake.cluster.disk_full = points[:filling], True
    structs = check_body({"points": points}, models.PointsList).points
    fake.memory.upsert(collection.name, structs, **settings)
    if filling:
        raise Refusal(500, nodes.NO_SPACE)
    return _DONE


def _from_batch(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns as points."""
    payloads = batch.get("payloads") or [None] * len(batch["ids"])
    points = []
    for place, (id_, payload) in enumerate(zip(batch["ids"], payloads, strict=True)):
        vectors = batch.get("vectors") or {}
        if isinstance(vectors, dict):
            vector = {name: column[place] for name, column in vectors.items()}
        else:
            vector = vectors[place]
        points.append({"id": id_, "payload": payload, "vector": vector})
    return points


def _delete(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    fake.memory.delete(collection.name, _selected(collection, body))
    return _DONE


def _selected(collection: FakeCollection, body: dict[str, Any]) -> Any:
    """Which points a change means: ids or a filter."""
    if body.get("filter") is not None:
        validity.check_conditions(body["filter"])
        strict_mode.check_filter(body["filter"], collection, update=True)
        return check_body(body["filter"], models.Filter)
    validity.check_ids(body.get("points") or ())
    return body.get("points") or []


def _set_payload(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    chosen = _selected(collection, body)
    fake.memory.set_payload(collection.name, body["payload"], points=chosen, key=body.get("key"))
    return _DONE


def _overwrite_payload(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    fake.memory.overwrite_payload(collection.name, body["payload"], points=_selected(collection, body))
    return _DONE


def _delete_payload(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    fake.memory.delete_payload(collection.name, body["keys"], points=_selected(collection, body))
    return _DONE


def _clear_payload(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    fake.memory.clear_payload(collection.name, points_selector=_selected(collection, body))
    return _DONE


def _update_vectors(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    validity.check_points(body["points"], collection)
    fake.memory.update_vectors(collection.name, check_body(body, models.UpdateVectors).points)
    return _DONE


def _delete_vectors(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    for name in body["vector"]:
        validity.check_vector_name(name, collection)
    fake.memory.delete_vectors(collection.name, body["vector"], points=_selected(collection, body))
    return _DONE


_IN_A_BATCH: dict[str, Operation] = {
    "upsert": _upsert,
    "delete": _delete,
    "set_payload": _set_payload,
    "overwrite_payload": _overwrite_payload,
    "delete_payload": _delete_payload,
    "clear_payload": _clear_payload,
    "update_vectors": _update_vectors,
    "delete_vectors": _delete_vectors,
}


def _update_batch(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> list[dict[str, Any]]:
    results = []
    for operation in body["operations"]:
        ((name, said),) = operation.items()
        results.append(_IN_A_BATCH[name](fake, collection, said))
    return results


# --- reading --------------------------------------------------------------------------------------------------------


def _retrieve(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> list[dict[str, Any]]:
    validity.check_ids(body["ids"])
    _check_wanted(body.get("with_vector"), collection)
    asked = check_body(body, models.PointRequest)
    wanted = True if asked.with_payload is None else asked.with_payload
    records = fake.memory.retrieve(
        collection.name, asked.ids, with_payload=wanted, with_vectors=asked.with_vector or False
    )
    return [record.model_dump(mode="json") for record in records]


def _scroll(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    validity.check_conditions(body.get("filter"))
    strict_mode.check_filter(body.get("filter"), collection)
    strict_mode.check_limit(body.get("limit"), collection, "max_query_limit", "limit")
    _check_wanted(body.get("with_vector"), collection)
    asked = check_body(body, models.ScrollRequest)
    records, offset = fake.memory.scroll(
        collection.name,
        scroll_filter=asked.filter,
        limit=asked.limit or 10,
        order_by=asked.order_by,
        offset=asked.offset,
        with_payload=True if asked.with_payload is None else asked.with_payload,
        with_vectors=asked.with_vector or False,
    )
    return {"points": [record.model_dump(mode="json") for record in records], "next_page_offset": offset}


def _check_wanted(with_vector: Any, collection: FakeCollection) -> None:
    """Refuse to give vectors that the collection lacks."""
    for name in with_vector if isinstance(with_vector, list) else ():
        validity.check_vector_name(name, collection)


def _count(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    validity.check_conditions(body.get("filter"))
    strict_mode.check_exact(body.get("exact", True), collection)
    strict_mode.check_filter(body.get("filter"), collection)
    asked = check_body(body, models.CountRequest)
    return {"count": fake.memory.count(collection.name, asked.filter).count}


def _query(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    validity.check_query(body, collection)
    strict_mode.check_query(body, collection)
    asked = check_body(body, models.QueryRequest)
    found = fake.memory.query_points(
        collection.name,
        asked.query,
        using=asked.using,
        prefetch=asked.prefetch,
        query_filter=asked.filter,
        limit=asked.limit or 10,
        offset=asked.offset,
        with_payload=asked.with_payload or False,
        with_vectors=asked.with_vector or False,
        score_threshold=asked.score_threshold,
    )
    return {"points": [hit.model_dump(mode="json") for hit in found.points]}


def _query_batch(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [_query(fake, collection, search) for search in body["searches"]]


def _facet(fake: FakeQdrant, collection: FakeCollection, body: dict[str, Any]) -> dict[str, Any]:
    key = body["key"]
    if key not in collection.indexes:
        raise Refusal(
            400,
            f"Bad request: No appropriate index for faceting: `{key}`. Please create an index to facet on this field.",
        )
    strict_mode.check_exact(body.get("exact"), collection)
    strict_mode.check_filter(body.get("filter"), collection)
    asked = check_body(body, models.FacetRequest)
    found = fake.memory.facet(collection.name, key, facet_filter=asked.filter, limit=asked.limit or 10)
    return {"hits": [hit.model_dump(mode="json") for hit in found.hits]}


_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("PUT", "points"): _upsert,
    ("POST", "points/delete"): _delete,
    ("POST", "points/payload"): _set_payload,
    ("PUT", "points/payload"): _overwrite_payload,
    ("POST", "points/payload/delete"): _delete_payload,
    ("POST", "points/payload/clear"): _clear_payload,
    ("PUT", "points/vectors"): _update_vectors,
    ("POST", "points/vectors/delete"): _delete_vectors,
    ("POST", "points/batch"): _update_batch,
    ("POST", "points"): _retrieve,
    ("POST", "points/scroll"): _scroll,
    ("POST", "points/count"): _count,
    ("POST", "points/query"): _query,
    ("POST", "points/query/batch"): _query_batch,
    ("POST", "facet"): _facet,
}
