"""`QdrantPageStore`: pages, their vectors and pictures, in one collection."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.store.documents import list_documents, of_document, set_sources, sources_of
from visrag_integrations.store.engine import Engine, Point, Record, Schema, Vector, batches
from visrag_integrations.store.filters import Ids, Match, both, parse_filter, storable
from visrag_integrations.store.folder import PICTURES, check_collection_name
from visrag_integrations.store.info import CollectionInfo, Layout, check_info, info_of, read_info
from visrag_integrations.store.payload import LISTING, content_key, page_to_payload, payload_to_page
from visrag_integrations.store.pictures import PagePictures, PictureMemory, Pictures, open_pictures
from visrag_integrations.store.portable import IndexFile, write_index
from visrag_integrations.store.search import Asked, Fusion, SearchSettings, search
from visrag_integrations.store.vectors import check_embeddings, check_vector, in_batches, named_vectors
from visrag_integrations.types import Mode, Page, ScoredPage, StoredDocument

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from visrag_integrations.interfaces import Filter, PageEmbedder

logger = logging.getLogger(__name__)

_EQUALS = 1024
_KNOWN = ("metadata.sources", "metadata.image")


class QdrantPageStore:
    """Keeps pages with their vectors and pictures in a Qdrant collection, and finds them again.

    A context manager; thread-safe. An embedded folder belongs to one process at a time.

    Args:
        location: A folder (Qdrant's engine in this process), ":memory:", the URL of a server, or a `QdrantClient`.
        collection: The collection's name.
        pictures: Where page pictures are kept: a folder or an fsspec URL; False keeps none. By default `pictures` in
            the index folder, this process's memory for ":memory:", and none for a server.
        picture_format: "JPEG", "PNG" or "WEBP"; pictures that already are such a file are kept as they are.
        picture_quality: Of JPEG and WEBP, from 1 to 100.
        quantization: "binary" searches over one bit a number and scores the best again exactly; None compares all
            numbers. "auto": binary from 1024 dimensions, for single vectors.
        storage: What the numbers of the vectors are kept as: "float32", "float16" (half the size, scores change in the
            fourth digit) or "8bit" (a quarter). "auto": float16 where vectors are pooled, else float32.
        pooling: For multi-vector embedders: "rows" or "hierarchical" keeps a few means of each page's vectors too;
            a dense search then takes its candidates by them and scores only those exactly, by all their vectors. None
            compares all vectors of all pages. "auto": what the embedder's `pooling` says; "rows" for embedders with a
            `patch_grid` that do not say.
        pooled_vectors: How many means a page gets at most.
        candidates: How many pages a first pass proposes, at least: pooled vectors to the exact MaxSim, each half to a
            hybrid search.
        fusion: How a hybrid search makes one score of two: "scores" weighs the scores themselves, "rrf" the ranks.
        fusion_weights: What the dense and the lexical half weigh with "rrf".
        api_key: Of a server.
        timeout: Seconds a server's answer may take.
        server_options: What a server's new collection gets besides, as `QdrantClient.create_collection` names it:
            `{"shard_number": 6, "replication_factor": 2, "write_consistency_factor": 1}`.
        **client_options: Passed on to `QdrantClient` for a URL.

    Raises:
        StoreFormatError: The folder is no index of this library, or of a newer version.
        StoreLockedError: Another process has the folder open.
    """

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __init__(
        self,
        location: str | Path | QdrantClient,
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
        server_options: Mapping[str, Any] | None = None,
        **client_options: Any,
    ) -> None:
        self.collection = check_collection_name(collection)
        self._layout = Layout(quantization, storage, pooling, pooled_vectors)
        self._settings = SearchSettings(candidates, fusion, fusion_weights)
        self._guard = threading.RLock()
        self.folder = _folder(location)
        files = self._open_pictures(location, pictures)
        self._pictures = PagePictures(files, self.collection, picture_format, picture_quality)
        self._server_options = dict(server_options or {})
        self._engine = self._open(location, api_key=api_key, timeout=timeout, **client_options)
        self._finalizer = weakref.finalize(self, self._engine.close)
        self._info: CollectionInfo | None = None
        try:
            self._load_info()
        except BaseException:
            self.close()
            raise

    def __new__(cls, *arguments: Any, **settings: Any) -> QdrantPageStore:
        store = super().__new__(cls)
        store._made_with = (arguments, settings)
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        """A store on a server may be sent to other processes: where it arrives it opens its own connection."""
        arguments, settings = self._made_with
        if not self.is_on_server:
            raise StoreError(
                f"{self._engine.where} cannot be sent to another process: it belongs to this one. "
                'Give the URL of a server: QdrantPageStore("http://localhost:6333").'
            )
        return functools.partial(type(self), **settings), arguments

    @property
    def is_on_server(self) -> bool:
        """Whether this store was made for the URL of a server, which other processes can open too."""
        arguments, settings = self._made_with
        location = settings["location"] if "location" in settings else arguments[0]
        return self.folder is None and isinstance(location, str) and location != ":memory:"

    def _open(self, location: Any, **options: Any) -> Engine:
        if self.folder is not None:
            from visrag_integrations.store.edge import EdgeEngine

            if self._server_options:
                raise SettingError(
                    f"server_options={self._server_options} are for a server; {self.folder} is a folder."
                )
            return EdgeEngine.open(self.folder, self.collection)
        from visrag_integrations.store.client import ClientEngine, connect

        client, where, owned = connect(location, **options)
        return ClientEngine(client, self.collection, where, owned=owned, options=self._server_options)

    def _open_pictures(self, location: Any, pictures: str | Path | bool | None) -> Pictures | None:
        if pictures is False:
            return None
        if isinstance(pictures, (str, Path)):
            return open_pictures(pictures)
        if self.folder is not None:
            return open_pictures(self.folder / PICTURES)
        return PictureMemory() if location == ":memory:" else None

    # --- the collection ---------------------------------------------------------------------------------------------

    @property
    def info(self) -> CollectionInfo | None:
        """Who filled the collection; None while there is none."""
        return self._info

    def prepare(
        self, embedder: PageEmbedder, reader: Mapping[str, Any] | None = None, *, recreate: bool = False
    ) -> None:
        """Create the collection for this embedder, or check that it was filled by the same one.

        Args:
            embedder: What makes the vectors.
            reader: How pages are read (`PageReader.describe()`), to be remembered.
            recreate: Remove the collection with all its pages first.

        Raises:
            StoreMismatchError: Another embedder filled the collection.
        """
        with self._guard:
            if recreate:
                self._remove_all()
            if self._load_info() is None:
                info = replace(
                    self._layout.applied(info_of(embedder), _pooling_of(embedder)),
                    reader=dict(reader or {}),
                )
                self._engine.create(info.schema, info.as_dict())
            stored = self._prepared()  # another process may have been first
            check_info(stored, embedder, self._engine.where)
            if reader and dict(reader) != dict(stored.reader):
                if stored.reader:
                    logger.warning(
                        "%s: pages are now read with %s, before with %s", self._engine.where, reader, stored.reader
                    )
                info = replace(stored, reader=dict(reader))
                self._engine.save_info(info.as_dict())
                self._info = info

    def optimize(self) -> bool:
        """Build the embedded engine's HNSW graphs and merge its segments; True when there was something to do.

        This takes minutes on large collections and stops every other Python thread meanwhile. Searches are fast
        without it up to some 100,000 pages. A server optimizes itself: there it does nothing.
        """
        return self._engine.optimize() if self._info else False

    def next_version(self) -> QdrantPageStore:
        """A store that is filled beside this one, with the same pictures, to take its place; close it."""
        engine: Any = self._engine
        names = (f"{self.collection}.next", f"{self.collection}.other")
        name = next(name for name in names if name != engine.version)
        location = self.folder if self.folder is not None else engine.client
        staged = QdrantPageStore(location, name, pictures=False, server_options=self._server_options)
        staged._layout, staged._settings, staged._pictures = self._layout, self._settings, self._pictures
        return staged

    def forget(self) -> None:
        """Drop the collection; its pictures stay, for they may be another's too."""
        with self._guard:
            self._engine.drop()
            self._info = None

    def take_over(self, staged: QdrantPageStore) -> None:
        """Hold what the next version holds, from one moment to the next; what was here before is gone."""
        engine: Any = self._engine
        with self._guard:
            info = staged._prepared()
            engine.take_over(staged._engine, info.as_dict())
            self._info = info

    @contextlib.contextmanager
    def client_through(self, wrap: Callable[[Any, str], Any]) -> Iterator[None]:
        """Meanwhile use what `wrap(client, where)` makes of the client of a server; an embedded folder has none."""
        engine: Any = self._engine
        given = getattr(engine, "client", None)
        if given is None:
            yield
            return
        engine.client = wrap(given, engine.where)
        try:
            yield
        finally:
            engine.client = given

    def close(self) -> None:
        """Let others have the folder, or close the connection. A client that was given is left open."""
        self._finalizer()

    def __enter__(self) -> QdrantPageStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def picture_settings(self) -> tuple[str, int] | None:
        """The format and quality in which pictures are kept; None where none are."""
        return (self._pictures.format, self._pictures.quality) if self._pictures.files is not None else None

    # --- pages in ---------------------------------------------------------------------------------------------------

    def add_pages(self, pages: Iterable[Page], embeddings: Iterable[Any]) -> None:
        """Add pages, or overwrite those with the same ids; when it returns, they survive a kill.

        Args:
            pages: The pages; their pictures are encoded and kept unless the store keeps none.
            embeddings: One each, in order: `(dim,)` or `(n, dim)`. Vectors are kept at unit length. An empty one leaves
                the page to the lexical search.

        Raises:
            EmbedderError: An embedding that does not fit.
            SettingError: Metadata that JSON cannot hold.
            PictureError: A page's picture cannot be opened.
        """
        pages, embeddings = list(pages), list(embeddings)
        info = self._prepared()
        vectors = check_embeddings(pages, embeddings, info.schema)
        with self._guard:
            for start, end in in_batches(vectors):
                self._add(pages[start:end], vectors[start:end], info.schema)

    def _add(self, pages: Sequence[Page], vectors: Sequence[Vector | None], schema: Schema) -> None:
        ids = [page.id for page in pages]
        known = {r.id: r.payload.get("metadata") or {} for r in self._engine.retrieve(list(dict.fromkeys(ids)), _KNOWN)}
        points: dict[str, Point] = {}
        replaced: set[str] = set()
        for id_, page, vector in zip(ids, pages, vectors, strict=True):
            before = known.get(id_, {})
            image = self._pictures.save(page.picture)
            payload = page_to_payload(page, sources=before.get("sources") or (), image=image)
            if before.get("image") not in (None, image):
                replaced.add(before["image"])
            known[id_] = payload["metadata"]
            points[id_] = Point(id_, named_vectors(vector, page.text, schema), payload)
        self._engine.upsert(list(points.values()))
        self._forget_pictures(replaced)

    def add_source(self, doc_id: str, source: str) -> int:
        """Remember that a stored document was also found at `source`; returns how many pages it has."""
        if not self._info:
            return 0
        with self._guard:
            records = list(self._engine.scroll(of_document(doc_id), LISTING))
            set_sources(self._engine, {record: [*sources_of(record), storable(source)] for record in records})
        return len(records)

    # --- pages out --------------------------------------------------------------------------------------------------

    def search(
        self,
        vector: Any,
        *,
        text: str = "",
        top_k: int = 5,
        filter: Filter | None = None,
        mode: Mode = "dense",
    ) -> list[ScoredPage]:
        """The best pages, best first; none while nothing was indexed.

        Args:
            vector: The query's embedding; None for mode "lexical".
            text: The query's text, for modes "lexical" and "hybrid".
            top_k: At most so many.
            filter: Metadata the pages must have. See `filters.parse_filter`.
            mode: "dense" (cosine or MaxSim), "lexical" (BM25) or "hybrid" (both, fused).
        """
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise SettingError(f"top_k is {top_k!r}; it is the number of pages wanted, 1 or more.")
        if mode not in get_args(Mode):
            raise SettingError(f"mode is {mode!r}; allowed: {', '.join(get_args(Mode))}.")
        condition = parse_filter(filter)
        info = self._info or self._load_info()
        if info is None:
            logger.warning("%s: nothing was indexed yet", self._engine.where)
            return []
        asked = Asked(vector, text, top_k, condition, mode)
        found, score_type = search(self._engine, info.schema, asked, self._settings)
        return [ScoredPage(self._page(hit.payload), hit.score, score_type) for hit in found]

    def score(self, vector: Any, ids: Iterable[str]) -> dict[str, float]:
        """The exact dense score (cosine or MaxSim) of these pages, from their stored vectors; others are left out."""
        info, wanted = self._load_info(), tuple(dict.fromkeys(ids))
        asked = check_vector(vector, info.schema, lambda: "The query") if info is not None and wanted else None
        if info is None or asked is None:
            return {}
        name, only = info.schema.vector_name, Ids(wanted)
        found = self._engine.nearest(name, asked, len(wanted), only, with_payload=False, exact=True)
        return {hit.id: hit.score for hit in found}

    def get_pages(self, ids: Sequence[str]) -> list[Page]:
        """The pages with these ids, in that order; ids that are not stored are left out."""
        if not self._load_info():
            return []
        found = {record.id: record for batch in batches(ids) for record in self._engine.retrieve(batch)}
        return [self._page(found[id_].payload) for id_ in ids if id_ in found]

    def get_embeddings(self, ids: Sequence[str]) -> dict[str, Vector]:
        """The stored vectors of these pages (unit length); pages without one are left out."""
        info = self._load_info()
        if info is None:
            return {}
        name = info.schema.vector_name
        found = (r for batch in batches(ids) for r in self._engine.retrieve(batch, (), [name]))
        return {record.id: record.vectors[name] for record in found if name in record.vectors}

    def embeddings_of_equals(self, pages: Sequence[Page]) -> dict[str, Vector]:
        """Stored vectors of pages with the same picture and text as one of these, by `content_key`; best effort."""
        keys = {content_key(page) for page in pages} - {""}
        if not keys or self._load_info() is None:
            return {}
        equals: dict[str, str] = {}
        condition = Match("visrag.content", tuple(keys))
        for record in islice(self._engine.scroll(condition, ("visrag.content",)), _EQUALS):  # blank pages are many
            equals.setdefault(record.payload["visrag"]["content"], record.id)
            if len(equals) == len(keys):
                break
        vectors = self.get_embeddings(list(equals.values()))
        return {key: vectors[id_] for key, id_ in equals.items() if id_ in vectors}

    def contents(self, doc_id: str | None = None) -> list[str]:
        """The `content_key` of each page of a document, or of all, that has one."""
        if not self._load_info():
            return []
        records = self._engine.scroll(None if doc_id is None else of_document(doc_id), ("visrag.content",))
        return [record.payload["visrag"]["content"] for record in records if record.payload.get("visrag")]

    def scroll(self, filter: Filter | None = None) -> Iterator[Page]:
        """Every page that fits the filter, read in small batches; the order is the store's own."""
        condition = parse_filter(filter)
        if self._load_info():
            for record in self._engine.scroll(condition):
                yield self._page(record.payload)

    def count(self, filter: Filter | None = None) -> int:
        """How many pages fit the filter."""
        condition = parse_filter(filter)
        return self._engine.count(condition) if self._load_info() else 0

    def documents(self, filter: Filter | None = None) -> list[StoredDocument]:
        """Every document that is stored, by its first source."""
        condition = parse_filter(filter)
        return list_documents(self._engine.scroll(condition, LISTING)) if self._load_info() else []

    def page_numbers(self, doc_id: str) -> Collection[int]:
        """The numbers of a document's stored pages."""
        if not self._load_info():
            return frozenset()
        records = self._engine.scroll(of_document(doc_id), LISTING)
        return frozenset(record.payload["metadata"]["number"] for record in records)

    # --- pages gone -------------------------------------------------------------------------------------------------

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
        condition = parse_filter(filter)
        if ids is not None:
            condition = both(Ids(tuple(ids)), condition)
        if doc_id is None and source is None and condition is None:
            raise SettingError(
                "delete() needs a doc_id, a source, ids or a filter. To remove all: prepare(embedder, recreate=True)."
            )
        if not self._load_info():
            return 0
        if doc_id is not None:
            condition = both(of_document(doc_id), condition)
        if source is not None:
            condition = both(Match("visrag.source_keys", (storable(source),)), condition)
        with self._guard:
            records = list(self._engine.scroll(condition, (*LISTING, "metadata.image")))
            left: dict[Record, list[str]] = {record: [] for record in records}
            if source is not None:  # exactly this one; the condition takes a file name too
                held = [record for record in records if storable(source) in sources_of(record)]
                left = {record: [s for s in sources_of(record) if s != storable(source)] for record in held}
            set_sources(self._engine, {record: sources for record, sources in left.items() if sources})
            gone = [record for record, sources in left.items() if not sources]
            for batch in batches([record.id for record in gone]):
                self._engine.delete(batch)
            self._forget_pictures({r.payload["metadata"].get("image") for r in gone})
        return len(gone)

    # --- the whole index --------------------------------------------------------------------------------------------

    def export(self, path: str | Path) -> int:
        """Write the whole index (pages, vectors, pictures) to one file; returns how many pages it holds."""
        info = self._prepared()
        return write_index(Path(path), info, info.schema, self._engine, self._pictures)

    @classmethod
    def import_from(
        cls, path: str | Path, location: str | Path | QdrantClient, collection: str = "pages", **settings: Any
    ) -> QdrantPageStore:
        """A store with everything that `export` wrote, in a new collection; the arguments are the constructor's.

        Raises:
            StoreFormatError: The file is no exported index, damaged, or of a newer version.
            StoreError: The collection is not empty.
        """
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
        self._remove_all()
        self._engine.create(file.info.schema, file.info.as_dict())
        self._info = file.info
        self._pictures.keep_formats = True
        try:
            for pages, vectors in file.batches(file.info.schema):
                self.add_pages(pages, vectors)
        except BaseException:
            self._remove_all()
            raise
        finally:
            self._pictures.keep_formats = False
        self._info = replace(file.info, complete=True)
        self._engine.save_info(self._info.as_dict())

    # --- inside -----------------------------------------------------------------------------------------------------

    def _load_info(self) -> CollectionInfo | None:
        if self._info is None:
            with self._guard:
                stored = self._engine.load_info()
                self._info = read_info(stored, self._engine.where) if stored is not None else None
                if self._info is not None and not self._info.complete:
                    logger.warning("%s: an import did not finish; import it again", self._engine.where)
        return self._info

    def _prepared(self) -> CollectionInfo:
        info = self._load_info()
        if info is None:
            raise StoreError(f"{self._engine.where} has no collection yet. Call store.prepare(embedder) first.")
        return info

    def _remove_all(self) -> None:
        if self._load_info() is not None:
            images_ = {
                r.payload.get("metadata", {}).get("image") for r in self._engine.scroll(None, ("metadata.image",))
            }
            self._engine.drop()
            self._info = None
            self._pictures.delete(images_ - {None})

    def _page(self, payload: Mapping[str, Any]) -> Page:
        return payload_to_page(payload, self._pictures.source((payload.get("metadata") or {}).get("image")))

    def _forget_pictures(self, references: set[Any]) -> None:
        """Delete those of the pictures that no page speaks of any more."""
        for batch in batches(references - {None}):
            records = self._engine.scroll(Match("metadata.image", tuple(batch)), ("metadata.image",))
            self._pictures.delete(set(batch) - {record.payload["metadata"]["image"] for record in records})


def _folder(location: Any) -> Path | None:
    """The folder, where the location is one."""
    if isinstance(location, str) and (location == ":memory:" or location.startswith(("http://", "https://"))):
        return None
    if isinstance(location, str) and "://" in location:
        raise SettingError(f"The location {location!r} is of no kind a store can open: http:// and https:// it can.")
    if location == "":
        raise SettingError('The location is empty. Give a folder, ":memory:" or a URL.')
    return Path(location) if isinstance(location, (str, Path)) else None


def _pooling_of(embedder: PageEmbedder) -> str | None:
    """How the embedder's pages are pooled best, where it says or has patches."""
    said: str | None = getattr(embedder, "pooling", "rows" if hasattr(embedder, "patch_grid") else None)
    return said
