"""The life of a collection: who fills it, its versions, its end."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from visrag_integrations.errors import StoreError
from visrag_integrations.store.engine import Engine
from visrag_integrations.store.info import CollectionInfo, Layout, check_info, read_info
from visrag_integrations.store.parts import CollectionParts
from visrag_integrations.store.picture_files import PagePictures

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

logger = logging.getLogger(__name__)

Self = TypeVar("Self", bound="Collection")


class Collection:
    """A collection in an engine, and what it remembers; `QdrantPageStore` adds its pages.

    A context manager; thread-safe.
    """

    folder: Path | None
    collection: str
    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    # The arguments are kept here, not in `__init__`, so that a subclass with other arguments can be pickled too.
    def __new__(cls: type[Self], *arguments: Any, **settings: Any) -> Self:
        store = super().__new__(cls)
        store._made_with = (arguments, settings)
        return store

    def __init__(self, engine: Engine, layout: Layout, pictures: PagePictures) -> None:
        self._engine, self._layout, self._pictures = engine, layout, pictures
        self._guard = threading.RLock()
        self._clients: list[Any] = []
        # Runs once: by `close`, or when a store that nobody closed is collected, or when the process ends.
        self._finalizer = weakref.finalize(self, engine.close)
        self._info: CollectionInfo | None = None
        try:
            self._load_info()
        except BaseException:
            self.close()
            raise

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
        location = settings.get("location")
        if arguments:
            location = arguments[0]
        return self.folder is None and isinstance(location, str) and location != ":memory:"

    @property
    def info(self) -> CollectionInfo | None:
        """Who filled the collection; None while there is none."""
        return self._info

    def prepare(
        self,
        embedder: PageEmbedder,
        reader: Mapping[str, Any] | None = None,
        *,
        also: Iterable[PageEmbedder] = (),
        recreate: bool = False,
    ) -> None:
        """Create the collection for this embedder, or check that this embedder fills it.

        Args:
            embedder: What makes the vectors.
            reader: How pages are read (`PageReader.describe()`), to be remembered.
            also: An embedder of the other kind whose vectors the same collection holds.
            recreate: Remove the collection with all its pages first.

        Raises:
            StoreMismatchError: Others fill the collection.
        """
        embedders = [embedder, *also]
        with self._guard:
            if recreate:
                self._remove_all()
            # A search may have found no collection before; another process may have made it since.
            if self._load_info() is None:
                new = self._layout.describe(embedders, reader or {})
                self._engine.create(new.schemas, new.as_dict())
            stored = self._prepared()  # another process may have been first
            for each in embedders:
                check_info(stored, each, self._engine.where)
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
        if not self._info:
            return False
        return self._engine.optimize()

    def forget(self) -> None:
        """Drop the collection; its pictures stay, for they may be another's too."""
        with self._guard:
            self._engine.drop()
            self._info = None

    def take_over(self, staged: Collection) -> None:
        """Hold what the next version holds, from one moment to the next; what was here before is gone."""
        engine: Any = self._engine
        with self._guard:
            info = staged._prepared()
            engine.take_over(staged._engine, info.as_dict())
            self._info = info

    @contextlib.contextmanager
    def client_through(self, wrap: Callable[[Any, str], Any]) -> Iterator[None]:
        """Meanwhile use what `wrap(client, where)` makes of the client of a server; an embedded folder has none.

        Blocks may overlap in any order: the last one that is still open decides.
        """
        engine: Any = self._engine
        if getattr(engine, "client", None) is None:
            yield
            return
        with self._guard:
            self._clients = self._clients or [engine.client]  # the store's own, and what the open blocks made of it
            mine = wrap(self._clients[0], engine.where)
            self._clients.append(mine)
            engine.client = mine
        try:
            yield
        finally:
            with self._guard:
                self._clients.remove(mine)
                engine.client = self._clients[-1]

    def close(self) -> None:
        """Let others have the folder, or close the connection. A client that was given is left open."""
        self._finalizer()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load_info(self) -> CollectionInfo | None:
        if self._info is None:
            with self._guard:
                stored = self._engine.load_info()
                if stored is None:
                    return None
                self._info = read_info(stored, self._engine.where)
                if not self._info.complete:
                    logger.warning("%s: an import did not finish; import it again", self._engine.where)
        return self._info

    def _prepared(self) -> CollectionInfo:
        info = self._load_info()
        if info is None:
            raise StoreError(f"{self._engine.where} has no collection yet. Call store.prepare(embedder) first.")
        return info

    def _parts(self, info: CollectionInfo) -> CollectionParts:
        return CollectionParts(self._engine, self._pictures, info.schemas)

    def _remove_all(self) -> None:
        if self._load_info() is None:
            return
        pictures: set[str] = set()
        for record in self._engine.scroll(None, ("metadata.image",)):
            reference = record.payload.get("metadata", {}).get("image")
            if reference is not None:
                pictures.add(reference)
        self._engine.drop()
        self._info = None
        self._pictures.delete(pictures)  # last: a kill leaves files that nothing shows, not pages without pictures
