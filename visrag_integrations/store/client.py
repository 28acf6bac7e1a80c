"""A collection behind `qdrant_client.QdrantClient`: in memory, on a server, in the cloud.

What the collection remembers is the payload of one reserved point without vectors: searches never meet it, and every
count and list leaves it out. (Collections have metadata of their own only on newer servers.)
"""

from __future__ import annotations

import contextlib
import inspect
import json
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import SettingError, StoreFormatError
from visrag_integrations.store import filters
from visrag_integrations.store.engine import (
    KEYWORDS,
    POOLED_VECTOR,
    TENANT,
    TEXT_VECTOR,
    Candidates,
    ForeignErrors,
    Found,
    Point,
    Record,
    Schema,
    SparseVector,
    Vector,
    rescoring,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

INFO_ID = str(uuid.UUID("00000000-0000-5000-8000-000000000001"))
_SCROLLED = 256
_FLOATS_PER_REQUEST = 500_000  # a server takes 32 MiB a request, and a float is up to 20 bytes of JSON


def connect(
    location: Any, *, api_key: str | None, timeout: int | None, **options: Any
) -> tuple[QdrantClient, str, bool]:
    """The client for a location, its name in messages, and whether it is ours to close.

    Raises:
        SettingError: The location is none of a folder, ":memory:", a URL or a client.
    """
    from qdrant_client import QdrantClient

    if isinstance(location, QdrantClient):
        if api_key is not None or timeout is not None or options:
            raise SettingError("A QdrantClient has its own api_key, timeout and options; give them to the client.")
        return location, "the given QdrantClient", False
    if location == ":memory:":
        return QdrantClient(":memory:"), ":memory:", True
    if isinstance(location, str):
        options.setdefault("check_compatibility", False)  # it prints a warning when the server is away; we raise
        return QdrantClient(url=location, api_key=api_key, timeout=timeout, **options), location, True
    raise SettingError(f'The location is {location!r}; give a folder, ":memory:", a URL or a QdrantClient.')


class ClientEngine:
    """A collection of a Qdrant client, made with `options`. The client is closed with it only when `owned`."""

    def __init__(
        self,
        client: QdrantClient,
        collection: str,
        where: str,
        *,
        owned: bool,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.client, self.collection, self.owned = client, collection, owned
        self._options = _checked_options(options or {})
        self.where = f"{where} (collection {collection!r})"
        made_with = getattr(client, "init_options", {})
        self._local = made_with.get("location") == ":memory:" or bool(made_with.get("path"))
        self._guard = threading.RLock() if self._local else contextlib.nullcontext()  # local mode is not thread-safe

    def load_info(self) -> dict[str, Any] | None:
        with self._doing("opening the collection"):
            if not self.client.collection_exists(self.collection):
                return None
            found = self.client.retrieve(self.collection, [INFO_ID], with_payload=True)
            if found:
                own = (found[0].payload or {}).get("visrag") or {}
                return dict(json.loads(own.get("info") or "{}"))
            if self.client.count(self.collection, exact=True).count == 0:
                return None  # made, but its creator did not get further
        raise StoreFormatError(
            f"{self.where} holds points that this library did not write. Use another collection name, or delete it."
        )

    def create(self, schema: Schema, info: Mapping[str, Any]) -> None:
        from qdrant_client import models

        with self._doing("creating the collection"):
            if self.client.collection_exists(self.collection):
                if self.load_info() is not None:
                    return  # another process was first
                self.client.delete_collection(self.collection)  # half made, and empty
            self.client.create_collection(
                self.collection,
                vectors_config=_vector_params(schema),
                sparse_vectors_config={TEXT_VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                **self._options,
            )
            keyword = models.PayloadSchemaType.KEYWORD
            tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            fields: dict[str, Any] = {**dict.fromkeys(KEYWORDS, keyword), TENANT: tenant}
            with warnings.catch_warnings():  # the client says that in memory an index has no effect
                warnings.filterwarnings("ignore", message="Payload indexes have no effect")
                for field, kind in fields.items():
                    self.client.create_payload_index(self.collection, field, field_schema=kind, wait=True)
            self.save_info(info)

    def save_info(self, info: Mapping[str, Any]) -> None:
        from qdrant_client import models

        payload = {"visrag": {"info": json.dumps(info)}}
        with self._doing("describing the collection"):
            self.client.upsert(self.collection, [models.PointStruct(id=INFO_ID, vector={}, payload=payload)], wait=True)

    def drop(self) -> None:
        with self._doing("dropping the collection"):
            self.client.delete_collection(self._behind_alias() or self.collection)

    def take_over(self, other: ClientEngine, info: Mapping[str, Any]) -> None:
        """Let this collection's name mean the other one; at once, where it is an alias already."""
        from qdrant_client import models

        with self._doing("switching the collection"):
            old = self._behind_alias()
            change: list[Any] = []
            if old is not None:
                change.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.collection)))
            elif self.client.collection_exists(self.collection):
                self.client.delete_collection(self.collection)  # an alias cannot have the name of a collection
            alias = models.CreateAlias(collection_name=other.collection, alias_name=self.collection)
            change.append(models.CreateAliasOperation(create_alias=alias))
            self.client.update_collection_aliases(change)
            if old is not None:
                self.client.delete_collection(old)

    @property
    def version(self) -> str:
        """The collection that holds the points: this one, or the one its name is an alias of."""
        with self._doing("reading aliases"):
            return self._behind_alias() or self.collection

    def _behind_alias(self) -> str | None:
        """The collection this name is an alias of; None when it is none."""
        aliases = self.client.get_aliases().aliases
        return next((alias.collection_name for alias in aliases if alias.alias_name == self.collection), None)

    def upsert(self, points: Sequence[Point]) -> None:
        from qdrant_client import models

        structs = [
            models.PointStruct(id=p.id, vector={n: _vector(v) for n, v in p.vectors.items()}, payload=p.payload)
            for p in points
        ]
        with self._doing("adding pages"):
            for batch in _requests(points, structs):
                self.client.upsert(self.collection, batch, wait=True)

    def nearest(
        self,
        name: str,
        vector: Vector | SparseVector,
        limit: int,
        condition: filters.Condition | None,
        *,
        with_payload: bool = True,
        exact: bool = False,
        among: Candidates | None = None,
    ) -> list[Found]:
        from qdrant_client import models

        params = None
        if name != TEXT_VECTOR and not self._local:  # local mode always compares all numbers
            quantized = models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=rescoring(limit))
            params = models.SearchParams(exact=exact, quantization=quantized)
        asked, only = _vector(vector), None if condition is None else _filter(condition)
        first = among and models.Prefetch(query=asked, using=among.name, limit=among.limit, filter=only)
        with self._doing("searching"):
            found = self.client.query_points(
                self.collection,
                query=asked,
                using=name,
                prefetch=first,
                limit=limit,
                query_filter=only,
                with_payload=with_payload,
                search_params=params,
            ).points
        return [Found(str(hit.id), hit.score, hit.payload or {}) for hit in found]

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> list[Record]:
        if not ids:
            return []
        with self._doing("reading pages"):
            records = self.client.retrieve(
                self.collection, list(ids), with_payload=_fields(fields), with_vectors=list(vectors) or False
            )
        return [_record(record) for record in records if str(record.id) != INFO_ID]

    def scroll(
        self, condition: filters.Condition | None, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Record]:
        offset: Any = None
        while True:
            with self._doing("listing pages"):
                records, offset = self.client.scroll(
                    self.collection,
                    scroll_filter=_pages(condition),
                    limit=_SCROLLED,
                    offset=offset,
                    with_payload=_fields(fields),
                    with_vectors=list(vectors) or False,
                )
            yield from map(_record, records)
            if offset is None:
                return

    def count(self, condition: filters.Condition | None) -> int:
        with self._doing("counting pages"):
            return int(self.client.count(self.collection, count_filter=_pages(condition), exact=True).count)

    def delete(self, ids: Sequence[str]) -> None:
        with self._doing("removing pages"):
            self.client.delete(self.collection, list(ids), wait=True)

    def set_payload(self, ids: Sequence[str], payload: Mapping[str, Any], key: str) -> None:
        with self._doing("changing pages"):
            self.client.set_payload(self.collection, dict(payload), points=list(ids), key=key, wait=True)

    def optimize(self) -> bool:
        """Nothing to do: a server optimizes itself."""
        return False

    def close(self) -> None:
        if self.owned:
            with self._doing("closing"):
                self.client.close()

    @contextlib.contextmanager
    def _doing(self, doing: str) -> Iterator[None]:
        with self._guard, ForeignErrors(doing, self.where, _advice):
            yield


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    from qdrant_client import QdrantClient

    ours = {"self", "collection_name", "vectors_config", "sparse_vectors_config", "timeout", "kwargs"}
    allowed = set(inspect.signature(QdrantClient.create_collection).parameters) - ours
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise SettingError(f"server_options has {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}.")
    return dict(options)


def _advice(err: BaseException) -> str:
    status = getattr(err, "status_code", None)
    if status in (401, 403):
        return "The server refuses the key: give api_key=... (and https://)."
    if status is None:
        return "Is the Qdrant server running and the URL right? Longer answers need timeout=seconds."
    return "What was added before is kept."


def _vector_params(schema: Schema) -> dict[str, Any]:
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
    pooled = {POOLED_VECTOR: models.VectorParams(**common)} if schema.pooling else {}
    return {schema.vector_name: dense, **pooled}


def _datatype(storage: str) -> Any:
    from qdrant_client import models

    if storage == "float32":
        return None
    if storage == "8bit" and not hasattr(models.Datatype, "TURBO8"):
        raise SettingError("storage='8bit' needs an embedded folder or a newer qdrant-client. Say storage='float16'.")
    return models.Datatype.TURBO8 if storage == "8bit" else models.Datatype.FLOAT16


def _requests(points: Sequence[Point], structs: list[Any]) -> Iterator[list[Any]]:
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


def _vector(vector: Vector | SparseVector) -> Any:
    if isinstance(vector, SparseVector):
        from qdrant_client import models

        return models.SparseVector(indices=vector.indices, values=vector.values)
    return vector.tolist()


def _fields(fields: Sequence[str] | None) -> Any:
    return True if fields is None else (list(fields) or False)


def _record(record: Any) -> Record:
    vectors: dict[str, Vector] = {}
    if record.vector:
        vectors = {n: np.asarray(v, dtype=np.float32) for n, v in record.vector.items() if isinstance(v, list)}
    return Record(str(record.id), record.payload or {}, vectors)


def _pages(condition: filters.Condition | None) -> Any:
    """The filter, and the reserved point left out."""
    return _filter(filters.both(filters.Not(filters.Ids((INFO_ID,))), condition) or filters.All(()))


def _filter(condition: filters.Condition) -> Any:
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
