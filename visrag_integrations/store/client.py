"""A collection behind `qdrant_client.QdrantClient`: in memory, on a server, in the cloud.

What the collection remembers is written with its creation, as metadata of the collection; from then on it is the
payload of one reserved point without vectors, which a key that may only write can change. Searches never meet that
point, and every count and list leaves it out. The name is an alias: see `versions`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.store import conditions
from visrag_integrations.store.advice import AskedServer, advice_on
from visrag_integrations.store.client_life import ClientLife
from visrag_integrations.store.client_models import INFO_ID, only_pages
from visrag_integrations.store.client_search import among_ids, candidates_of, fused_request, nearest_request, to_hits
from visrag_integrations.store.client_writing import encoded_requests, model_requests, sends_json
from visrag_integrations.store.clusters import ClusterSettings, note_on_copies
from visrag_integrations.store.engine import (
    DENSE_VECTOR,
    MAX_NUMBERS,
    ForeignErrors,
    FusedSearch,
    PayloadChange,
    Point,
    Record,
    SearchHit,
    VectorSearch,
    payload_fields,
    to_record,
)
from visrag_integrations.store.fusing import fuse_by_parts
from visrag_integrations.store.new_collections import notes
from visrag_integrations.store.patience import ANSWER_S, PatientClient, call
from visrag_integrations.store.refusals import is_refused, may_pass, read_refusal
from visrag_integrations.store.request_size import SERVER_MAX_NUMBERS, AnswerSizes
from visrag_integrations.store.server_versions import Version, ask_version, check_supported
from visrag_integrations.store.strict_limits import (
    StrictLimits,
    at_most,
    by_ids,
    fused_within,
    met_limit,
    parts,
    read_limits,
    split_values,
)
from visrag_integrations.store.version_names import DESCRIBED

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

# Changes of 256 pages' sources each: 1 MB of ids, and their sources.
_CHANGED_AT_ONCE = 100


class ClientEngine(ClientLife):
    """A collection of a Qdrant client, made with `options`. The client is closed with it only when `owned`."""

    def __init__(
        self,
        client: QdrantClient,
        collection: str,
        where: str,
        *,
        owned: bool,
        options: Mapping[str, Any] | None = None,
        asked: Callable[[], AskedServer] = AskedServer,
        timeout: float | None = None,
        cluster: ClusterSettings | None = None,
    ) -> None:
        self._cluster = cluster or ClusterSettings()
        self._sizes = AnswerSizes()
        self._asked = asked
        self._timeout = timeout
        # Nodes of a cluster agree on collections and aliases; with one of them away that took more than ten seconds.
        self._slow_timeout = int(max(ANSWER_S, timeout or 0))
        self.client, self.collection, self.owned = client, collection, owned
        self._options = _checked_options(options or {})
        self.is_closed = False
        self._server_version: Version | None = None
        self._limits = StrictLimits()
        self._place, self.where = where, f"{where} (collection {collection!r})"
        made_with = getattr(client, "init_options", {})
        self._local = made_with.get("location") == ":memory:" or bool(made_with.get("path"))
        self.max_numbers = MAX_NUMBERS if self._local else SERVER_MAX_NUMBERS
        self._guard = threading.RLock() if self._local else contextlib.nullcontext()  # local mode is not thread-safe

    @property
    def _ask(self) -> Any:
        """What requests go through: tries again, unless somebody's client does so already, or none is needed."""
        from qdrant_client import QdrantClient

        if self._local or not isinstance(self.client, QdrantClient):
            return self.client
        seconds = self._timeout
        if seconds is not None and self._limits.seconds is not None:
            seconds = min(seconds, self._limits.seconds)
        return PatientClient(self.client, seconds, self._shorten)

    def _shorten(self, seconds: int) -> None:
        """Ask for less time from now on: the server does not give more."""
        self._limits = replace(self._limits, seconds=seconds)

    def _within_limits(self, ask: Callable[[StrictLimits], Found]) -> Found:
        """What `ask` gives within the limits that are known; they are read where the collection says that one was met.

        A request that meets a limit does nothing, so that it can be sent again.
        """
        known = self._limits
        try:
            return ask(known)
        except Exception as err:
            if self._local or not met_limit(err):
                raise
            self._limits = read_limits(self._ask.get_collection(self.collection))
            if self._limits == known:
                raise
        logger.info("%s: strict mode has limits: %s", self.where, self._limits)
        return ask(self._limits)

    def _check_server(self) -> Version | None:
        """The server's version, asked once; None in local mode, which has everything that this client knows.

        Raises:
            StoreError: It is older than what is supported.
        """
        if self._local:
            return None
        if self._server_version is None:
            with self._doing("asking for the server's version"):
                self._server_version = ask_version(self._ask)
        check_supported(self._server_version, self.where)
        return self._server_version

    def _note_copies(self) -> None:
        """Say once what a dead node will mean for this new collection."""
        if self._local or self.is_staged:
            return
        try:
            peers = len(getattr(self._ask.cluster_status(), "peers", None) or ())
            if peers < 2:
                return
            copies = self._options.get("replication_factor")
            if copies is None:  # the server may have a default of its own
                copies = self._ask.get_collection(self.collection).config.params.replication_factor or 1
        except Exception:  # whoever may not look at the cluster goes on without
            logger.info("%s: the nodes of the cluster cannot be read", self.where, exc_info=True)
            return
        note = note_on_copies(peers, copies)
        if note:
            notes.warning("%s: %s", self.where, note)

    def upsert(self, points: Sequence[Point]) -> None:
        for point in points:
            self._sizes.note_vectors(point.vectors)
        with self._doing("adding pages"):
            self._within_limits(functools.partial(self._upsert, points))

    def _upsert(self, points: Sequence[Point], limits: StrictLimits) -> None:
        for some in parts(points, limits.written):
            if sends_json(self.client):
                self._upsert_json(some)
                continue
            for models in model_requests(some):
                self._ask.upsert(self.collection, models, wait=True, **self._cluster.writes)

    def _upsert_json(self, points: Sequence[Point]) -> None:
        send: Any = self.client.http.points_api.upsert_points
        settings = {"collection_name": self.collection, "wait": True, **self._cluster.writes}
        for body in encoded_requests(points):
            call(self._ask, functools.partial(send, point_insert_operations=body, **settings))

    def nearest(self, search: VectorSearch) -> list[SearchHit]:
        with self._doing("searching"):
            return self._within_limits(functools.partial(self._nearest, search))

    def _nearest(self, search: VectorSearch, limits: StrictLimits) -> list[SearchHit]:
        found: list[Any] = []
        for some in by_ids(search, limits):
            found += self._query(nearest_request(some, local=self._local, limits=limits))
        return to_hits(found)

    def fused(self, search: FusedSearch) -> list[SearchHit]:
        if self._local:  # formulas take long there
            return fuse_by_parts(self, search)
        with self._doing("searching"):
            return to_hits(self._within_limits(functools.partial(self._fused, search)))

    def _fused(self, search: FusedSearch, limits: StrictLimits) -> list[Any]:
        search = fused_within(search, limits)
        if search.dense.name == DENSE_VECTOR["multi"]:
            return self._fused_in_two_steps(search, limits)
        return self._query(fused_request(search, candidates_of(search, limits)))

    def _fused_in_two_steps(self, search: FusedSearch, limits: StrictLimits) -> list[Any]:
        """First the candidates of both halves, then their scores.

        In one request each half is searched for candidates twice. That is cheaper than another request, but not where
        a search compares the vectors of all pages.
        """
        halves = [replace(half, with_payload=False) for half in (search.dense, search.lexical)]
        ids: dict[Any, None] = {}
        for half in halves:
            found = self._query(nearest_request(half, local=False, limits=limits))
            ids |= dict.fromkeys(hit.id for hit in found)
        if not ids:
            return []
        return self._query(fused_request(search, among_ids(search, list(ids), limits)))

    def _query(self, request: Mapping[str, Any]) -> list[Any]:
        points: list[Any] = self._ask.query_points(self.collection, **request, **self._cluster.reads).points
        return points

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> list[Record]:
        found: list[Record] = []
        left = list(ids)
        while left:
            some = self._sizes.points(vectors, with_text=fields is None)
            with self._doing("reading pages"):
                records = self._ask.retrieve(
                    self.collection,
                    left[:some],
                    with_payload=payload_fields(fields),
                    with_vectors=self._with_vectors(vectors),
                    **self._cluster.reads,
                )
            left = left[some:]
            read = [to_record(record) for record in records if str(record.id) != INFO_ID]
            self._sizes.note(read)
            found += read
        return found

    def scroll(
        self, condition: conditions.Condition | None, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Record]:
        offset: Any = None
        asked: dict[str, Any] = {"with_payload": payload_fields(fields), "with_vectors": self._with_vectors(vectors)}
        while True:
            with self._doing("listing pages"):
                count = self._sizes.points(vectors, with_text=fields is None)
                records, offset = self._listed(condition, count, offset, **asked)
            found = [to_record(record) for record in records]
            self._sizes.note(found)
            yield from found
            if offset is None:
                return

    def _listed(
        self, condition: conditions.Condition | None, count: int, offset: Any, **asked: Any
    ) -> tuple[list[Any], Any]:
        """Some points, and where the list goes on."""

        def scroll(limits: StrictLimits) -> tuple[list[Any], Any]:
            found: tuple[list[Any], Any] = self._ask.scroll(
                self.collection,
                scroll_filter=only_pages(split_values(condition, limits.values)),
                limit=at_most(count, limits.points),
                offset=offset,
                **asked,
                **self._cluster.reads,
            )
            return found

        return self._within_limits(scroll)

    def _with_vectors(self, vectors: Sequence[str]) -> Any:
        """Which vectors a request asks for, as the client wants it said."""
        return list(vectors) or False

    def count(self, condition: conditions.Condition | None) -> int:
        with self._doing("counting pages"):
            return self._within_limits(functools.partial(self._count, condition))

    def _count(self, condition: conditions.Condition | None, limits: StrictLimits) -> int:
        if limits.exact:
            fitting = only_pages(split_values(condition, limits.values))
            return int(self._ask.count(self.collection, count_filter=fitting, exact=True).count)
        # An estimate would be taken for the truth: the ids are listed instead.
        counted, offset = 0, None
        while True:
            records, offset = self._listed(condition, limits.listed, offset, with_payload=False)
            counted += len(records)
            if offset is None:
                return counted

    def counted_by(self, key: str, condition: conditions.Condition | None, most: int) -> dict[str, int] | None:
        if self._local:
            return None  # there a list is as fast
        try:
            with self._doing("counting values"):
                return self._within_limits(functools.partial(self._counted_by, key, condition, most))
        except StoreError as err:
            if err.__cause__ is None or not _is_of_counting(err.__cause__):
                raise
            logger.info("%s: the values of %r cannot be counted: %s", self.where, key, err)
            return None

    def _counted_by(
        self, key: str, condition: conditions.Condition | None, most: int, limits: StrictLimits
    ) -> dict[str, int] | None:
        limit = at_most(most + 1, limits.points)
        if not limits.exact:
            return None  # an estimate would be taken for the truth
        found = self._ask.facet(
            self.collection,
            key,
            facet_filter=only_pages(split_values(condition, limits.values)),
            limit=limit,
            exact=True,
            **self._cluster.reads,
        )
        if len(found.hits) >= limit:
            return None  # there may be more
        # A text that only removed pages had may still be in the index, with none.
        return {str(hit.value): hit.count for hit in found.hits if hit.count}

    def holds(self, collection: str, points: int = 1) -> bool:
        """Whether a collection has so many points; asked by a list, for strict mode may forbid to count."""
        records, _ = self._ask.scroll(collection, limit=points, with_payload=False)
        return len(records) >= points

    def delete(self, ids: Sequence[str]) -> None:
        with self._doing("removing pages"):
            self._ask.delete(self.collection, list(ids), wait=True, **self._cluster.writes)

    def set_payload(self, ids: Sequence[str], payload: Mapping[str, Any], key: str) -> None:
        with self._doing("changing pages"):
            settings = {"key": key, "wait": True, **self._cluster.writes}
            self._ask.set_payload(self.collection, dict(payload), points=list(ids), **settings)

    def set_payloads(self, changes: Sequence[PayloadChange]) -> None:
        from qdrant_client import models

        operations: list[Any] = []
        for ids, key, values in changes:
            change = models.SetPayload(payload=dict(values), points=list(ids), key=key)
            operations.append(models.SetPayloadOperation(set_payload=change))
        with self._doing("changing pages"):
            for start in range(0, len(operations), _CHANGED_AT_ONCE):
                some = operations[start : start + _CHANGED_AT_ONCE]
                # Through the leader of each shard: else two copies may see the changes of two writers in two orders.
                settings = {"ordering": models.WriteOrdering.STRONG, **self._cluster.writes}
                self._ask.batch_update_points(self.collection, some, wait=True, **settings)

    def optimize(self) -> bool:
        """Nothing to do: a server optimizes itself."""
        return False

    def close(self) -> None:
        if self.owned:
            self.is_closed = True
            with self._doing("closing"):
                self.client.close()

    @property
    def patient(self) -> Any:
        """The client, whose requests are sent again where that can help and cannot harm."""
        return self._ask

    @property
    def is_local(self) -> bool:
        """Whether the client is its own engine, in this process."""
        return self._local

    def doing(self, doing: str) -> contextlib.AbstractContextManager[None]:
        """A block in which the client is used: what it raises becomes a `StoreError` that says what was done."""
        return self._doing(doing)

    @contextlib.contextmanager
    def _doing(self, doing: str) -> Iterator[None]:
        def advice(err: BaseException) -> str:
            return advice_on(err, doing, self._asked())

        with self._guard, ForeignErrors(doing, self.where, advice, lambda err: read_refusal(err).sentence):
            yield


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    from qdrant_client import QdrantClient

    ours = {"self", "collection_name", "vectors_config", "sparse_vectors_config", "timeout", "kwargs"}
    allowed = set(inspect.signature(QdrantClient.create_collection).parameters) - ours
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise SettingError(f"server_options has {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}.")
    if DESCRIBED in (options.get("metadata") or {}):
        raise SettingError(
            f"server_options has the metadata {DESCRIBED!r}, which is the store's own. Name it otherwise."
        )
    return dict(options)


def _is_of_counting(error: BaseException) -> bool:
    """Whether counting values failed where listing pages, some at a time, may not.

    Without the index, as in a collection that nobody has written to since; or so many values that it took too long.
    """
    return is_refused(error) or (may_pass(error) and not read_refusal(error).connecting)
