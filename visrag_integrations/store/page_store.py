"""`QdrantPageStore`: pages, their vectors and pictures, in one collection."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError, StoreError, StoreFormatError, storable
from visrag_integrations.store.addresses import addresses_of
from visrag_integrations.store.adopted import AdoptedEngine, AdoptedPictures
from visrag_integrations.store.collection import Collection
from visrag_integrations.store.conditions import FieldMatch, Ids, both
from visrag_integrations.store.connect import check_options, connect, folder_of, open_engine
from visrag_integrations.store.documents import of_document, set_sources, sources_of
from visrag_integrations.store.folder import DEFAULT_FOLDER, check_collection_name
from visrag_integrations.store.indexed import check_indexed_fields, make_indexes
from visrag_integrations.store.info import SERVER_FORMAT, CollectionInfo, Layout, read_info
from visrag_integrations.store.mapping import PayloadMapping
from visrag_integrations.store.new_collections import create_collection
from visrag_integrations.store.payload import LISTING
from visrag_integrations.store.picture_collection import PictureCollection
from visrag_integrations.store.picture_files import BorrowedPictures, PagePictures, pictures_for
from visrag_integrations.store.portable import IndexFile, write_index
from visrag_integrations.store.refusals import is_missing
from visrag_integrations.store.search import Fusion, SearchSettings
from visrag_integrations.store.server_pictures import ServerPictures, check_not_pictures
from visrag_integrations.store.shown import FieldKind
from visrag_integrations.store.stored_pages import StoredPages
from visrag_integrations.store.tenants import check_tenant, of_tenant
from visrag_integrations.store.vectors import check_embeddings, in_batches
from visrag_integrations.store.version_names import is_version
from visrag_integrations.store.writing import remove_pages, write_pages
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from visrag_integrations.interfaces import Filter, PageEmbedder

logger = logging.getLogger(__name__)


class QdrantPageStore(StoredPages):
    """Keeps pages with their vectors and pictures in a Qdrant collection, and finds them again.

    A context manager; thread-safe. An embedded folder belongs to one process at a time.

    Args:
        location: A folder (Qdrant's engine in this process), ":memory:", the URL of a server, or a `QdrantClient`. By
            default the folder .visrag, which the `visrag` command uses too.
            Several URLs of one cluster, as a list or with commas: what one does not answer is asked of the next.
        collection: The collection's name.
        pictures: Where page pictures are kept: a folder or an fsspec URL; False keeps none. By default `pictures` in
            the index folder, this process's memory for ":memory:", and for a server or a client the collection
            `NAME.pictures` beside the pages'. A collection remembers the kind of place; a folder or URL must be named
            by every store that is to see the pictures. True: on the server, in a collection from before it did so.
        picture_format: "JPEG", "PNG" or "WEBP"; pictures that already are such a file are kept as they are.
        picture_quality: Of JPEG and WEBP, from 1 to 100.
        quantization: "binary" searches over one bit a number and scores the best again exactly; None compares all
            numbers. "auto": binary from 1024 dimensions, for single vectors.
        storage: What the numbers of the vectors are kept as: "float32", "float16" (half the size, scores change in the
            fourth digit), "8bit" (a quarter) or "compact" (an eighth, for many vectors a page: four bits a number, the
            most alike vectors joined; finds a little less). "auto": float16 where vectors are pooled, else float32.
        pooling: For multi-vector embedders: "rows" or "hierarchical" keeps a few means of each page's vectors too;
            a dense search then takes its candidates by them and scores only those exactly, by all their vectors. None
            compares all vectors of all pages. "auto": what the embedder's `pooling` says; "rows" for embedders with a
            `patch_grid` that do not say, and on a server that forbids exact searches.
        pooled_vectors: How many means a page gets at most.
        candidates: How many pages a first pass proposes, at least: pooled vectors to the exact MaxSim, each half to a
            hybrid search.
        fusion: How a hybrid search makes one score of two: "scores" weighs the scores themselves, "rrf" the ranks.
        fusion_weights: What the dense and the lexical half weigh with "rrf".
        api_key: Of a server.
        timeout: Seconds a server's answer may take; by default $VISRAG_TIMEOUT, else 60. Connecting may take 5.
        tenant: Whose store this is. Pages that are added become theirs, and nothing here finds, gives or removes a page
            of anybody else, whatever a filter says. "" is the store of everybody's pages.
        indexed_fields: Metadata keys that filters will use, each "keyword", "integer", "float", "datetime" or "bool".
            Searches with such filters then need not read every page; a server in strict mode refuses others. Keys of a
            collection that is there already are indexed by `prepare`.
        server_options: What a server's new collection gets besides, as `QdrantClient.create_collection` names it:
            `{"shard_number": 6, "replication_factor": 2, "write_consistency_factor": 1}`.
        read_consistency: In a cluster, how many copies each read asks: a number, "majority", "quorum" or "all". By
            default one, which is fastest and goes on while nodes are away.
        write_ordering: In a cluster, "weak", "medium" or "strong". By default the server's, which is weak, and strong
            for what two writers may change at once, the sources of a page.
        **client_options: Passed on to `QdrantClient` for a URL.

    Raises:
        StoreFormatError: The folder is no index of this library, or of a newer version.
        StoreLockedError: Another process has the folder open.
    """

    def __init__(
        self,
        location: str | Path | QdrantClient | Sequence[str] = DEFAULT_FOLDER,
        collection: str = "pages",
        *,
        pictures: str | Path | bool | None = None,
        picture_format: str = "JPEG",
        picture_quality: int = 85,
        quantization: str | None = "auto",
        storage: str = "auto",
        pooling: str | None = "auto",
        pooled_vectors: int = 32,
        candidates: int = 100,
        fusion: Fusion = "scores",
        fusion_weights: tuple[float, float] = (1.0, 1.0),
        api_key: str | None = None,
        timeout: int | None = None,
        tenant: str = "",
        indexed_fields: Mapping[str, FieldKind] | None = None,
        server_options: Mapping[str, Any] | None = None,
        read_consistency: int | str | None = None,
        write_ordering: str | None = None,
        **client_options: Any,
    ) -> None:
        check_options(location, client_options, inspect.signature(QdrantPageStore).parameters)
        self.collection = check_collection_name(collection)
        self._settings = SearchSettings(candidates, fusion, fusion_weights)
        self._server_options = dict(server_options or {})
        self.folder = folder_of(location)
        fields = check_indexed_fields(indexed_fields)
        check_tenant(tenant)
        layout = Layout(quantization, storage, pooling, pooled_vectors)
        if self.folder is None:
            check_not_pictures(self.collection)
        kept = PagePictures(None, self.collection, picture_format, picture_quality)
        if self.folder is not None or location == ":memory:":
            kept.files = pictures_for(location, self.folder, pictures)
        engine: Any = open_engine(
            location,
            self.collection,
            self._server_options,
            api_key=api_key,
            timeout=timeout,
            read_consistency=read_consistency,
            write_ordering=write_ordering,
            **client_options,
        )
        if self.folder is not None:
            kept.due_list = engine.due_pictures
        if self.folder is None and location != ":memory:":
            reconnect = None
            if addresses_of(location):
                reconnect = partial(_client, addresses_of(location), api_key=api_key, timeout=timeout, **client_options)
            try:
                beside = PictureCollection(engine, self.collection, self._server_options, reconnect)
                kept = ServerPictures(beside, pictures, self.collection, picture_format, picture_quality)
            except BaseException:
                engine.close()
                raise
        super().__init__(engine, layout, kept, tenant=tenant, indexed_fields=fields)
        if self.folder is None:
            self._refuse_versions()

    @classmethod
    def adopt(
        cls,
        client: QdrantClient,
        collection: str,
        *,
        embedder: PageEmbedder,
        mapping: str | Mapping[str, Any] | PayloadMapping | None = None,
        vector_name: str | None = None,
        pictures: str | Path | None = None,
        writable: bool = False,
        candidates: int = 100,
    ) -> QdrantPageStore:
        """A collection of page images that others filled, read where it is: dense searches and filters work.

        Args:
            client: The client that has it; it stays open.
            collection: Its name.
            embedder: What made its vectors: the collection does not say. Kind, dimension and distance are checked.
            mapping: What its payload is like: "langchain" (langchain-qdrant), "llamaindex", "flat" (`source` and `page`
                beside each other, as in tutorials of ColPali and byaldi), or a dict of the fields of `PayloadMapping`.
                None looks at a point.
            vector_name: Which of its vectors; the only one that fits when None.
            pictures: The folder below which the payload names picture files. Base64 in the payload needs none; a path
                that leads out of the folder is refused.
            writable: Whether pages may be added and removed; the collection itself is never removed.
            candidates: See `QdrantPageStore`.

        Raises:
            StoreMismatchError: The collection has no vectors that this embedder makes.
            StoreError: There is no such collection.
        """
        engine = AdoptedEngine(
            client, collection, embedder, vector_name=vector_name, mapping=mapping, writable=writable
        )
        store = cls.__new__(cls, client, collection)
        store.collection, store.folder, store._server_options = collection, None, {}
        store._settings = SearchSettings(candidates)
        folder = None if pictures is None else Path(pictures)
        Collection.__init__(store, engine, Layout(), AdoptedPictures(folder))
        store._in_place = store._indexes_checked = True
        return store

    def next_version(
        self, embedders: Sequence[PageEmbedder] = (), reader: Mapping[str, Any] | None = None
    ) -> QdrantPageStore:
        """A store that is filled beside this one, with the same pictures, to take its place; close it.

        Args:
            embedders: What is to fill it: on a server, a version that was begun for the same ones is gone on with.
            reader: How its pages are read, so that such a version has to be read alike; None takes any.
        """
        if self.tenant:
            raise SettingError(
                f"The collection is indexed again as a whole, and this store is of tenant {self.tenant!r}. Open it "
                "without tenant."
            )
        engine: Any = self._engine
        if self.folder is not None:
            # Two names take turns: the collection may hold the one that took its place last time.
            name = f"{self.collection}.next"
            if engine.version == name:
                name = f"{self.collection}.other"
            staged = QdrantPageStore(self.folder, name, pictures=False)
        else:
            staged = QdrantPageStore.__new__(QdrantPageStore, engine.client, self.collection)
            staged.collection, staged.folder, staged._server_options = self.collection, None, self._server_options
            fits = partial(_is_for, embedders, reader, self._engine.where)
            Collection.__init__(staged, engine.staged(fits), self._layout, BorrowedPictures(self._pictures))
        staged._layout, staged._settings = self._layout, self._settings
        staged._indexed_fields = dict(self._info.indexed if self._info else {}) | self._indexed_fields
        due_list = staged._pictures.due_list
        staged._pictures = BorrowedPictures(self._pictures)
        staged._pictures.due_list = due_list
        return staged

    @property
    def picture_settings(self) -> tuple[str, int] | None:
        """The format and quality in which pictures are kept; None where none are."""
        if self._pictures.files is None and self._pictures.kind not in ("folder", "url"):
            return None
        return self._pictures.format, self._pictures.quality

    # --- pages in ---------------------------------------------------------------------------------------------------

    def add_pages(self, pages: Iterable[Page], embeddings: Iterable[Any]) -> None:
        """Add pages, or overwrite those with the same ids; when it returns, they survive a kill.

        Args:
            pages: The pages; their pictures are encoded and kept unless the store keeps none.
            embeddings: One each, in order: `(dim,)` or `(n, dim)`, or both as `{"page": ..., "patches": ...}` where
                two embedders fill the collection. Vectors are kept at unit length. A page with an empty one is not
                found by it.

        Raises:
            EmbedderError: An embedding that does not fit.
            SettingError: Metadata that JSON cannot hold.
            PictureError: A page's picture cannot be opened.
        """
        pages, embeddings = list(pages), list(embeddings)
        if self.tenant:
            pages = [of_tenant(page, self.tenant) for page in pages]
        parts = self._parts(self._with_pictures(self._to_write()))
        vectors = check_embeddings(pages, embeddings, parts.schemas, parts.engine.max_numbers)
        with self._guard:
            for start, end in in_batches(vectors):
                write_pages(parts, pages[start:end], vectors[start:end])

    def add_source(self, doc_id: str, source: str) -> int:
        """Remember that a stored document was also found at `source`; returns how many pages it has."""
        if not self._info:
            return 0
        with self._guard:
            records = list(self._shown.scroll(of_document(doc_id), LISTING))
            set_sources(self._shown, {record: [*sources_of(record), storable(source)] for record in records})
        return len(records)

    # --- removing pages ---------------------------------------------------------------------------------------------

    def delete(
        self,
        *,
        doc_id: str | None = None,
        source: str | None = None,
        filter: Filter | None = None,
        ids: Iterable[str] | None = None,
    ) -> int:
        """Remove pages; returns how many are gone. What is given must all hold.

        Args:
            doc_id: Of this document.
            source: Found at exactly this path or URI. A page that was found elsewhere too stays, without this source.
            filter: With this metadata.
            ids: One of these (`Page.id`).
        """
        condition = self._condition(filter)
        if ids is not None:
            condition = both(Ids(tuple(ids)), condition)
        if doc_id is None and source is None and condition is None:
            raise SettingError(
                "delete() needs a doc_id, a source, ids or a filter. To remove all: prepare(embedder, recreate=True)."
            )
        info = self._load_info()
        if info is None:
            return 0
        if doc_id is not None:
            condition = both(of_document(doc_id), condition)
        if source is not None:
            condition = both(FieldMatch("visrag.source_keys", (storable(source),)), condition)
        with self._guard:
            return remove_pages(self._parts(info), condition, source)

    # --- the whole index --------------------------------------------------------------------------------------------

    def export(self, path: str | Path) -> int:
        """Write the whole index (pages, vectors, pictures) to one file; returns how many pages it holds."""
        info = self._prepared()
        return write_index(Path(path), info, self._parts(info))

    @classmethod
    def import_from(
        cls, path: str | Path, location: str | Path | QdrantClient, collection: str = "pages", **settings: Any
    ) -> QdrantPageStore:
        """A store with everything that `export` wrote, in a new collection; the arguments are the constructor's.

        Raises:
            StoreFormatError: The file is no exported index, damaged, or of a newer version.
            StoreError: The collection is not empty.
        """
        if settings.get("tenant"):
            raise SettingError(
                "An export holds the pages of its tenants. Import it without tenant, then open the store with."
            )
        file = IndexFile(Path(path))
        try:
            store = cls(location, collection, **settings)
            try:
                store._fill(file)
            except BaseException:
                store.close()
                raise
        finally:
            file.close()
        return store

    def _fill(self, file: IndexFile) -> None:
        info = self._load_info()
        if info is not None and info.complete and self.count():
            raise StoreError(f"{self._engine.where} holds pages already. Import into another collection or folder.")
        busy = f"{self._engine.where}: another process makes it at this moment. Import into another collection."
        try:
            self._remove_all()  # what an import that did not finish left
        except StoreError as err:
            if err.__cause__ is None or not is_missing(err.__cause__):
                raise
            raise StoreError(busy) from err
        self._pictures.settle_new()
        # Not `prepare`: there is no embedder here, only what the file says of it.
        described = replace(file.info, pictures=self._pictures.kind)  # its own place, not the other store's
        made = create_collection(self._engine, self._layout, self._with_format(described))
        if made is None:
            raise StoreError(busy)
        make_indexes(self._engine, made.indexed, made.indexed)
        self._info = made
        self._pictures.keep_formats = True  # a JPEG of the other store is not encoded again as this one's WEBP
        try:
            for pages, embeddings in file.batches():
                self.add_pages(pages, embeddings)
        except BaseException:
            self._remove_all()
            raise
        finally:
            self._pictures.keep_formats = False
        self._info = replace(made, complete=True)
        self._engine.save_info(self._info.as_dict())

    # --- internals --------------------------------------------------------------------------------------------------

    def _with_pictures(self, info: CollectionInfo) -> CollectionInfo:
        """What the collection remembers, once it says of what kind the place of its pictures is."""
        kind = self._pictures.kind
        if kind in ("", "none", info.pictures):
            return info
        with self._guard:
            self._info = info = replace(info, pictures=kind)
            self._engine.save_info(info.as_dict())
        return info

    def _refuse_versions(self) -> None:
        """Nothing, unless the name is that of another collection's version; one from before there were any may stay.

        Raises:
            SettingError: It is.
        """
        if not is_version(self.collection):
            return
        if self._info is not None and self._info.format_version < SERVER_FORMAT:
            return
        self.close()
        name = self.collection.rpartition(".")[0]
        raise SettingError(
            f"The collection name {self.collection!r} is not allowed: '.v' and a number at its end are for versions of "
            f"{name!r}. Open {name!r}, or choose another name."
        )


def _is_for(
    embedders: Sequence[PageEmbedder], reader: Mapping[str, Any] | None, where: str, description: Mapping[str, Any]
) -> bool:
    """Whether a version that was begun is filled by these embedders, and by no others, from pages that are read so."""
    try:
        info = read_info(description, where)
    except StoreFormatError:
        return False
    if reader is not None and dict(info.reader) != dict(reader):
        return False
    return len(info.embedders) == len(embedders) and all(info.remembers(embedder) for embedder in embedders)


def _client(location: Sequence[str], **options: Any) -> QdrantClient:
    client, *_ = connect(location, **options)
    return client
