"""The life of a collection behind a client: how it is made and described, who takes its place, and how it ends."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import logging
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from visrag_integrations.errors import StoreError, StoreFormatError, StoreMismatchError
from visrag_integrations.store.client_models import INFO_ID, misfits, vector_params
from visrag_integrations.store.clusters import ClusterSettings, check_sharding
from visrag_integrations.store.engine import SERVER_INDEXES, TENANT, TEXT_VECTOR, Schema
from visrag_integrations.store.indexed import indexed_paths
from visrag_integrations.store.json_limits import read_limited_json
from visrag_integrations.store.refusals import is_missing
from visrag_integrations.store.server_versions import Version, check_storage
from visrag_integrations.store.strict_limits import check_searchable, read_limits
from visrag_integrations.store.version_names import (
    DESCRIBED,
    MAX_DESCRIPTION,
    described_in,
    described_in_metadata,
    read_description,
)
from visrag_integrations.store.versions import NewCollection, Versions

logger = logging.getLogger(__name__)

Self = TypeVar("Self", bound="ClientLife")


class ClientLife:
    """What `client.ClientEngine` does with its collection as a whole; the points are its own part."""

    is_shared = True
    """Other processes may fill the collection, and another version may take its place."""
    is_staged = False
    """Whether this is a version that no alias means yet."""
    _before = ""
    _was_there = False
    _has_metadata = False
    """Whether the description was seen in the collection's metadata; once there, it stays."""
    _note: Mapping[str, Any] | None = None

    where: str
    collection: str
    client: Any
    _place: str
    _ask: Any
    _asked: Any
    _guard: Any
    _local: bool
    _options: dict[str, Any]
    _timeout: float | None
    _slow_timeout: int
    _cluster: ClusterSettings

    if TYPE_CHECKING:

        def __init__(self, client: Any, collection: str, where: str, **settings: Any) -> None: ...
        def _note_copies(self) -> None: ...
        def _check_server(self) -> Version | None: ...
        def _doing(self, doing: str) -> contextlib.AbstractContextManager[None]: ...
        def holds(self, collection: str, points: int = 1) -> bool: ...

    @functools.cached_property
    def _versions(self) -> Versions:
        return Versions(self.collection, lambda: self._ask, self.where, self._slow_timeout)

    def load_info(self) -> dict[str, Any] | None:
        self._check_server()
        with self._doing("opening the collection"):
            # Once: of an alias or a collection that was there, the request itself says when it is gone.
            if not self._was_there and not self._ask.collection_exists(self.collection):
                return None
            try:
                text = read_description(self._ask, self.collection)
                if text is None and not self.holds(self.collection):
                    return None  # made by whoever manages the server, for us
            except Exception as err:
                if is_missing(err):
                    return None
                raise
        if text is None:
            raise StoreFormatError(
                f"{self.where} holds points that this library did not write. Use another collection name, or delete it."
            )
        self._was_there = True
        description = self._described(text)
        if self.is_staged:
            self._note = description.get("staged")
        return description

    @property
    def is_unfinished(self) -> bool:
        return self._note is not None

    def is_in_use(self) -> bool:
        with self._doing("reading aliases"):
            return self._versions.is_aliased(self.collection)

    def begin_again(self, info: Mapping[str, Any]) -> None:
        """Say of a version that was whole, and never came into use, that it is not any more: pages may be missing."""
        if self._note is None:
            self._note = self._staged_now()
            self.save_info(info)

    def _staged_now(self) -> dict[str, str]:
        """What the description of a version says while it is filled."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return {"since": now, "after": self._before}

    def without_name(self) -> str:
        """What to say where there is no collection because its alias was lost; "" where it was not."""
        if self.is_staged:
            return ""
        try:
            with self._doing("looking for the collection"):
                if self._versions.current() is not None:
                    return ""
                nameless = [each for each in self._versions.nameless() if self.holds(each, 2)]
        except StoreError as err:
            logger.info("%s: other collections cannot be looked at: %s", self.where, err)
            return ""
        return self._versions.without_name(nameless) if nameless else ""

    def restore_name(self) -> bool:
        """Set the alias that was lost, where exactly one collection can be meant; False where none can."""
        with self._doing("looking for the collection"):
            return self._versions.restore()

    def _described(self, text: Any) -> dict[str, Any]:
        """What the reserved point says of the collection; whoever may write there may write anything."""
        try:
            value = read_limited_json(text or "{}", MAX_DESCRIPTION)
        except (ValueError, TypeError) as err:
            raise StoreFormatError(f"{self.where} is damaged: its description is no JSON ({err}).") from err
        if not isinstance(value, dict):
            raise StoreFormatError(f"{self.where} is damaged: its description is no object. Index again.")
        return value

    def create(self, schemas: Sequence[Schema], info: Mapping[str, Any], *, anew: bool = False) -> bool:
        new = self._new(schemas, info)
        made = self._made(new, anew=anew)
        if made:
            self._was_there = True
            self._note_copies()
        return made

    def _made(self, new: NewCollection, *, anew: bool) -> bool:
        """Whether the collection was made now."""
        with self._doing("creating the collection"):
            if self.is_staged:
                made = self._versions.make_version(self.collection, new)
                self._versions.finish(self.collection, new, made)
                return made is not None
            if anew:
                self._versions.make_anew(new)
                return True
            if self._versions.make(new):
                return True
            if self.load_info() is None:
                self._describe_empty(new)
            return False

    def _make_ready(self, fields: Mapping[str, str], collection: str, there: Any) -> None:
        """Make the indexes of a collection that is new, before its name is given to it.

        Args:
            fields: The payload fields that are indexed besides the store's own, and as what.
            collection: Its name.
            there: What the server says of it.

        Raises:
            PoolingNeededError: Its strict mode forbids the searches that its vectors need.
        """
        if self._local:
            fields = {}
        else:
            check_searchable(there, read_limits(there), self.where)
        self._index_missing({**_own_indexes(), **fields}, collection, there)

    def _new(self, schemas: Sequence[Schema], info: Mapping[str, Any]) -> NewCollection:
        """What a new collection for these vectors is made with.

        Raises:
            SettingError: The server lacks something that it needs.
        """
        from qdrant_client import models

        version = self._check_server()
        check_sharding(self._options, self.where)
        if version is not None:
            check_storage(schemas, version, self.where)
        # `maker` tells whose request made it, where the answer got lost.
        description: dict[str, Any] = {**info, "maker": uuid.uuid4().hex}
        if self.is_staged:
            self._note = description["staged"] = self._staged_now()
        return NewCollection(
            vectors={n: p for schema in schemas for n, p in vector_params(schema).items()},
            sparse={TEXT_VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            description=json.dumps(description),
            options=self._options,
            make_ready=functools.partial(self._make_ready, indexed_paths(info.get("indexed") or {})),
        )

    def _describe_empty(self, new: NewCollection) -> None:
        """Take an empty collection that others made for this one: it has the right vectors, and is described now.

        Raises:
            StoreMismatchError: It has others.
        """
        there = self._ask.get_collection(self.collection)
        problems = misfits(there.config.params, {**new.vectors, **new.sparse})
        if problems:
            raise StoreMismatchError(
                f"{self.where} is there, empty, and was made for other vectors: {'; '.join(problems)}. Remove it, or "
                "use another name: this library then makes a collection that fits."
            )
        new.make_ready(self.collection, there)
        self._versions.describe(self.collection, new.description)

    def migrate(self, info: Mapping[str, Any]) -> None:
        """Write what the collection remembers into its metadata too, where that was not done when it was made."""
        if self._has_metadata:
            return
        with self._doing("describing the collection"):
            if described_in_metadata(self._ask, self.collection) is None:
                self._ask.update_collection(self.collection, metadata={DESCRIBED: json.dumps(info)})

    def save_info(self, info: Mapping[str, Any]) -> None:
        if self.is_staged and self._note is not None:
            info = {**info, "staged": self._note}  # until it is whole
        self._save(info)

    def _save(self, info: Mapping[str, Any]) -> None:
        from qdrant_client import models

        payload = {DESCRIBED: {"info": json.dumps(info)}}
        with self._doing("describing the collection"):
            self._ask.upsert(self.collection, [models.PointStruct(id=INFO_ID, vector={}, payload=payload)], wait=True)

    def drop(self) -> None:
        with self._doing("dropping the collection"):
            if self.is_staged:
                self._versions.remove_unused(self.collection)
            else:
                self._versions.drop()

    def staged(self: Self, fits: Callable[[dict[str, Any]], bool]) -> Self:
        """The engine of a version that is to take this one's place: one that was begun and fits, or a new one."""

        def described_fits(text: str) -> bool:
            return fits(self._described(text))

        with self._doing("looking for versions"):
            before = self._versions.current() or ""
            name = self._versions.next_name(described_fits)
        made = type(self)(
            self.client,
            name,
            self._place,
            owned=False,
            options=self._options,
            asked=self._asked,
            timeout=self._timeout,
            cluster=self._cluster,
        )
        made.is_staged, made._before, made._guard = True, before, self._guard
        made.where = self.where  # in messages it is the collection that users know
        return made

    def take_over(self, other: ClientLife, info: Mapping[str, Any]) -> bool:
        """Let this collection's name mean the other one; False where another run of the same has done so."""

        def same(text: str) -> bool:
            filled = ("embedder", "kind", "dimension", "fingerprint", "instruction", "also", "storage", "pooling")
            described = self._described(text)
            # As JSON has it, where tuples are lists.
            expected = json.loads(json.dumps(info))
            return all(described.get(name) == expected.get(name) for name in filled)

        with self._doing("switching the collection"):
            return self._versions.take_over(other.collection, other._before, lambda: other._save(info), same)

    @property
    def version(self) -> str:
        """The collection that holds the points: this one, or the one its name is an alias of."""
        with self._doing("reading aliases"):
            return self._versions.current() or self.collection

    def index_fields(self, fields: Mapping[str, str]) -> None:
        if self._local:
            return  # in memory every filter reads the payload anyway
        with self._doing("indexing metadata"):
            there = self._ask.get_collection(self.collection)
            self._has_metadata = described_in(there) is not None
            self._index_missing({**_own_indexes(), **fields}, self.collection, there)

    def _index_missing(self, wanted: Mapping[str, Any], collection: str, there: Any) -> None:
        """Make the indexes that are not there yet; the server takes one a request."""
        indexed = there.payload_schema or {}
        fields = {field: kind for field, kind in wanted.items() if field not in indexed}
        with warnings.catch_warnings():  # the client says that in memory an index has no effect
            warnings.filterwarnings("ignore", message="Payload indexes have no effect")
            for field, kind in fields.items():
                self._ask.create_payload_index(collection, field, field_schema=kind, wait=True)


def _own_indexes() -> dict[str, Any]:
    """The payload fields that every collection indexes, and how."""
    from qdrant_client import models

    return {**SERVER_INDEXES, TENANT: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)}
