"""What runs in the workers of a cluster: read, embed, write. Plain callables on batches of rows; nothing here is Ray's.

A row is one page on its way with what ended behind it, pickled, so that any cluster can carry it.
"""

from __future__ import annotations

import functools
import logging
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from visrag_integrations import images
from visrag_integrations.embedders import load_embedder
from visrag_integrations.errors import EmbedderError
from visrag_integrations.ingestion.documents import failed_page
from visrag_integrations.ingestion.embedding import Embedding, Equals
from visrag_integrations.ingestion.shared import Register, ServerStore
from visrag_integrations.ingestion.sources import Ended, GivenSources
from visrag_integrations.ingestion.writer import add_pages
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.readers.pool import DocumentDone, DocumentFailed, PageFailed, PageRead, ReaderPool
from visrag_integrations.store import QdrantPageStore, content_key
from visrag_integrations.types import Failure, Page

EmbedderSpec = str | PageEmbedder | Callable[[], PageEmbedder]
Batch = dict[str, Any]

logger = logging.getLogger(__name__)

_REMEMBERED = 64
"""Vectors an embedding worker keeps at hand for equal pages that follow soon."""
_TRIES = 2
"""So often a page may end the process that embeds it alone."""
_DESCRIBED = ("name", "kind", "dimension", "fingerprint", "instruction", "reads", "pooling")


@dataclass(frozen=True)
class Row:
    """One page, or none, and what ended behind it.

    Attributes:
        page: On its way; with its picture until it is written.
        picture: What is stored as its picture, where that is not the page's own.
        vector: What the embedder made of it; None where the store has a page like it.
        failure: Why the page goes no further.
        events: Pages that could not be read, and documents that ended.
        embedded: Pages that were embedded in this row's batch, told by its first row.
        error: What ended the work of a worker, and so ends the run.
    """

    page: Page | None = None
    picture: images.PictureSource | None = None
    vector: Any = None
    failure: Failure | None = None
    events: tuple[PageFailed | DocumentFailed | Ended, ...] = ()
    embedded: int = 0
    error: Exception | None = None


def pack(rows: Sequence[Row]) -> Batch:
    """Rows as a batch of one column; drawn pages become a tenth of their size, or a cluster would be full of white."""
    import pyarrow

    column = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):
        data = pickle.dumps(row, 5)
        column[place] = len(data).to_bytes(8, "big") + pyarrow.compress(data, codec="zstd", asbytes=True)
    return {"row": column}


def unpack(batch: Batch) -> list[Row]:
    """The rows of a batch."""
    import pyarrow

    sizes = (int.from_bytes(row[:8], "big") for row in batch["row"])
    packed = zip(batch["row"], sizes, strict=True)
    return [pickle.loads(pyarrow.decompress(row[8:], size, codec="zstd", asbytes=True)) for row, size in packed]


class Stage(ABC):
    """Calls `run`; what that raises becomes a row, because clusters keep little of an exception."""

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        try:
            for rows in self.run(batch):
                yield pack(rows)
        except Exception as err:
            logger.exception("a worker failed")
            yield pack([Row(error=_portable(err))])

    @abstractmethod
    def run(self, batch: Batch) -> Iterator[list[Row]]:
        """A batch in, lists of rows out."""


def _portable(err: Exception) -> Exception:
    try:
        return pickle.loads(pickle.dumps(err))  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001  exceptions of all kinds refuse to be pickled
        return RuntimeError(f"{type(err).__name__}: {err}")


class ReadDocuments(Stage):
    """Batches of sources into rows of drawn pages; every document in a process that it may crash.

    Args:
        pool: What reads them here; not started yet.
        register: Of the run.
    """

    def __init__(self, pool: ReaderPool, register: Register) -> None:
        self._pool, self._register = pool.__enter__(), register

    def run(self, batch: Batch) -> Iterator[list[Row]]:
        """The batch has columns `task` (a name) and `source` (pickled)."""
        given = GivenSources([pickle.loads(source) for source in batch["source"]], measure=False)
        task = _Task(self._register, str(batch["task"][0]))
        row = Row()
        for event in self._pool.read_documents(given, known=task.known_pages):
            if isinstance(event, PageRead):
                if row != Row():
                    yield [row]
                row = Row(event.page, _without_pixels(event.stored.picture))
            elif isinstance(event, DocumentDone):
                ended = task.ended(given.ended(event, self._pool.reader.max_bytes))
                row = replace(row, events=(*row.events, ended))
            else:
                row = replace(row, events=(*row.events, event))
        if row != Row():
            yield [row]


def _without_pixels(picture: images.PictureSource | None) -> images.PictureSource | None:
    """What a page keeps where its store keeps no pictures: by which pixels it is known."""
    return images.EncodedPixels(b"", picture.digest) if isinstance(picture, images.Pixels) else picture


class _Task:
    """One batch of sources: what the register said of its documents."""

    def __init__(self, register: Register, name: str) -> None:
        self._register, self._name = register, name
        self._before: dict[str, int] = {}
        self._copies: set[str] = set()

    def known_pages(self, doc_id: str) -> Collection[int] | None:
        if doc_id in self._before:  # the same content under a second name
            self._copies.add(doc_id)
            return None
        self._before[doc_id], numbers, elsewhere = self._register.ask(doc_id, self._name)
        if elsewhere:
            self._copies.add(doc_id)
        return numbers

    def ended(self, ended: Ended) -> Ended:
        doc_id, nothing_read = ended.done.doc_id, ended.done.total_pages is None
        return replace(ended, before=self._before[doc_id], copy=nothing_read and doc_id in self._copies)


class EmbedPages(Stage):
    """Rows of pages into rows with vectors; the model is loaded once, here.

    A batch that ended this process before is tried page by page, and a page that did so alone is given up.
    """

    def __init__(self, embedder: EmbedderSpec, equals: Equals, register: Register) -> None:
        self._embedder, self._equals, self._register = embedder, equals, register
        self._failures: dict[str, Failure] = {}

    @functools.cached_property
    def _embedding(self) -> Embedding:
        return Embedding(open_embedder(self._embedder), self._equals, self._fail)

    def _fail(self, page: Page, error: Exception) -> None:
        self._failures[page.id] = failed_page(page, error)

    def run(self, batch: Batch) -> Iterator[list[Row]]:
        rows = unpack(batch)
        self._failures.clear()
        before = self._embedding.embedded
        made = self._embed([row.page for row in rows if row.page is not None])
        rows = [self._embedded(row, made) for row in rows]
        yield [replace(rows[0], embedded=self._embedding.embedded - before), *rows[1:]]

    def _embed(self, pages: list[Page]) -> dict[str, Any]:
        if not pages:
            return {}
        work = f"{len(pages)} from {pages[0].id}"
        again = self._register.begin(work) > 1
        made: dict[str, Any] = {}
        for page in pages if again else ():
            made |= self._embed_alone(page)
        made |= {} if again else self._embed_now(pages)
        self._register.end(work)
        return made

    def _embed_alone(self, page: Page) -> dict[str, Any]:
        if self._register.begin(page.id) > _TRIES:
            self._fail(page, EmbedderError(f"it ended the embedding process {_TRIES} times."))
            return {}
        made = self._embed_now([page])
        self._register.end(page.id)
        return made

    def _embed_now(self, pages: list[Page]) -> dict[str, Any]:
        kept, vectors, _ = self._embedding.embed(pages)
        for key in list(self._embedding.flying)[:-_REMEMBERED]:
            del self._embedding.flying[key]
        return {page.id: vector for page, vector in zip(kept, vectors, strict=True)}

    def _embedded(self, row: Row, made: dict[str, Any]) -> Row:
        if row.page is None:
            return row
        page = replace(row.page, picture=row.picture)
        failure = self._failures.get(page.id)
        return replace(row, page=page, picture=None, failure=failure, vector=made.get(page.id))


class WritePages(Stage):
    """Rows with vectors into a store on a server; the pages come out without what was written of them."""

    def __init__(self, store: ServerStore) -> None:
        self._store = store

    def run(self, batch: Batch) -> Iterator[list[Row]]:
        yield write_rows(self._store.store, unpack(batch))


def write_rows(store: QdrantPageStore, rows: Sequence[Row]) -> list[Row]:
    """Add the pages of the rows; each row comes back with a page that is only a name, and why it failed if it did.

    Raises:
        StoreError: The store failed.
    """
    going = {row.page.id: row for row in rows if row.page is not None and row.failure is None}
    lent = [row.page for row in going.values() if row.vector is None and row.page is not None]
    equals = store.embeddings_of_equals(lent)
    vectors = {id_: row.vector for id_, row in going.items()} | {p.id: equals.get(content_key(p)) for p in lent}
    failures = {p.id: _lost(p) for p in lent if vectors[p.id] is None}

    def fail(page: Page, error: Exception) -> None:
        failures[page.id] = failed_page(page, error)

    pages = [row.page for id_, row in going.items() if row.page is not None and id_ not in failures]
    add_pages(store, pages, [vectors[page.id] for page in pages], fail)
    return [_written(row, failures) for row in rows]


def _written(row: Row, failures: dict[str, Failure]) -> Row:
    if row.page is None:
        return row
    name = Page(row.page.doc_id, row.page.number, source=row.page.source)
    return replace(row, page=name, vector=None, failure=row.failure or failures.get(name.id))


def _lost(page: Page) -> Failure:
    return Failure(page.source, "not embedded: the page like it went meanwhile; index it again.", page.number)


def open_embedder(embedder: EmbedderSpec) -> PageEmbedder:
    """The embedder itself, from its name, from what makes it, or as it is."""
    if isinstance(embedder, str):
        return load_embedder(embedder)
    if isinstance(embedder, type) or not isinstance(embedder, PageEmbedder):
        return embedder()
    return embedder


@dataclass
class DescribedEmbedder:
    """What a store and a reader want to know of an embedder that is elsewhere."""

    name: str
    kind: Any
    dimension: int
    fingerprint: str | None = None
    instruction: str | None = None
    reads: str = "pixels"
    pooling: str | None = None

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        raise NotImplementedError(f"{self.name} is only described here.")

    embed_queries: Any = embed_pages


def describe(embedder: EmbedderSpec) -> DescribedEmbedder:
    """What there is to know of an embedder; loads it, where it is given by name."""
    opened = open_embedder(embedder)
    found = {key: getattr(opened, key) for key in _DESCRIBED if getattr(opened, key, None) is not None}
    if hasattr(opened, "patch_grid") and not hasattr(opened, "pooling"):
        found["pooling"] = "rows"
    return DescribedEmbedder(**found)
