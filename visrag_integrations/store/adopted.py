"""Somebody else's collection of page images, read in place: other payloads and vector names, no note of who made it."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import PictureError, SettingError, StoreError, StoreMismatchError
from visrag_integrations.store.client import ClientEngine
from visrag_integrations.store.client_writing import size_of
from visrag_integrations.store.conditions import Condition, FieldMatch
from visrag_integrations.store.engine import (
    TEXT_VECTOR,
    FusedSearch,
    PayloadChange,
    Point,
    Record,
    Schema,
    SearchHit,
    Vector,
    VectorSearch,
)
from visrag_integrations.store.info import CollectionInfo, EmbedderInfo, info_of
from visrag_integrations.store.mapping import (
    PayloadMapping,
    our_id,
    our_payload,
    read_mapping,
    their_condition,
    their_id,
    their_ids,
    their_payload,
)
from visrag_integrations.store.picture_files import PagePictures
from visrag_integrations.store.request_size import in_requests

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource
    from visrag_integrations.interfaces import PageEmbedder

# A base64 text longer than this is no file name, and no file name is longer.
_LONGEST_NAME = 1024
# How a small PNG, JPEG or WEBP begins in base64, and no file is called.
_BEGINNINGS = ("iVBORw0KGgo", "/9j/", "UklGR")
# How far from 1 the length of a stored vector may be: float16 is off by some 0.001.
_UNIT = 0.01


class AdoptedEngine(ClientEngine):
    """A collection that others fill; it is changed only where `writable` allows it, and never dropped.

    Args:
        client: The client that has it.
        collection: Its name.
        embedder: What made its vectors.
        vector_name: Which of its vectors; the only one that fits where None.
        mapping: Its payload.
        writable: Whether pages may be added and removed.
    """

    def __init__(
        self,
        client: Any,
        collection: str,
        embedder: PageEmbedder,
        *,
        vector_name: str | None = None,
        mapping: str | Mapping[str, Any] | PayloadMapping | None = None,
        writable: bool = False,
    ) -> None:
        super().__init__(client, collection, "the given QdrantClient", owned=False)
        self.is_shared = False  # its pages bring no mark of who filled it
        self.writable = writable
        self._info = info_of(embedder)
        with self._doing("opening the collection"):
            if not client.collection_exists(collection):
                raise StoreError(f"{self.where}: there is no such collection.")
            self._theirs, distance = self._vectors(self._info, vector_name)
            sample, _ = client.scroll(collection, limit=1, with_payload=True, with_vectors=True)
        self.mapping = self._with_first_page(read_mapping(mapping, (sample[0].payload or {}) if sample else {}))
        if distance == "Dot" and sample:
            self._check_unit_length(sample[0].vector)

    def _vectors(self, info: EmbedderInfo, wanted: str | None) -> tuple[str, str]:
        """The name and distance of the vectors that this embedder makes; the name "" is the unnamed one.

        Raises:
            StoreMismatchError: None fits, or several do.
        """
        params = self.client.get_collection(self.collection).config.params.vectors or {}
        named: dict[str, Any] = params if isinstance(params, dict) else {"": params}
        fitting: list[str] = []
        said: list[str] = []
        for name, vector in named.items():
            kind = "multi" if vector.multivector_config else "single"
            distance = getattr(vector.distance, "value", str(vector.distance))
            said.append(f"{name!r}: {kind}, {vector.size} dimensions, {distance}")
            fits = kind == info.kind and vector.size == info.dimension and distance in ("Cosine", "Dot")
            if fits and wanted in (None, name):
                fitting.append(name)
        if len(fitting) == 1:
            vector = named[fitting[0]]
            return fitting[0], getattr(vector.distance, "value", str(vector.distance))
        asked = f"{info.embedder!r} makes {info.kind}-vectors of {info.dimension} dimensions, compared by cosine"
        if fitting:
            raise StoreMismatchError(f"{self.where}: {asked}; several fit: {fitting}. Say vector_name=.")
        chosen = "" if wanted is None else f" vector_name={wanted!r}."
        raise StoreMismatchError(f"{self.where}: {asked}; the collection has {'; '.join(said) or 'none'}.{chosen}")

    def _check_unit_length(self, vector: Any) -> None:
        """With vectors of length 1 the dot product is the cosine; with others scores would not be what they say."""
        stored = vector.get(self._theirs) if isinstance(vector, dict) else vector
        lengths = np.linalg.norm(np.atleast_2d(np.asarray(stored, np.float32)), axis=1)
        if stored is not None and not np.allclose(lengths, 1.0, atol=_UNIT):
            raise StoreMismatchError(
                f"{self.where}: the vectors are compared by dot product and are not of length 1, so that scores would "
                "be no cosines. Index the documents again, or compare by cosine."
            )

    def _with_first_page(self, mapping: PayloadMapping) -> PayloadMapping:
        if mapping.first_page is not None:
            return mapping
        zero = FieldMatch(mapping.page, (0,)) if mapping.page else None
        found = zero is not None and next(super().scroll(zero, ()), None) is not None
        return replace(mapping, first_page=0 if found else 1)

    # --- what the store asks ------------------------------------------------------------------------------------

    def load_info(self) -> dict[str, Any]:
        own = {name: getattr(self._info, name) for name in EmbedderInfo.__dataclass_fields__}
        return CollectionInfo(**own).as_dict()

    def nearest(self, search: VectorSearch) -> list[SearchHit]:
        if search.is_lexical:
            raise SettingError(f"{self.where} has no BM25 vectors of this library. Say mode='dense'.")
        name: Any = self._theirs or None  # None asks for the unnamed one
        theirs = replace(search, name=name, condition=self._their(search.condition), among=None)
        found = super().nearest(theirs)
        return [SearchHit(our_id(hit.id), hit.score, self._ours(hit.id, hit.payload)) for hit in found]

    def fused(self, search: FusedSearch) -> list[SearchHit]:
        return self.nearest(search.lexical)  # which says that there are no words here

    def retrieve(
        self, ids: Sequence[str], fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> list[Record]:
        records = super().retrieve([their_id(id_) for id_ in ids], None, self._named(vectors))  # type: ignore[misc]
        return [self._record(record) for record in records]

    def counted_by(self, key: str, condition: Condition | None, most: int) -> dict[str, int] | None:
        return None  # its keys are others, and a document is known by what several of them say

    def scroll(
        self, condition: Condition | None, fields: Sequence[str] | None = None, vectors: Sequence[str] = ()
    ) -> Iterator[Record]:
        return map(self._record, super().scroll(self._their(condition), None, self._named(vectors)))

    def count(self, condition: Condition | None) -> int:
        return super().count(self._their(condition))

    def upsert(self, points: Sequence[Point]) -> None:
        self._check_writable()
        from qdrant_client import models

        prepared: list[tuple[Point, Any, int]] = []
        for point in points:
            ((_, vector),) = [item for item in point.vectors.items() if item[0] != TEXT_VECTOR]
            written: Any = np.asarray(vector).tolist()
            if self._theirs:
                written = {self._theirs: written}
            payload = their_payload(point.payload, self.mapping)
            struct = models.PointStruct(id=their_id(point.id), vector=written, payload=payload)
            prepared.append((point, struct, size_of(point)))
        with self._doing("adding pages"):
            for structs in in_requests(prepared):
                self.client.upsert(self.collection, structs, wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        self._check_writable()
        super().delete([their_id(id_) for id_ in ids])  # type: ignore[misc]

    def set_payload(self, ids: Sequence[str], payload: Mapping[str, Any], key: str) -> None:
        raise self._read_only("a page's sources cannot be changed")

    def set_payloads(self, changes: Sequence[PayloadChange]) -> None:
        raise self._read_only("a page's sources cannot be changed")

    def index_fields(self, fields: Mapping[str, str]) -> None:
        return  # theirs to make

    def migrate(self, info: Mapping[str, Any]) -> None:
        return  # nothing is noted in it

    def without_name(self) -> str:
        return ""

    def create(self, schemas: Sequence[Schema], info: Mapping[str, Any], *, anew: bool = False) -> bool:
        raise self._read_only("it is not made here")

    def save_info(self, info: Mapping[str, Any]) -> None:
        raise self._read_only("nothing is noted in it")

    def drop(self) -> None:
        raise self._read_only("it is not removed here")

    # --- between the two layouts --------------------------------------------------------------------------------

    def _their(self, condition: Condition | None) -> Condition | None:
        if condition is None:
            return None
        return their_ids(their_condition(condition, self.mapping))

    def _named(self, vectors: Sequence[str]) -> list[str]:
        return [self._theirs] if vectors else []

    def _with_vectors(self, vectors: Sequence[str]) -> Any:
        if list(vectors) == [""]:
            return True  # the unnamed one cannot be named
        return super()._with_vectors(vectors)

    def _record(self, record: Record) -> Record:
        vectors: dict[str, Vector] = {}
        if self._theirs in record.vectors:
            vectors[self._info.schema.vector_name] = record.vectors[self._theirs]
        return Record(our_id(record.id), self._ours(record.id, record.payload), vectors)

    def _ours(self, id_: object, payload: Mapping[str, Any]) -> dict[str, Any]:
        return our_payload(payload, our_id(id_), self.mapping)

    def _check_writable(self) -> None:
        if not self.writable:
            raise self._read_only("it was opened to be read")

    def _read_only(self, why: str) -> StoreError:
        return StoreError(
            f"{self.where} was filled by others, and {why}. To add and remove pages: adopt(..., writable=True)."
        )


class AdoptedPictures(PagePictures):
    """Pictures of somebody else's pages: inside the payload, or files below a folder that the caller named.

    Args:
        folder: Below which a payload may name files; None lets it name none.
    """

    def __init__(self, folder: Path | None) -> None:
        super().__init__(None, "adopted")
        self.folder = None if folder is None else folder.resolve()

    def source(self, reference: Any) -> PictureSource | None:
        """Where the picture is; what is refused raises when it is opened."""
        if not isinstance(reference, str) or not reference:
            return None
        return functools.partial(self.read, reference)

    def read(self, reference: str) -> bytes:
        """The encoded picture.

        Raises:
            PictureError: It is a path out of the folder, or cannot be read.
        """
        inline = _inline(reference)
        if inline is not None:
            return inline
        if self.folder is None:
            raise PictureError(
                f"The page names its picture {reference[:100]!r}. Say pictures= the folder that holds it."
            )
        try:
            path = (self.folder / reference).resolve()
            # ".." and links are followed first: what counts is where the file is.
            inside = path.is_relative_to(self.folder)
            data = path.read_bytes() if inside else b""
        except (OSError, ValueError) as err:
            raise PictureError(f"The picture {reference[:100]!r} cannot be read below {self.folder}: {err}.") from err
        if not inside:
            raise PictureError(f"The picture {reference[:100]!r} is outside of {self.folder}, and is refused.")
        return data


def _inline(reference: str) -> bytes | None:
    """The bytes of a picture in base64 or a data URL; None where it is a name."""
    is_url = reference[:5].lower() == "data:"
    is_encoded = len(reference) > _LONGEST_NAME or reference.startswith(_BEGINNINGS)
    if not is_url and not is_encoded:
        return None
    encoded = reference.partition(",")[2] if is_url else reference
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as err:
        raise PictureError(f"The picture in the payload is no base64: {err}.") from err
