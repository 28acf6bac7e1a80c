"""The life of a collection: who fills it, its versions, its end."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.interfaces.embedders import open_pages
from visrag_integrations.interfaces.reader_versions import (
    is_outdated,
    is_read_otherwise,
    outdated_note,
    with_oldest_version,
)
from visrag_integrations.store.conditions import Condition, both
from visrag_integrations.store.connect import is_url
from visrag_integrations.store.described import DescribedCollection
from visrag_integrations.store.engine import Engine
from visrag_integrations.store.filter_notes import Show, note_on
from visrag_integrations.store.filters import parse_filter
from visrag_integrations.store.indexed import indexed_paths, make_indexes
from visrag_integrations.store.info import SERVER_FORMAT, CollectionInfo, Layout, check_info, format_for
from visrag_integrations.store.new_collections import create_collection
from visrag_integrations.store.parts import CollectionParts
from visrag_integrations.store.picture_files import PagePictures
from visrag_integrations.store.shown import FilterView, as_shown
from visrag_integrations.store.tenants import TenantEngine, check_tenant
from visrag_integrations.store.writing import delete_unused_pictures, remove_pages, shown_only_by

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter, PageEmbedder

logger = logging.getLogger(__name__)

Self = TypeVar("Self", bound="Collection")


class Collection(DescribedCollection):
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

    filters_as_shown = True
    """A filter in "$metadata" is one on what hosts show as metadata."""
    _in_place = False

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        pictures: PagePictures,
        *,
        tenant: str = "",
        indexed_fields: Mapping[str, str] | None = None,
    ) -> None:
        self._engine, self._layout, self._pictures = engine, layout, pictures
        self._show(tenant)
        self._indexed_fields = dict(indexed_fields or {})
        self._indexes_checked = False
        self._guard = threading.RLock()
        self._clients: list[Any] = []
        # Runs once: by `close`, or when a store that nobody closed is collected, or when the process ends.
        self._finalizer = weakref.finalize(self, engine.close)
        self._info: CollectionInfo | None = None
        self._read_at = float("-inf")
        self._strays: frozenset[str] = frozenset()
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
                f"{self._engine.where} cannot be copied or sent to another process: it belongs to this one. "
                'Give the URL of a server: QdrantPageStore("http://localhost:6333").'
            )
        return functools.partial(type(self), **self._pictures.for_others(settings)), arguments

    @property
    def tenant(self) -> str:
        """Whose pages these are; "" for those of everybody."""
        return self._tenant

    def of_tenant(self: Self, tenant: str) -> Self:
        """The same store with the pages of one tenant only: what is added is theirs, others are not found or touched.

        It shares this store's connection, so that closing either closes both.

        Raises:
            SettingError: This store is another tenant's.
        """
        if check_tenant(tenant) == self._tenant:
            return self
        if self._tenant:
            raise SettingError(
                f"This store is of tenant {self._tenant!r}, not of {tenant!r}. Open one for that tenant."
            )
        shown = object.__new__(type(self))
        shown.__dict__.update(self.__dict__)
        arguments, settings = self._made_with
        shown._made_with = (arguments, {**settings, "tenant": tenant})
        shown._show(tenant)
        shown._made_of = self  # else this store could be collected, and close what both use
        return shown

    def _show(self, tenant: str) -> None:
        """Show the pages of this tenant, or with "" of everybody."""
        self._tenant = check_tenant(tenant)
        self._made_of: Collection | None = None
        self._shown: Engine = TenantEngine(self._engine, tenant) if tenant else self._engine

    @property
    def is_on_server(self) -> bool:
        """Whether this store was made for the URL of a server, which other processes can open too."""
        arguments, settings = self._made_with
        location = settings.get("location")
        if arguments:
            location = arguments[0]
        return is_url(location)

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
        for each in embedders:
            open_pages(each)  # what is to be filled is described by the model that fills it
        with self._guard:
            if recreate:
                self._start_over(embedders, reader or {})
            # Asked each time: another process may have made it since, or made it anew for another embedder.
            if self._look() is None:
                new = self._described(embedders, reader or {})
                self._know_made(create_collection(self._engine, self._layout, new))
            stored = self._prepared()  # another process may have been first
            if self._engine.is_staged:
                self._engine.begin_again(stored.as_dict())
            for each in embedders:
                check_info(stored, each, self._engine.where)
            stored = self._up_to_date(stored)
            if reader:
                self._remember_reader(stored, reader)
            self._remove_left_pictures()

    def _remember_reader(self, stored: CollectionInfo, reader: Mapping[str, Any]) -> None:
        """Note how pages are read from now on; as long as there are pages of an older version, so does its number."""
        remembered = dict(reader)
        if is_outdated(stored.reader) and self._engine.count(None):
            remembered = with_oldest_version(reader, stored.reader)
        if remembered == dict(stored.reader):
            return
        if stored.reader and is_read_otherwise(reader, stored.reader):
            logger.warning("%s: pages are now read with %s, before with %s", self._engine.where, reader, stored.reader)
        info = replace(stored, reader=remembered)
        self._engine.save_info(info.as_dict())
        self._info = info

    @property
    def outdated(self) -> str:
        """What to know where an older version read the pages, and the command that mends it; "" where none did."""
        if self._info is None:
            return ""
        return outdated_note(self._info.reader)

    def _remove_left_pictures(self) -> None:
        """Remove what a run that was killed left in a folder; a server's list is looked at when pages are written."""
        info = self._load_info()
        if info is not None and self._pictures.due_list is not None and self._pictures.due():
            delete_unused_pictures(self._parts(info), set())

    def _described(self, embedders: Sequence[PageEmbedder], reader: Mapping[str, Any]) -> CollectionInfo:
        """What a new collection for these embedders will remember."""
        described = self._layout.describe(embedders, reader)
        new = replace(described, indexed=self._indexed_fields, pictures=self._pictures.kind)
        return self._with_format(new)

    def _with_format(self, info: CollectionInfo) -> CollectionInfo:
        """The same with the format version that a collection here has."""
        version = SERVER_FORMAT if self._engine.is_shared else format_for(info.embedders)
        return replace(info, format_version=version)

    def _up_to_date(self, info: CollectionInfo) -> CollectionInfo:
        """What the collection remembers once its fields are indexed, and it has what new ones have; looked at once."""
        if self._indexes_checked:
            return info
        fields = {**info.indexed, **self._indexed_fields}
        try:
            make_indexes(self._engine, fields, info.indexed)
        except StoreError:
            if fields != dict(info.indexed):
                raise
            # Nobody asked for one: who may only read a server can search without them, if more slowly.
            logger.info("%s: indexes of metadata are missing, and cannot be made", self._engine.where, exc_info=True)
        try:
            self._engine.migrate(info.as_dict())
        except StoreError:
            logger.info("%s: its metadata cannot be changed; it goes on without", self._engine.where, exc_info=True)
        self._indexes_checked = True
        if fields == dict(info.indexed):
            return info
        info = replace(info, indexed=fields)
        self._engine.save_info(info.as_dict())
        self._info = info
        return info

    def _start_over(self, embedders: Sequence[PageEmbedder], reader: Mapping[str, Any]) -> None:
        """An empty collection for these embedders; of a store of one tenant the tenant's pages only are removed."""
        info = self._look()
        if info is None:
            return
        if self._tenant:
            for each in embedders:
                check_info(info, each, self._engine.where)
            remove_pages(self._parts(info), None, None)
            return
        pictures = self._shown_pictures() | self._pictures.due()
        self._pictures.note(pictures)
        self._pictures.settle_new()
        made = create_collection(self._engine, self._layout, self._described(embedders, reader), anew=True)
        # Behind the pages: a kill leaves files that nothing shows, not pages without pictures.
        self._pictures.delete(pictures)
        self._know_made(made)

    def _know_made(self, made: CollectionInfo | None) -> None:
        """Go by what the collection was made with, just now; None where another process was first."""
        self._info, self._indexes_checked = None, False
        if made is not None and self._engine.is_shared:
            # It has its indexes, and need not be asked what has just been written.
            self._adopt(made)
            self._indexes_checked = True
            return
        self._load_info()

    def restore_alias(self) -> bool:
        """Set the alias of a collection on a server that lost it, as `prepare` does; whether that was so.

        Raises:
            StoreError: Several collections may be meant.
        """
        engine: Any = self._engine
        if self._info is not None or not engine.is_shared or not engine.restore_name():
            return False
        self.refresh()
        return True

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
            self._shown.drop()
            self._info = None

    def take_over(self, staged: Collection) -> bool:
        """Hold what the next version holds, from one moment to the next; what was here before is gone.

        Returns:
            Whether this call has done it; False where another run of the same re-index was first.

        Raises:
            StoreError: A re-index with another embedder was first.
        """
        engine: Any = self._engine
        with self._guard:
            info = staged._prepared()
            unused = self._unused_after(staged)
            self._pictures.note(unused)
            first: bool = engine.take_over(staged._engine, info.as_dict())
            self._info = None  # read again: another run may have noted more
            info = self._prepared()
            if first:
                staged._pictures.shown(unused)
                delete_unused_pictures(self._parts(info), unused)
            return first

    def _unused_after(self, staged: Collection) -> set[str]:
        """The pictures that the next version shows no more, and those that it has saved for pages that it lost."""
        unused: set[str] = set()
        if staged._pictures.due_list is not None:
            unused = staged._pictures.due_list.all()
        info = self._load_info()
        if info is None or self._pictures.files is None:
            return unused
        return unused | shown_only_by(self._parts(info), staged._parts(staged._prepared()))

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
            if not self._clients:  # the store's own, and what the open blocks made of it
                self._clients.append(engine.client)
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

    def _parts(self, info: CollectionInfo) -> CollectionParts:
        integers = frozenset(key for key, kind in info.indexed.items() if kind == "integer")
        mark = info.mark if self._engine.is_shared else ""
        return CollectionParts(self._shown, self._pictures, info.schemas, self._engine, integers, mark)

    def why_nothing(self, filter: Filter, within: Filter | None = None, show: Show = str) -> str:
        """Which key or value of the filter no page has, by a look at a thousand pages; "" where some page fits it.

        Args:
            filter: That found nothing.
            within: The pages that whoever asked may know of.
            show: How a text of a page's metadata is written.
        """
        allowed, condition = self._condition(within), self._condition(filter)
        if self._load_info() is None:
            return ""
        if next(self._shown.scroll(both(allowed, condition), ()), None) is not None:
            return ""  # it is not the filter
        return note_on(filter, self._shown, allowed, show)

    def _condition(self, filter: Filter | None) -> Condition | None:
        """The filter as this store's pages are looked at; None when it asks for nothing."""
        condition = parse_filter(filter)
        if condition is None:
            return None
        if self._in_place:
            return condition  # its engine knows what others call things
        info = self._load_info()
        indexed = indexed_paths(info.indexed) if info is not None else {}
        return as_shown(condition, FilterView(indexed, one_tenant=bool(self._tenant)))

    def _shown_pictures(self) -> set[str]:
        """The pictures of all pages."""
        pictures: set[str] = set()
        for record in self._engine.scroll(None, ("metadata.image",)):
            reference = record.payload.get("metadata", {}).get("image")
            if reference is not None:
                pictures.add(reference)
        return pictures

    def _remove_all(self) -> None:
        if self._load_info() is None:
            return
        pictures = self._shown_pictures() | self._pictures.due()
        self._pictures.note(pictures)
        self._engine.drop()
        self._info = None
        self._pictures.settle_new()
        self._pictures.delete(pictures)  # last: a kill leaves files that nothing shows, not pages without pictures
