"""Each gRPC method as a request in REST's words, and its result as the message that answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from fake_qdrant.requests import Request

_CONSISTENCY = {0: "all", 1: "majority", 2: "quorum"}
_ORDERING = {0: "weak", 1: "medium", 2: "strong"}


class Method(NamedTuple):
    """How a call becomes a request, and a result a reply."""

    request: Callable[[Any], Request]
    reply: Callable[[Any], Any]


def plain(model: Any) -> Any:
    """A model as JSON, without what is not set; payloads never come this way, for theirs may hold null."""
    if isinstance(model, list):
        return [plain(item) for item in model]
    return model.model_dump(mode="json", exclude_none=True) if hasattr(model, "model_dump") else model


def _request(method: str, call: Any, tail: str = "", body: Any = None) -> Request:
    """A request about the call's collection, with what a URL's query would say."""
    query: dict[str, str] = {}
    fields = call.DESCRIPTOR.fields_by_name
    if "timeout" in fields and call.HasField("timeout"):
        query["timeout"] = str(call.timeout)
    if "ordering" in fields and call.HasField("ordering"):
        query["ordering"] = _ORDERING[call.ordering.type]
    if "wait" in fields and call.HasField("wait"):
        query["wait"] = str(call.wait).lower()
    if "read_consistency" in fields and call.HasField("read_consistency"):
        said = call.read_consistency
        by_name = said.WhichOneof("value") == "type"
        query["consistency"] = _CONSISTENCY[said.type] if by_name else str(said.factor)
    if "shard_key_selector" in fields and call.HasField("shard_key_selector"):
        body["shard_key"] = True  # that there is one is all that is looked at
    return Request(method, f"/collections/{call.collection_name}{tail}", query, body=body)


def _optional(call: Any, field: str, convert: Callable[[Any], Any]) -> dict[str, Any]:
    """The field as a part of a body; nothing where it is not set."""
    return {field: plain(convert(getattr(call, field)))} if call.HasField(field) else {}


def _selected(selector: Any) -> dict[str, Any]:
    """Points by ids or by a filter."""
    chosen = plain(GrpcToRest.convert_points_selector(selector))
    return {key: value for key, value in chosen.items() if key in ("points", "filter")}


def _point(struct: Any) -> dict[str, Any]:
    point: dict[str, Any] = {"id": GrpcToRest.convert_point_id(struct.id)}
    point["payload"] = GrpcToRest.convert_payload(struct.payload)
    point["vector"] = _vectors(GrpcToRest.convert_vectors(struct.vectors)) if struct.HasField("vectors") else {}
    return point


def _vectors(vectors: Any) -> Any:
    if isinstance(vectors, dict):
        return {name: plain(vector) for name, vector in vectors.items()}
    return plain(vectors)


# --- replies --------------------------------------------------------------------------------------------------------


def _updated(_: Any) -> Any:
    status = messages.UpdateStatus.Completed
    return messages.PointsOperationResponse(result=messages.UpdateResult(operation_id=0, status=status), time=0.0)


def _operated(result: Any) -> Any:
    return messages.CollectionOperationResponse(result=bool(result), time=0.0)


def _aliases(result: Any) -> Any:
    return messages.ListAliasesResponse(aliases=[messages.AliasDescription(**each) for each in result["aliases"]])


def _records(result: list[Any]) -> list[Any]:
    return [
        RestToGrpc.convert_record(models.Record(**{**record, "payload": record["payload"] or {}})) for record in result
    ]


def _hits(result: Any) -> list[Any]:
    return [RestToGrpc.convert_scored_point(models.ScoredPoint(**hit)) for hit in result["points"]]


def _scrolled(result: Any) -> Any:
    offset = result["next_page_offset"]
    after = None if offset is None else RestToGrpc.convert_extended_point_id(offset)
    return messages.ScrollResponse(result=_records(result["points"]), next_page_offset=after)


def _faceted(result: Any) -> Any:
    hits = [RestToGrpc.convert_facet_value_hit(models.FacetValueHit(**hit)) for hit in result["hits"]]
    return messages.FacetResponse(hits=hits)


# --- points ---------------------------------------------------------------------------------------------------------


def _upsert(call: Any) -> Request:
    body = {"points": [_point(struct) for struct in call.points]}
    body |= _optional(call, "update_filter", GrpcToRest.convert_filter)
    return _request("PUT", call, "/points", body)


def _set_payload(method: str) -> Callable[[Any], Request]:
    def request(call: Any) -> Request:
        body = {"payload": GrpcToRest.convert_payload(call.payload), **_selected(call.points_selector)}
        if call.HasField("key"):
            body["key"] = call.key
        return _request(method, call, "/points/payload", body)

    return request


def _delete_payload(call: Any) -> Request:
    body = {"keys": list(call.keys), **_selected(call.points_selector)}
    return _request("POST", call, "/points/payload/delete", body)


def _update_vectors(call: Any) -> Request:
    points = []
    for each in call.points:
        vector = _vectors(GrpcToRest.convert_vectors(each.vectors))
        points.append({"id": GrpcToRest.convert_point_id(each.id), "vector": vector})
    return _request("PUT", call, "/points/vectors", {"points": points})


def _delete_vectors(call: Any) -> Request:
    body = {"vector": list(call.vectors.names), **_selected(call.points_selector)}
    return _request("POST", call, "/points/vectors/delete", body)


def _update_batch(call: Any) -> Request:
    operations = []
    for operation in call.operations:
        name = operation.WhichOneof("operation")
        said = getattr(operation, name)
        if name == "upsert":
            operations.append({"upsert": {"points": [_point(struct) for struct in said.points]}})
        elif name in ("set_payload", "overwrite_payload"):
            body = {"payload": GrpcToRest.convert_payload(said.payload), **_selected(said.points_selector)}
            if said.HasField("key"):
                body["key"] = said.key
            operations.append({name: body})
        elif name == "delete_points":
            operations.append({"delete": _selected(said.points)})
        else:
            operations.append(plain(GrpcToRest.convert_points_update_operation(operation)))
    return _request("POST", call, "/points/batch", {"operations": operations})


def _batch_updated(result: list[Any]) -> Any:
    status = messages.UpdateStatus.Completed
    return messages.UpdateBatchResponse(result=[messages.UpdateResult(operation_id=0, status=status) for _ in result])


def _retrieve(call: Any) -> Request:
    body: dict[str, Any] = {"ids": [GrpcToRest.convert_point_id(id_) for id_ in call.ids]}
    return _request("POST", call, "/points", {**body, **_wanted(call)})


def _wanted(call: Any) -> dict[str, Any]:
    """Which payload and vectors an answer should have."""
    body = _optional(call, "with_payload", GrpcToRest.convert_with_payload_interface)
    if call.HasField("with_vectors"):
        body["with_vector"] = GrpcToRest.convert_with_vectors_selector(call.with_vectors)
    return body


def _scroll(call: Any) -> Request:
    body = _optional(call, "filter", GrpcToRest.convert_filter) | _wanted(call)
    body |= _optional(call, "offset", GrpcToRest.convert_point_id)
    body |= _optional(call, "order_by", GrpcToRest.convert_order_by)
    if call.HasField("limit"):
        body["limit"] = call.limit
    return _request("POST", call, "/points/scroll", body)


def _query(call: Any) -> Request:
    body = plain(GrpcToRest.convert_query_points(call))
    body.pop("shard_key", None)
    return _request("POST", call, "/points/query", body)


def _query_batch(call: Any) -> Request:
    searches = [plain(GrpcToRest.convert_query_points(search)) for search in call.query_points]
    return _request("POST", call, "/points/query/batch", {"searches": searches})


def _count(call: Any) -> Request:
    body = _optional(call, "filter", GrpcToRest.convert_filter)
    body["exact"] = call.exact if call.HasField("exact") else True
    return _request("POST", call, "/points/count", body)


def _facet(call: Any) -> Request:
    body = {"key": call.key, **_optional(call, "filter", GrpcToRest.convert_filter)}
    for name in ("limit", "exact"):
        if call.HasField(name):
            body[name] = getattr(call, name)
    return _request("POST", call, "/facet", body)


def _create_index(call: Any) -> Request:
    schema: Any
    if call.HasField("field_index_params"):
        schema = plain(GrpcToRest.convert_payload_schema_params(call.field_index_params))
    else:
        names = ["keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid"]
        schema = names[call.field_type]
    return _request("PUT", call, "/index", {"field_name": call.field_name, "field_schema": schema})


upsert = Method(_upsert, _updated)
delete = Method(lambda call: _request("POST", call, "/points/delete", _selected(call.points)), _updated)
clear_payload = Method(lambda call: _request("POST", call, "/points/payload/clear", _selected(call.points)), _updated)
set_payload = Method(_set_payload("POST"), _updated)
overwrite_payload = Method(_set_payload("PUT"), _updated)
delete_payload = Method(_delete_payload, _updated)
update_vectors = Method(_update_vectors, _updated)
delete_vectors = Method(_delete_vectors, _updated)
update_batch = Method(_update_batch, _batch_updated)
create_index = Method(_create_index, _updated)
delete_index = Method(lambda call: _request("DELETE", call, f"/index/{call.field_name}"), _updated)
retrieve = Method(_retrieve, lambda result: messages.GetResponse(result=_records(result)))
scroll = Method(_scroll, _scrolled)
query = Method(_query, lambda result: messages.QueryResponse(result=_hits(result)))
query_batch = Method(
    _query_batch,
    lambda result: messages.QueryBatchResponse(result=[messages.BatchResult(result=_hits(each)) for each in result]),
)
count = Method(_count, lambda result: messages.CountResponse(result=messages.CountResult(count=result["count"])))
facet = Method(_facet, _faceted)

# --- collections ----------------------------------------------------------------------------------------------------


def _create_collection(call: Any) -> Request:
    body: dict[str, Any] = {}
    if call.HasField("vectors_config"):
        vectors = GrpcToRest.convert_vectors_config(call.vectors_config)
        body["vectors"] = _vectors(vectors)
    if call.HasField("sparse_vectors_config"):
        body["sparse_vectors"] = _vectors(GrpcToRest.convert_sparse_vector_config(call.sparse_vectors_config))
    for name in ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload"):
        if call.HasField(name):
            body[name] = getattr(call, name)
    if call.HasField("sharding_method"):
        body["sharding_method"] = plain(GrpcToRest.convert_sharding_method(call.sharding_method))
    body |= _optional(call, "hnsw_config", GrpcToRest.convert_hnsw_config_diff)
    body |= _optional(call, "quantization_config", GrpcToRest.convert_quantization_config)
    body |= _optional(call, "strict_mode_config", GrpcToRest.convert_strict_mode_config)
    if call.metadata:
        body["metadata"] = GrpcToRest.convert_payload(call.metadata)
    return _request("PUT", call, "", body)


def _update_collection(call: Any) -> Request:
    body = _optional(call, "strict_mode_config", GrpcToRest.convert_strict_mode_config)
    body |= _optional(call, "params", GrpcToRest.convert_collection_params_diff)
    if call.metadata:
        body["metadata"] = GrpcToRest.convert_payload(call.metadata)
    return _request("PATCH", call, "", body)


def _update_aliases(call: Any) -> Request:
    actions = [plain(GrpcToRest.convert_alias_operations(action)) for action in call.actions]
    query = {"timeout": str(call.timeout)} if call.HasField("timeout") else {}
    return Request("POST", "/collections/aliases", query, body={"actions": actions})


def _info(result: dict[str, Any]) -> Any:
    return messages.GetCollectionInfoResponse(
        result=RestToGrpc.convert_collection_info(models.CollectionInfo(**result)), time=0.0
    )


def _listed(result: dict[str, Any]) -> Any:
    return messages.ListCollectionsResponse(
        collections=[messages.CollectionDescription(name=each["name"]) for each in result["collections"]]
    )


def _exists(result: dict[str, Any]) -> Any:
    return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=result["exists"]))


get_collection = Method(lambda call: _request("GET", call), _info)
list_collections = Method(lambda call: Request("GET", "/collections"), _listed)
create_collection = Method(_create_collection, _operated)
update_collection = Method(_update_collection, _operated)
delete_collection = Method(lambda call: _request("DELETE", call), _operated)
update_aliases = Method(_update_aliases, _operated)
list_collection_aliases = Method(lambda call: _request("GET", call, "/aliases"), _aliases)
list_aliases = Method(lambda call: Request("GET", "/aliases"), _aliases)
collection_exists = Method(lambda call: _request("GET", call, "/exists"), _exists)
