"""Page pictures on a server: the collection `NAME.pictures` beside the pages', one point a picture, no vectors.

    id       made of the sha256 of the picture's bytes, as its reference is
    payload  visrag.picture  the encoded picture in base64
             visrag.saved    when it was written, or last found to be there already (seconds since 1970)
             visrag.due      when its last page went, while it waits to be deleted; 0 for all others

Two writers may share a picture: one deletes its last page while the other is about to write a page that shows it. So a
delete spares what was saved in the last ten minutes, and leaves it on the list of what is due.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import logging
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from visrag_integrations.errors import PictureError, StoreError
from visrag_integrations.store.client import ClientEngine
from visrag_integrations.store.client_models import INFO_ID
from visrag_integrations.store.engine import batches
from visrag_integrations.store.kept_picture import KeptPicture, PictureBatch, open_collections
from visrag_integrations.store.patience import PatientClient
from visrag_integrations.store.picture_files import check_reference
from visrag_integrations.store.strict_limits import MostAtOnce

logger = logging.getLogger(__name__)

SUFFIX = ".pictures"
"""How the names of picture collections end; users' own must not."""
MAX_PICTURE = 20_000_000
"""Bytes of one picture: 27 MB in base64, and a server takes 33.5 MB a request."""
SPARED = 600
"""Seconds for which a picture that was saved is not deleted: between a picture and its pages lies one request, and
those that are tried again take minutes at most."""
# Bytes of pictures in one request that writes them: some 25 of 200 KB, 7 MB of JSON.
_SENT_AT_ONCE = 5_000_000
# Ids in one condition, as `batches` makes them, pictures in one write and in one list; fewer from the first time that a
# server refuses so many.
_AT_ONCE = 256
# What a new picture collection takes over from the pages'.
_SHARED_OPTIONS = ("shard_number", "replication_factor", "write_consistency_factor")
# Indexed, for a server in strict mode refuses filters on what is not.
_INDEXED = ("visrag.saved", "visrag.due")
_NAMESPACE = uuid.UUID("0c1d6a52-6f5e-5b0e-9a55-2c9f8a3f6f1b")


class PictureCollection:
    """The pictures of one collection's pages, in a collection of their own behind the same client.

    Args:
        engine: The pages' collection; its client is used, whatever it is at the moment.
        pages: The name of the pages' collection.
        options: What a new collection gets (`server_options`); see `_SHARED_OPTIONS`.
        reconnect: Makes another client for the same server; None where the client was given, and stays open.

    Attributes:
        name: Of the picture collection.
        key: Says in other processes which one it is, and nothing of where it is.
    """

    def __init__(
        self, engine: ClientEngine, pages: str, options: Mapping[str, Any], reconnect: Callable[[], Any] | None = None
    ) -> None:
        self.engine, self.name = engine, pages + SUFFIX
        self._options = {name: value for name, value in options.items() if name in _SHARED_OPTIONS}
        self._reconnect = reconnect
        self._is_made = False
        self._asked_for_due: float | None = None
        self._named, self._written, self._listed = MostAtOnce(_AT_ONCE), MostAtOnce(_AT_ONCE), MostAtOnce(_AT_ONCE)
        self.key = _key_of(engine, self.name)
        open_collections.add(self)

    # --- in ---------------------------------------------------------------------------------------------------------

    def save(self, data: bytes, reference: str) -> None:
        self.save_all([(data, reference)])

    def save_all(self, pictures: Iterable[tuple[bytes, str]]) -> None:
        """Keep pictures; those that are there already are not sent again."""
        batch: dict[str, bytes] = {}
        size = 0
        for data, reference in pictures:
            if reference in batch:
                continue
            if batch and size + len(data) > _SENT_AT_ONCE:
                self._save(batch)
                batch, size = {}, 0
            batch[reference] = data
            size += len(data)
        if batch:
            self._save(batch)

    def _save(self, pictures: Mapping[str, bytes]) -> None:
        from qdrant_client import models

        self._make()
        now = int(time.time())
        with self._doing("saving"):
            there = self._stored(pictures)
            if there:
                # First they are said to be in use, then looked at again: a delete comes before both, or finds them new.
                self._set({"saved": now, "due": 0}, there)
                there = self._stored(there)
            points = []
            for reference, data in pictures.items():
                if reference not in there:
                    kept = {"picture": base64.b64encode(data).decode("ascii"), "reference": reference}
                    own = {**kept, "saved": now, "due": 0}
                    points.append(models.PointStruct(id=point_id(reference), vector={}, payload={"visrag": own}))

            def write(some: Sequence[Any]) -> None:
                self.engine.patient.upsert(self.name, list(some), wait=True)

            self._written.in_parts(points, write)

    def _stored(self, references: Iterable[str]) -> list[str]:
        """Those of the references that are stored."""
        by_id = {point_id(reference): reference for reference in references}
        found = self.engine.patient.retrieve(self.name, list(by_id), with_payload=False)
        return [by_id[str(record.id)] for record in found]

    def _make(self) -> None:
        """Make the collection where there is none yet."""
        from qdrant_client import models

        if self._is_made:
            return
        with self._doing("making the collection"):
            client = self.engine.patient
            if not client.collection_exists(self.name):
                try:
                    client.create_collection(
                        self.name, vectors_config={}, on_disk_payload=True, **self._options_of_pages()
                    )
                except Exception:
                    if not client.collection_exists(self.name):
                        raise
                    # else another process made it meanwhile
            if not self._is_ours():
                # Looked at twice: another process may have said so, and saved pictures, between the two.
                if self.engine.holds(self.name) and not self._is_ours():
                    raise StoreError(
                        f"The collection {self.name!r} holds points that this library did not write. Page pictures go "
                        "there: rename or remove it, or give pictures=a folder, a URL, or False for none."
                    )
                self._index()
                own = {"pictures_of": self.name.removesuffix(SUFFIX)}
                client.upsert(
                    self.name, [models.PointStruct(id=INFO_ID, vector={}, payload={"visrag": own})], wait=True
                )
        self._is_made = True

    def _is_ours(self) -> bool:
        """Whether the collection says that it is for pictures."""
        return bool(self.engine.patient.retrieve(self.name, [INFO_ID], with_payload=False))

    def _index(self) -> None:
        from qdrant_client import models

        number = models.PayloadSchemaType.INTEGER
        with warnings.catch_warnings():  # the client says that in memory an index has no effect
            warnings.filterwarnings("ignore", message="Payload indexes have no effect")
            for field in _INDEXED:
                self.engine.patient.create_payload_index(self.name, field, field_schema=number, wait=True)

    def _options_of_pages(self) -> dict[str, Any]:
        """The shards and copies of the pages' collection; what was asked for comes first."""
        asked = dict(self._options)
        if self.engine.is_local:
            return asked
        try:
            params = self.engine.patient.get_collection(self.name.removesuffix(SUFFIX)).config.params
        except Exception:  # then the server decides, as it did for the pages
            logger.info("%s: its shards and copies cannot be read", self.engine.where, exc_info=True)
            return asked
        for name in _SHARED_OPTIONS:
            value = getattr(params, name, None)
            if value is not None:
                asked.setdefault(name, value)
        return asked

    # --- out --------------------------------------------------------------------------------------------------------

    def source(self, reference: str) -> KeptPicture:
        return self.sources([reference])[0]

    def sources(self, references: Sequence[str]) -> list[KeptPicture]:
        """Where these pictures are; the first that is opened reads all of them, in one request."""
        batch = PictureBatch(self, [check_reference(reference) for reference in references])
        return [KeptPicture(self.key, self.name, reference, batch) for reference in references]

    def read(self, reference: str) -> bytes:
        found = self.read_all([reference])
        if reference not in found:
            raise PictureError(
                f"The picture {reference!r} is not in the collection {self.name!r}. Index its document again."
            )
        return found[reference]

    def read_all(self, references: Sequence[str]) -> dict[str, bytes]:
        """The pictures by reference, in one request; those that are not stored are left out."""
        by_id = {point_id(check_reference(reference)): reference for reference in references}
        with self._doing("reading"), self._reading_client() as client:
            records = client.retrieve(self.name, list(by_id), with_payload=["visrag.picture"])
        return {by_id[str(record.id)]: self._decoded(record) for record in records}

    @property
    def is_open(self) -> bool:
        """Whether the store that this belongs to was not closed."""
        return not self.engine.is_closed

    @contextlib.contextmanager
    def _reading_client(self) -> Iterator[Any]:
        """The store's client; a new one where the store was closed, for its pages are looked at afterwards too."""
        if self.is_open or self._reconnect is None:
            yield self.engine.patient
            return
        client = self._reconnect()
        try:
            yield PatientClient(client)
        finally:
            client.close()

    def _decoded(self, record: Any) -> bytes:
        """The bytes; b"" where whoever may write there wrote something else, which no decoder takes for a picture."""
        text: Any = ((record.payload or {}).get("visrag") or {}).get("picture")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError):
            return b""

    # --- gone -------------------------------------------------------------------------------------------------------

    def delete(self, reference: str) -> None:
        self.delete_all([reference])

    def delete_all(self, references: Iterable[str]) -> None:
        """Remove pictures that no page shows any more; those saved just now are put on the list of what is due."""
        from qdrant_client import models

        if not self._is_there():
            return
        old = models.FieldCondition(key="visrag.saved", range=models.Range(lt=int(time.time()) - SPARED))

        def remove(batch: Sequence[str]) -> None:
            chosen = models.HasIdCondition(has_id=[point_id(reference) for reference in batch])
            # One step on the server: what is saved between a look and a delete would be lost.
            only = models.FilterSelector(filter=models.Filter(must=[chosen, old]))
            self.engine.patient.delete(self.name, only, wait=True)

        with self._doing("removing"):
            for batch in batches(list(references)):
                self._named.in_parts(batch, remove)
                self._set({"due": int(time.time())}, batch)

    def due(self) -> list[str]:
        """What was due to be deleted and is not spared any more; the server is asked once in ten minutes."""
        from qdrant_client import models

        now = time.time()
        if self._asked_for_due is not None and now - self._asked_for_due < SPARED:
            return []
        self._asked_for_due = now
        if not self._is_there():
            return []
        listed = models.FieldCondition(key="visrag.due", range=models.Range(gt=0))
        old = models.FieldCondition(key="visrag.saved", range=models.Range(lt=int(now) - SPARED))

        def list_some(most: int) -> Any:
            return self.engine.patient.scroll(
                self.name,
                scroll_filter=models.Filter(must=[listed, old]),
                limit=most,  # the others' turn comes ten minutes later
                with_payload=["visrag.reference"],
            )

        with self._doing("listing"):
            records, _ = self._listed.within(_AT_ONCE, list_some)
        references = []
        for record in records:
            reference = ((record.payload or {}).get("visrag") or {}).get("reference")
            if isinstance(reference, str) and point_id(reference) == str(record.id):
                references.append(reference)
        return references

    def keep(self, references: Iterable[str]) -> None:
        """Take pictures off the list of what is due: a page shows them."""
        with self._doing("keeping"):
            for batch in batches(list(references)):
                self._set({"due": 0}, batch)

    def _set(self, values: Mapping[str, Any], references: Iterable[str]) -> None:
        from qdrant_client import models

        def write(some: Sequence[str]) -> None:
            chosen = models.HasIdCondition(has_id=[point_id(reference) for reference in some])
            # By a filter: an id that is gone meanwhile is no error then.
            self.engine.patient.set_payload(
                self.name, dict(values), points=models.Filter(must=[chosen]), key="visrag", wait=True
            )

        self._named.in_parts(list(references), write)

    def _is_there(self) -> bool:
        with self._doing("looking for the collection"):
            return self._is_made or bool(self.engine.patient.collection_exists(self.name))

    def _doing(self, doing: str) -> Any:
        return self.engine.doing(f"pictures in {self.name!r}: {doing}")


def point_id(reference: str) -> str:
    """The id of a picture's point: made of what its reference says of its content.

    >>> point_id("pages/e3/b0c4.jpg") == point_id("other/e3/b0c4.jpg")
    True
    """
    content = reference.partition("/")[2].replace("/", "").rpartition(".")[0]
    return str(uuid.uuid5(_NAMESPACE, content or reference))


def _key_of(engine: ClientEngine, name: str) -> str:
    """The same for all stores on one picture collection of one server, and nothing that could be read back."""
    made_with = getattr(engine.client, "init_options", {})
    address = [made_with.get(option) for option in ("location", "url", "host", "port", "prefix")]
    if engine.is_local:
        address = [id(engine.client)]
    return hashlib.sha256(repr([address, name]).encode()).hexdigest()
