"""Qdrant's own engine inside this process, on a folder. It holds the interpreter's lock while it works.

`<folder>/<collection>/shard` is the engine's; `visrag.json` beside it is written last, so a collection is whole or not
there at all. The engine's write-ahead log is always on: what `upsert` returned from survives a kill of the process (not
a power cut: the log is not forced to the disk on every call).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import FilterError, StoreError
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
from visrag_integrations.store.folder import (
    MARKER,
    FolderLock,
    check_collection_name,
    check_folder,
    read_json,
    write_json,
)
from visrag_integrations.store.info import FORMAT_VERSION

if TYPE_CHECKING:
    import qdrant_edge as qe

_SCROLLED = 256


class EdgeEngine:
    """A collection in a folder, opened once in this process and shared by every store on it."""

    _open: dict[Path, EdgeEngine] = {}  # noqa: RUF012  (the process's table, guarded by _table)
    _table = threading.Lock()

    @classmethod
    def open(cls, folder: Path, collection: str) -> EdgeEngine:
        """The engine of this folder and collection; close it as often as it was opened."""
        home = Path(os.path.abspath(folder)) / collection
        with cls._table:
            engine = cls._open.get(home)
            if engine is None or engine._pid != os.getpid():
                engine = cls._open[home] = cls(home)
            engine._users += 1
            return engine

    def __init__(self, home: Path) -> None:
        check_folder(home.parent)
        self.home, self.where = home, f"{home.parent} (collection {home.name!r})"
        self._users, self._pid = 0, os.getpid()
        self._guard = threading.RLock()
        self._lock: FolderLock | None = None
        self._shard: qe.EdgeShard | None = None
        self.version = home.name
        if (home / MARKER).exists():
            self._load()

    def load_info(self) -> dict[str, Any] | None:
        with self._guard:
            if self._shard is None and self._users > 0 and (self.home / MARKER).exists():
                self._load()  # another process made it meanwhile
            return read_json(self.home / MARKER)

    def save_info(self, info: Mapping[str, Any]) -> None:
        write_json(self.home / MARKER, {**info, "version": self.version})

    def create(self, schema: Schema, info: Mapping[str, Any]) -> None:
        import qdrant_edge as qe

        with self._guard, self._errors("creating the collection"):
            check_folder(self.home.parent)
            self.home.mkdir(parents=True, exist_ok=True)
            write_json(self.home.parent / MARKER, {"format_version": FORMAT_VERSION})
            self._lock = self._lock or FolderLock(self.home)
            if self.load_info() is not None:
                return  # another process was first
            self._discard()
            shard = qe.EdgeShard.create(str(self.home / "shard"), _config(schema))
            for field in KEYWORDS:
                shard.update(qe.UpdateOperation.create_field_index(field, qe.PayloadSchemaType.Keyword))
            tenant = qe.KeywordIndexParams(is_tenant=True)
            shard.update(qe.UpdateOperation.create_field_index(TENANT, tenant))
            self._shard = shard
            self.save_info(info)

    def take_over(self, other: EdgeEngine, info: Mapping[str, Any]) -> None:
        """Hold the other collection's points instead, from one moment to the next; the other one is used up."""
        with self._guard, other._guard, self._errors("switching the collection"):
            old, before = self._path, self.version
            other._ready().close()
            other._shard = None
            self.version = other.version
            try:
                self.save_info(info)  # this is the moment
            except BaseException:
                self.version = before
                raise
            if self._shard is not None:
                self._shard.close()
            self._load()
            (other.home / MARKER).unlink(missing_ok=True)
            shutil.rmtree(old, ignore_errors=True)

    def drop(self) -> None:
        with self._guard, self._errors("dropping the collection"):
            (self.home / MARKER).unlink(missing_ok=True)
            self._discard()

    def upsert(self, points: Sequence[Point]) -> None:
        import qdrant_edge as qe

        ready = [qe.Point(p.id, {n: _vector(v) for n, v in p.vectors.items()}, p.payload) for p in points]
        self._update(qe.UpdateOperation.upsert_points(ready), "adding pages")

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
        import qdrant_edge as qe

        params = None
        if name != TEXT_VECTOR:
            quantized = qe.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=rescoring(limit))
            params = qe.SearchParams(exact=exact, quantization=quantized)
        asked, only = _vector(vector), _filter(condition)
        first = among and qe.Prefetch(limit=among.limit, query=qe.Query.Nearest(asked, using=among.name), filter=only)
        request = qe.QueryRequest(
            limit=limit,
            query=qe.Query.Nearest(asked, using=name),
            prefetches=[first] if first else [],
            filter=only,
            with_payload=with_payload,
            params=params,
        )
        with self._guard, self._errors("searching"):
            found = self._ready().query(request)
        return [Found(str(hit.id), hit.score, hit.payload or {}) for hit in found]

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> list[Record]:
        if not ids:
            return []
        with self._guard, self._errors("reading pages"):
            records = self._ready().retrieve(
                list(ids), with_payload=_fields(fields), with_vector=list(vectors) if vectors else False
            )
        return [_record(record) for record in records]

    def scroll(
        self, condition: filters.Condition | None, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Record]:
        import qdrant_edge as qe

        offset: Any = None
        while True:
            request = qe.ScrollRequest(
                offset=offset,
                limit=_SCROLLED,
                filter=_filter(condition),
                with_payload=_fields(fields),
                with_vector=list(vectors) if vectors else False,
            )
            with self._guard, self._errors("listing pages"):
                records, offset = self._ready().scroll(request)
            yield from map(_record, records)
            if offset is None:
                return

    def count(self, condition: filters.Condition | None) -> int:
        import qdrant_edge as qe

        with self._guard, self._errors("counting pages"):
            return self._ready().count(qe.CountRequest(exact=True, filter=_filter(condition)))

    def delete(self, ids: Sequence[str]) -> None:
        import qdrant_edge as qe

        self._update(qe.UpdateOperation.delete_points(list(ids)), "removing pages")

    def set_payload(self, ids: Sequence[str], payload: Mapping[str, Any], key: str) -> None:
        import qdrant_edge as qe

        self._update(qe.UpdateOperation.set_payload(list(ids), dict(payload), key), "changing pages")

    def optimize(self) -> bool:
        with self._guard, self._errors("optimizing"):
            return self._ready().optimize()

    def close(self) -> None:
        with EdgeEngine._table:
            self._users -= 1
            if self._users > 0 or self._pid != os.getpid():
                return
            if EdgeEngine._open.get(self.home) is self:
                del EdgeEngine._open[self.home]
        with self._guard, self._errors("closing"):
            if self._shard is not None:
                self._shard.close()
            self._shard = None
            if self._lock is not None:
                self._lock.release()
            self._lock = None

    def _load(self) -> None:
        import qdrant_edge as qe

        self._lock = self._lock or FolderLock(self.home)
        try:
            with self._errors("opening the index"):
                self.version = (read_json(self.home / MARKER) or {}).get("version", self.home.name)
                self._shard = qe.EdgeShard.load(str(self._path))
        except BaseException:
            self._lock.release()
            self._lock = None
            raise

    def _discard(self) -> None:
        """Remove the shard, whole or half made."""
        if self._shard is not None:
            self._shard.close()
        self._shard = None
        shutil.rmtree(self._path, ignore_errors=True)
        self.version = self.home.name
        shutil.rmtree(self._path, ignore_errors=True)

    @property
    def _path(self) -> Path:
        """Where the shard is: in the collection's own folder, or in that of a version that took its place."""
        return self.home.parent / check_collection_name(self.version) / "shard"

    def _ready(self) -> qe.EdgeShard:
        if self._pid != os.getpid():
            raise StoreError(
                f"{self.where} was opened in process {self._pid} and is used in process {os.getpid()}, forked from it. "
                "Open the store after the fork, or run a Qdrant server and give its URL."
            )
        if self._shard is None:
            raise StoreError(
                f"{self.where} is closed, or has no collection yet: open it again, or call prepare(embedder)."
            )
        return self._shard

    def _update(self, operation: qe.UpdateOperation, doing: str) -> None:
        with self._guard, self._errors(doing):
            self._ready().update(operation)

    def _errors(self, doing: str) -> ForeignErrors:
        return ForeignErrors(doing, self.where, _advice)


def _advice(err: BaseException) -> str:
    if "No space left" in str(err):
        return "Make room on the disk and run it again; what was added before is kept."
    return "Run it again; what was added before is kept."


def _config(schema: Schema) -> qe.EdgeConfig:
    import qdrant_edge as qe

    multi = schema.kind == "multi"
    types = qe.VectorStorageDatatype
    common: dict[str, Any] = {
        "size": schema.dimension,
        "distance": qe.Distance.Cosine,
        "multivector_config": qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim) if multi else None,
    }
    dense = qe.EdgeVectorParams(
        **common,
        datatype={"float32": types.Float32, "float16": types.Float16, "8bit": types.Turbo8}[schema.storage],
        quantization_config=qe.BinaryQuantizationConfig() if schema.binary else None,
        hnsw_config=qe.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000) if multi else None,
        memory=qe.Memory.Cold if schema.pooling else None,
    )
    pooled = {POOLED_VECTOR: qe.EdgeVectorParams(**common)} if schema.pooling else {}
    return qe.EdgeConfig(
        vectors={schema.vector_name: dense, **pooled},
        sparse_vectors={TEXT_VECTOR: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
    )


def _vector(vector: Vector | SparseVector) -> Any:
    if isinstance(vector, SparseVector):
        import qdrant_edge as qe

        return qe.SparseVector(vector.indices, vector.values)
    return vector  # the engine reads numpy arrays, and faster than lists


def _fields(fields: Sequence[str] | None) -> Any:
    return True if fields is None else (list(fields) or False)


def _record(record: Any) -> Record:
    vectors: dict[str, Vector] = {}
    if record.vector:
        vectors = {n: np.asarray(v, dtype=np.float32) for n, v in record.vector.items() if isinstance(v, list)}
    return Record(str(record.id), record.payload or {}, vectors)


def _filter(condition: filters.Condition | None) -> qe.Filter | None:
    import qdrant_edge as qe

    if condition is None:
        return None
    translated = _condition(condition)
    return translated if isinstance(translated, qe.Filter) else qe.Filter(must=[translated])


def _condition(condition: filters.Condition) -> Any:
    import qdrant_edge as qe

    match condition:
        case filters.Match(key, values):
            return _match(key, values)
        case filters.Range(key, bounds, True):
            return qe.FieldCondition(key, range=qe.RangeDateTime(**bounds))
        case filters.Range(key, bounds):
            return qe.FieldCondition(key, range=qe.RangeFloat(**bounds))
        case filters.Empty(key):
            return qe.IsEmptyCondition(key)
        case filters.Ids(ids):
            return qe.HasIdCondition(set(ids))
        case filters.Not(inner):
            return qe.Filter(must_not=[_condition(inner)])
        case filters.All(inner_conditions):
            return qe.Filter(must=[_condition(inner) for inner in inner_conditions])
        case filters.Either(inner_conditions):
            return qe.Filter(should=[_condition(inner) for inner in inner_conditions])
        case _:
            raise FilterError("A Qdrant client Filter works with a client, not with an embedded folder; use a dict.")


def _match(key: str, values: tuple[filters.Value, ...]) -> Any:
    import qdrant_edge as qe

    texts = [v for v in values if isinstance(v, str)]
    numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    # A Python bool would be taken for the integer it is; numpy's is taken for a bool.
    matches: list[Any] = [qe.MatchValue(np.bool_(v)) for v in values if isinstance(v, bool)]  # type: ignore[arg-type]
    matches += [qe.MatchAny(texts)] if texts or not values else []
    matches += [qe.MatchAny(numbers)] if numbers else []
    conditions: list[Any] = [qe.FieldCondition(key, match=match) for match in matches]
    return conditions[0] if len(conditions) == 1 else qe.Filter(should=conditions)
