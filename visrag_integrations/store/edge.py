"""Qdrant's own engine inside this process, on a folder. It holds the interpreter's lock while it works.

`<folder>/<collection>/shard` is the engine's; `visrag.json` beside it is written last, so a collection is whole or not
there at all. The engine's write-ahead log is always on: what `upsert` returned from survives a kill of the process (not
a power cut: the log is not forced to the disk on every call).
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import StoreError
from visrag_integrations.store import conditions, edge_answers
from visrag_integrations.store.due_pictures import NAME as DUE_PICTURES
from visrag_integrations.store.due_pictures import DuePictures
from visrag_integrations.store.edge_log import UpdateLog
from visrag_integrations.store.edge_models import to_config, to_filter, to_index, to_vector
from visrag_integrations.store.edge_room import DiskRoom
from visrag_integrations.store.engine import (
    FOLDER_INDEXES,
    MAX_NUMBERS,
    TENANT,
    ForeignErrors,
    FusedSearch,
    PayloadChange,
    Point,
    Record,
    Schema,
    SearchHit,
    VectorSearch,
    payload_fields,
    to_record,
)
from visrag_integrations.store.folder import (
    FOLDER_VERSION,
    MARKER,
    FolderLock,
    check_collection_name,
    check_folder,
    read_json,
    write_json,
)
from visrag_integrations.store.request_size import AnswerSizes

if TYPE_CHECKING:
    import qdrant_edge as qe

logger = logging.getLogger(__name__)


class EdgeEngine:
    """A collection in a folder, opened once in this process and shared by every store on it."""

    is_shared = is_staged = is_unfinished = False  # a folder belongs to one process

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
        self.max_numbers = MAX_NUMBERS
        self._sizes = AnswerSizes()
        self.home, self.where = home, f"{home.parent} (collection {home.name!r})"
        self._users, self._pid = 0, os.getpid()
        self._guard = threading.RLock()
        self._room = DiskRoom(home)
        self._log = UpdateLog()
        self.due_pictures = DuePictures(home / DUE_PICTURES)
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

    def create(self, schemas: Sequence[Schema], info: Mapping[str, Any], *, anew: bool = False) -> bool:
        import qdrant_edge as qe

        if anew:
            self.drop()
        with self._guard, self._errors("creating the collection"):
            check_folder(self.home.parent)
            self._room.check_new()
            self.home.parent.mkdir(parents=True, exist_ok=True)
            # First: a folder with a collection and without it would be taken for somebody else's.
            write_json(self.home.parent / MARKER, {"format_version": FOLDER_VERSION})
            self.home.mkdir(exist_ok=True)
            self._lock = self._lock or FolderLock(self.home)
            if self.load_info() is not None:
                return False  # another process was first
            self._discard()
            shard = qe.EdgeShard.create(str(self.home / "shard"), to_config(schemas))
            for field, kind in FOLDER_INDEXES.items():
                shard.update(qe.UpdateOperation.create_field_index(field, to_index(kind)))
            tenant = qe.KeywordIndexParams(is_tenant=True)
            shard.update(qe.UpdateOperation.create_field_index(TENANT, tenant))
            self._shard = shard
            self.save_info(info)
            return True

    def begin_again(self, info: Mapping[str, Any]) -> None:
        """Nothing: a folder's versions are begun by one process."""

    def migrate(self, info: Mapping[str, Any]) -> None:
        """Nothing: there is one layout of folders."""

    def is_in_use(self) -> bool:
        return False

    def without_name(self) -> str:
        return ""  # a folder needs no alias

    def take_over(self, other: EdgeEngine, info: Mapping[str, Any]) -> bool:
        """Hold the other collection's points instead, from one moment to the next; the other one is used up.

        Raises:
            StoreError: It is in another folder, where this one's marker cannot name it.
        """
        self._check_beside(other)
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
            for left in (old, self.home / "shard"):  # the second where a kill came right after that moment
                self._remove(left)
        return True

    def _check_beside(self, other: EdgeEngine) -> None:
        here, there = self.home.parent, other.home.parent
        if here == there or (there.exists() and here.exists() and here.samefile(there)):
            return
        raise StoreError(
            f"{self.where} cannot hold what {other.where} holds: that is another folder. Nothing was changed; make the "
            "new version with next_version() of this store, or export() the other one and import it."
        )

    def drop(self) -> None:
        with self._guard, self._errors("dropping the collection"):
            (self.home / MARKER).unlink(missing_ok=True)
            self._discard()

    def upsert(self, points: Sequence[Point]) -> None:
        import qdrant_edge as qe

        self._room.check_adding(points)
        ready = [qe.Point(p.id, {n: to_vector(v) for n, v in p.vectors.items()}, p.payload) for p in points]
        self._update(qe.UpdateOperation.upsert_points(ready), "adding pages")

    def nearest(self, search: VectorSearch) -> list[SearchHit]:
        with self._guard, self._errors("searching"):
            return edge_answers.nearest(self._readable(), search)

    def fused(self, search: FusedSearch) -> list[SearchHit]:
        with self._guard, self._errors("searching"):
            return edge_answers.fused(self._readable(), search)

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> list[Record]:
        found: list[Record] = []
        left: list[Any] = list(ids)
        while left:
            some = self._sizes.points(vectors, with_text=fields is None)
            with self._guard, self._errors("reading pages"):
                records = self._readable().retrieve(
                    left[:some], with_payload=payload_fields(fields), with_vector=list(vectors) or False
                )
            left = left[some:]
            found += map(to_record, records)
            self._sizes.note(found[-len(records) :] if records else ())
        return found

    def scroll(
        self, condition: conditions.Condition | None, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Record]:
        import qdrant_edge as qe

        offset: Any = None
        while True:
            request = qe.ScrollRequest(
                offset=offset,
                limit=self._sizes.points(vectors, with_text=fields is None),
                filter=to_filter(condition),
                with_payload=payload_fields(fields),
                with_vector=list(vectors) or False,
            )
            with self._guard, self._errors("listing pages"):
                records, offset = self._readable().scroll(request)
            found = [to_record(record) for record in records]
            self._sizes.note(found)
            yield from found
            if offset is None:
                return

    def count(self, condition: conditions.Condition | None) -> int:
        import qdrant_edge as qe

        with self._guard, self._errors("counting pages"):
            return self._readable().count(qe.CountRequest(exact=True, filter=to_filter(condition)))

    def counted_by(self, key: str, condition: conditions.Condition | None, most: int) -> dict[str, int] | None:
        import qdrant_edge as qe

        with self._guard, self._errors("counting values"):
            if key not in self._readable().info().payload_schema:
                return None  # a folder of an older version, opened to be read
            request = qe.FacetRequest(key, limit=most + 1, exact=True, filter=to_filter(condition))
            hits = self._readable().facet(request).hits
        if len(hits) > most:
            return None
        # A text that only removed pages had is still in the index, with none.
        return {str(hit.value): hit.count for hit in hits if hit.count}

    def delete(self, ids: Sequence[str]) -> None:
        import qdrant_edge as qe

        self._room.check_removing(len(ids))
        self._update(qe.UpdateOperation.delete_points(list(ids)), "removing pages")

    def set_payload(self, ids: Sequence[str], payload: Mapping[str, Any], key: str) -> None:
        import qdrant_edge as qe

        self._room.check_changing(len(ids))
        self._update(qe.UpdateOperation.set_payload(list(ids), dict(payload), key), "changing pages")

    def set_payloads(self, changes: Sequence[PayloadChange]) -> None:
        for change in changes:
            self.set_payload(change.ids, change.values, change.key)

    def index_fields(self, fields: Mapping[str, str]) -> None:
        import qdrant_edge as qe

        with self._guard, self._errors("indexing metadata"):
            there = self._ready().info().payload_schema
            count = self.count(None)
            for field, kind in {**FOLDER_INDEXES, **fields}.items():
                if field not in there:
                    self._room.check_indexing(count)
                    self._ready().update(qe.UpdateOperation.create_field_index(field, to_index(kind)))

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
            with ForeignErrors("opening the index", self.where, _advice_on_opening):
                self.version = (read_json(self.home / MARKER) or {}).get("version", self.home.name)
                self._room.check_opening(self._path)
                self._shard = qe.EdgeShard.load(str(self._path))
                self._log = UpdateLog()  # what the engine keeps is known of each shard by itself
        except BaseException:
            self._lock.release()
            self._lock = None
            raise

    def _discard(self) -> None:
        """Remove the shard, whole or half made."""
        if self._shard is not None:
            self._shard.close()
        self._shard = None
        self._remove(self._path)
        self.version = self.home.name
        self._remove(self._path)

    def _remove(self, shard: Path) -> None:
        """Remove a shard; in another home also the marker a kill left there, which nothing could be opened by."""
        if shard.parent != self.home:
            (shard.parent / MARKER).unlink(missing_ok=True)
        shutil.rmtree(shard, ignore_errors=True)

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

    def _readable(self) -> qe.EdgeShard:
        shard = self._ready()
        self._room.check_reading()
        return shard

    def _update(self, operation: qe.UpdateOperation, doing: str) -> None:
        with self._guard, self._errors(doing):
            shard = self._ready()
            shard.update(operation)
            if self._log.is_long(self._path):
                self._cut_log(shard)

    def _cut_log(self, shard: qe.EdgeShard) -> None:
        """Let the engine forget what is in its files too. The change itself is made by then, and survives a kill."""
        try:
            shard.flush()
        except Exception as err:
            if not _is_disk_full(err):
                raise
            # An error would say that pages were not removed, to somebody who removes them to make room.
            logger.warning("%s: the disk is full, so that its log stays as long as it is: %s", self.where, err)
        self._log.was_cut(self._path)  # also then: not to be tried again with every page

    def _errors(self, doing: str) -> ForeignErrors:
        return ForeignErrors(doing, self.where, _advice)


def _advice(err: BaseException) -> str:
    if _is_disk_full(err):
        return "Make room on the disk and run it again; what was added before is kept."
    return "Run it again; what was added before is kept."


def _is_disk_full(err: BaseException) -> bool:
    # The second is the engine's own look before it merges its segments.
    return "No space left" in str(err) or "Not enough space" in str(err)


def _advice_on_opening(err: BaseException) -> str:
    """Not to run it again: what is damaged stays so."""
    if "No space left" in str(err):
        return "Make room on the disk; what was added before is kept."
    return "Its files are damaged, or cannot be read: restore them, or index the documents again in a new folder."
