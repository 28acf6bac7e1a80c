"""Requests about collections, their aliases and their payload indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdrant_client import models

from fake_qdrant import cluster as nodes
from fake_qdrant.keys import may_see
from fake_qdrant.requests import Refusal, Request
from fake_qdrant.state import FakeCollection, Key
from fake_qdrant.strict_mode import check_index_count
from fake_qdrant.validity import check_body

if TYPE_CHECKING:
    from fake_qdrant.server import FakeQdrant

_INDEX_KINDS = {"keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid"}
# Datatypes that only later versions have, and what an older one says: it reads turbo4, and fails when it makes one.
_DATATYPES = {"turbo4": (1, 19), "turbo8": (1, 20)}


def answer(fake: FakeQdrant, request: Request, key: Key) -> Any:
    """The result of a request about collections; None where it is about points."""
    parts, method = request.parts, request.method
    match method, parts:
        case "GET", ["cluster"]:
            return nodes.described(fake.cluster)
        case "GET", ["collections"]:
            names = [each.name for each in fake.memory.get_collections().collections if may_see(key, each.name)]
            return {"collections": [{"name": name} for name in names]}
        case "GET", ["aliases"]:
            return {"aliases": _aliases(fake, lambda name: may_see(key, name))}
        case "POST", ["collections", "aliases"]:
            return _change_aliases(fake, request)
        case "GET", ["collections", name, "exists"]:
            return {"exists": fake.real_name(name) is not None}
        case "GET", ["collections", name, "aliases"]:
            real = fake.collection(name).name
            return {"aliases": _aliases(fake, lambda each: each == real)}
        case "PUT", ["collections", name]:
            return _create(fake, name, request)
        case "DELETE", ["collections", name]:
            return _delete(fake, name, request)
        case "PATCH", ["collections", name]:
            return _update(fake.collection(name), request.body)
        case "GET", ["collections", name]:
            return _described(fake, fake.collection(name))
        case "GET", ["collections", name, "cluster"]:
            return _shards(fake, fake.collection(name))
        case "PUT", ["collections", name, "index"]:
            return _index(fake, fake.collection(name), request)
        case "DELETE", ["collections", name, "index", field]:
            fake.collection(name).indexes.pop(field, None)
            return {"operation_id": 0, "status": "completed"}
    return None


def _aliases(fake: FakeQdrant, shown: Any) -> list[dict[str, str]]:
    pairs = [(each.alias_name, each.collection_name) for each in fake.memory.get_aliases().aliases]
    return [{"alias_name": alias, "collection_name": name} for alias, name in pairs if shown(name)]


def _change_aliases(fake: FakeQdrant, request: Request) -> bool:
    """All of the changes or none."""
    nodes.check_consensus(fake.cluster, request.query.get("timeout"))
    actions = check_body(request.body, models.ChangeAliasesOperation).actions
    for action in actions:
        if not isinstance(action, models.CreateAliasOperation):
            continue
        wanted = action.create_alias
        if fake.memory.collection_exists(wanted.alias_name) and not fake.is_alias(wanted.alias_name):
            raise Refusal(409, f"Wrong input: Collection `{wanted.alias_name}` already exists!")
        if fake.real_name(wanted.collection_name) is None:
            raise Refusal(404, f"Not found: Collection `{wanted.collection_name}` doesn't exist!")
    fake.memory.update_collection_aliases(actions)
    fake.agree(request)
    return True


def _create(fake: FakeQdrant, name: str, request: Request) -> bool:
    if fake.is_alias(name):
        raise Refusal(400, f"Can't create collection with name {name}. Alias with the same name already exists")
    if fake.real_name(name) is not None:
        raise Refusal(409, f"Wrong input: Collection `{name}` already exists!")
    nodes.check_consensus(fake.cluster, request.query.get("timeout"))
    body = {key: value for key, value in request.body.items() if value is not None}
    made = FakeCollection(name, body)
    _check_datatypes(fake, made)
    wanted = check_body(body, models.CreateCollection)
    if fake.version_numbers >= (1, 16):
        made.metadata = body.get("metadata") or {}
    made.strict = {**fake.strict, **(body.get("strict_mode_config") or {})}
    if fake.cluster.nodes > 1 and not body.get("shard_number"):
        made.created = {**body, "shard_number": fake.cluster.nodes}
    fake.memory.create_collection(
        name, vectors_config=wanted.vectors or {}, sparse_vectors_config=wanted.sparse_vectors
    )
    fake.made[name] = made
    fake.created[name] = body
    fake.agree(request)
    return True


def _check_datatypes(fake: FakeQdrant, made: FakeCollection) -> None:
    for settings in made.vectors.values():
        datatype = settings.get("datatype")
        if fake.version_numbers >= _DATATYPES.get(datatype, (0,)):
            continue
        if datatype != "turbo4":
            raise Refusal(
                400, "Format error in JSON body: data did not match any variant of untagged enum VectorsConfig"
            )
        # Each node of a cluster applies the entry, and stops.
        fake.cluster.consensus_stopped = fake.cluster.nodes > 1
        raise Refusal(
            500,
            "Service internal error: Segment DB create panickedwith: not implemented: turbo4 datatype storage not yet "
            "wired up",
        )


def _delete(fake: FakeQdrant, name: str, request: Request) -> bool:
    if fake.is_alias(name) or not fake.memory.collection_exists(name):
        return False
    nodes.check_consensus(fake.cluster, request.query.get("timeout"))
    pointing = [each.alias_name for each in fake.memory.get_aliases().aliases if each.collection_name == name]
    gone = [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)) for alias in pointing]
    fake.memory.update_collection_aliases(gone)
    fake.memory.delete_collection(name)
    fake.made.pop(name, None)
    return True


def _update(collection: FakeCollection, body: dict[str, Any]) -> bool:
    """Top-level keys of the metadata are merged, and None removes one."""
    for key, value in (body.get("metadata") or {}).items():
        if value is None:
            collection.metadata.pop(key, None)
        else:
            collection.metadata[key] = value
    strict = body.get("strict_mode_config") or {}
    collection.strict |= {key: value for key, value in strict.items() if value is not None}
    params = body.get("params") or {}
    collection.created |= {key: value for key, value in params.items() if value is not None}
    return True


def _index(fake: FakeQdrant, collection: FakeCollection, request: Request) -> dict[str, Any]:
    nodes.check_consensus(fake.cluster, request.query.get("timeout"))
    field, schema = request.body["field_name"], request.body.get("field_schema")
    settings = {"type": schema} if isinstance(schema, str) else dict(schema or {})
    if settings.get("type") not in _INDEX_KINDS:
        raise Refusal(
            400, "Format error in JSON body: data did not match any variant of untagged enum PayloadFieldSchema"
        )
    if field not in collection.indexes:
        check_index_count(collection)
    collection.indexes[field] = {key: value for key, value in settings.items() if value is not None}
    return {"operation_id": 0, "status": "completed"}


def _described(fake: FakeQdrant, collection: FakeCollection) -> dict[str, Any]:
    """What `GET /collections/NAME` says."""
    told = fake.memory.get_collection(collection.name).model_dump(mode="json")
    config = told["config"]
    config["metadata"] = collection.metadata or None
    config["strict_mode_config"] = collection.strict or None
    created = collection.created
    if created:
        config["params"]["vectors"] = created.get("vectors") or {}
        config["params"]["shard_number"] = collection.shards
        config["params"]["replication_factor"] = collection.copies
        config["params"]["write_consistency_factor"] = created.get("write_consistency_factor") or 1
        config["params"]["on_disk_payload"] = bool(created.get("on_disk_payload"))
        config["params"]["sharding_method"] = created.get("sharding_method")
        config["quantization_config"] = created.get("quantization_config")
    schema = {}
    for field, settings in collection.indexes.items():
        params = settings if len(settings) > 1 else None
        schema[field] = {"data_type": settings["type"], "params": params, "points": told["points_count"] or 0}
    told["payload_schema"] = schema
    return told


def _shards(fake: FakeQdrant, collection: FakeCollection) -> dict[str, Any]:
    """What `GET /collections/NAME/cluster` says: each copy of a shard is on the next node."""
    local, remote = [], []
    for shard in range(collection.shards):
        for copy in range(collection.copies):
            peer = (shard + copy) % max(1, fake.cluster.nodes) + 1
            alive = "Dead" if peer > fake.cluster.nodes - fake.cluster.dead else "Active"
            if peer == 1:
                local.append({"shard_id": shard, "points_count": 0, "state": alive})
            else:
                remote.append({"shard_id": shard, "peer_id": peer, "state": alive})
    return {
        "peer_id": 1,
        "shard_count": collection.shards,
        "local_shards": local,
        "remote_shards": remote,
        "shard_transfers": [],
    }
