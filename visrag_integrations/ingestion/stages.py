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
from visrag_integrations.indexing import BatchEmbedder, add_pages
from visrag_integrations.ingestion.cluster_state import Register, ServerStore
from visrag_integrations.ingestion.documents import failed_page
from visrag_integrations.ingestion.sources import EndedDocument, GivenSources
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.interfaces.embedders import (
    fingerprint_of,
    has_patches,
    instruction_of,
    open_pages,
    reads_pixels,
)
from visrag_integrations.readers.pool import DocumentDone, DocumentFailed, PageFailed, PageRead, ReaderPool
from visrag_integrations.store import QdrantPageStore, content_key
from visrag_integrations.types import Failure, Page

EmbedderSpec = str | PageEmbedder | Callable[[], PageEmbedder]
RowBatch = dict[str, Any]

logger = logging.getLogger(__name__)

# Vectors an embedding worker keeps at hand for equal pages that follow soon (blank pages, a cover before every part).
# Each takes kilobytes, of late interaction hundreds of them; with none, only pages of one batch would share a vector.
_REMEMBERED = 64
# So often a page may crash the process that embeds it alone: once may be bad luck, a node that went or a full memory.
_TRIES = 2
# Pickle's newest format (since Python 3.8), which carries large buffers without a copy.
_PICKLE_PROTOCOL = 5


@dataclass(frozen=True)
class PageRow:
    """One page, or none, and what ended behind it.

    Attributes:
        page: On its way; with its picture until it is written.
        picture: What is stored as its picture, where that is not the page's own.
        vector: What the embedder made of it; None where the store has a page like it.
        failure: Why the page goes no further.
        events: Pages that could not be read, and documents that ended.
        embedded: How many pages were embedded in this row's batch; only its first row says so.
        error: What ended the work of a worker, and so ends the run.
    """

    page: Page | None = None
    picture: images.PictureSource | None = None
    vector: Any = None
    failure: Failure | None = None
    events: tuple[PageFailed | DocumentFailed | EndedDocument, ...] = ()
    embedded: int = 0
    error: Exception | None = None


def pack(rows: Sequence[PageRow]) -> RowBatch:
    """Rows as a batch of one column, each pickled and compressed.

    Compressed, a drawn page takes a tenth of its size or less; without it the memory of a cluster would be full of
    white paper. A cell is the size in eight bytes, then the data.
    """
    import pyarrow

    column = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):
        data = pickle.dumps(row, _PICKLE_PROTOCOL)
        column[place] = len(data).to_bytes(8, "big") + pyarrow.compress(data, codec="zstd", asbytes=True)
    return {"row": column}


def unpack(batch: RowBatch) -> list[PageRow]:
    """The rows of a batch."""
    import pyarrow

    rows: list[PageRow] = []
    for cell in batch["row"]:
        size = int.from_bytes(cell[:8], "big")
        rows.append(pickle.loads(pyarrow.decompress(cell[8:], size, codec="zstd", asbytes=True)))
    return rows


class Stage(ABC):
    """Calls `run`; what that raises becomes a row, because clusters keep little of an exception."""

    def __call__(self, batch: RowBatch) -> Iterator[RowBatch]:
        try:
            for rows in self.run(batch):
                yield pack(rows)
        except Exception as err:
            logger.exception("a worker failed")
            yield pack([PageRow(error=_portable(err))])

    @abstractmethod
    def run(self, batch: RowBatch) -> Iterator[list[PageRow]]:
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

    def run(self, batch: RowBatch) -> Iterator[list[PageRow]]:
        """The batch has columns `task` (a name) and `source` (pickled)."""
        given = GivenSources([pickle.loads(source) for source in batch["source"]], measure=False)
        task = _SourceBatch(self._register, str(batch["task"][0]))
        # What ended after a page travels with that page: so the two arrive together, and in order.
        row = PageRow()
        for event in self._pool.read_documents(given, known=task.known_pages):
            if isinstance(event, PageRead):
                if row != PageRow():
                    yield [row]
                row = PageRow(event.page, _without_pixels(event.stored.picture))
            elif isinstance(event, DocumentDone):
                ended = task.ended(given.ended(event, self._pool.reader.max_bytes))
                row = replace(row, events=(*row.events, ended))
            else:
                row = replace(row, events=(*row.events, event))
        if row != PageRow():
            yield [row]


def _without_pixels(picture: images.PictureSource | None) -> images.PictureSource | None:
    """What a page keeps where its store keeps no pictures: by which pixels it is known."""
    if isinstance(picture, images.Pixels):
        return images.EncodedPixels(b"", picture.digest)
    return picture


class _SourceBatch:
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

    def ended(self, ended: EndedDocument) -> EndedDocument:
        doc_id, nothing_read = ended.done.doc_id, ended.done.total_pages is None
        return replace(ended, before=self._before[doc_id], copy=nothing_read and doc_id in self._copies)


class EmbedPages(Stage):
    """Rows of pages into rows with vectors; the model is loaded once, here.

    A batch that crashed this process before is tried page by page, and a page that did so alone is given up.
    """

    def __init__(self, embedder: EmbedderSpec, equals: object, register: Register) -> None:
        self._embedder, self._equals, self._register = embedder, equals, register
        self._failures: dict[str, Failure] = {}

    @functools.cached_property
    def _embedding(self) -> BatchEmbedder:
        return BatchEmbedder(open_embedder(self._embedder), self._equals, self._fail)

    def _fail(self, page: Page, error: Exception) -> None:
        self._failures[page.id] = failed_page(page, error)

    def run(self, batch: RowBatch) -> Iterator[list[PageRow]]:
        rows = unpack(batch)
        self._failures.clear()
        before = self._embedding.embedded
        vectors = self._embed([row.page for row in rows if row.page is not None])
        rows = [self._with_vector(row, vectors) for row in rows]
        yield [replace(rows[0], embedded=self._embedding.embedded - before), *rows[1:]]

    def _embed(self, pages: list[Page]) -> dict[str, Any]:
        """Page id -> vector, of those that could be embedded."""
        if not pages:
            return {}
        # The register outlives this process. A name that was begun and never ended is work that crashed it.
        name = f"{len(pages)} from {pages[0].id}"
        vectors: dict[str, Any] = {}
        if self._register.begin(name) > 1:
            for page in pages:
                vectors |= self._embed_alone(page)
        else:
            vectors = self._embed_now(pages)
        self._register.end(name)
        return vectors

    def _embed_alone(self, page: Page) -> dict[str, Any]:
        if self._register.begin(page.id) > _TRIES:
            self._fail(page, EmbedderError(f"it ended the embedding process {_TRIES} times."))
            return {}
        vectors = self._embed_now([page])
        self._register.end(page.id)
        return vectors

    def _embed_now(self, pages: list[Page]) -> dict[str, Any]:
        made = self._embedding.embed(pages)
        # The oldest are dropped: a dict keeps the order in which its keys came.
        for key in list(self._embedding.in_flight)[:-_REMEMBERED]:
            del self._embedding.in_flight[key]
        return {page.id: vector for page, vector in zip(made.pages, made.vectors, strict=True)}

    def _with_vector(self, row: PageRow, vectors: dict[str, Any]) -> PageRow:
        if row.page is None:
            return row
        # From here on the page has the picture that is stored; the drawn pixels were only for the embedder.
        page = replace(row.page, picture=row.picture)
        failure = self._failures.get(page.id)
        return replace(row, page=page, picture=None, failure=failure, vector=vectors.get(page.id))


class WritePages(Stage):
    """Rows with vectors into a store on a server; the pages come out without what was written of them."""

    def __init__(self, store: ServerStore) -> None:
        self._store = store

    def run(self, batch: RowBatch) -> Iterator[list[PageRow]]:
        yield write_rows(self._store.store, unpack(batch))


def write_rows(store: QdrantPageStore, rows: Sequence[PageRow]) -> list[PageRow]:
    """Add the pages of the rows; each row comes back with a page that is only a name, and why it failed if it did.

    Raises:
        StoreError: The store failed.
    """
    by_id: dict[str, Page] = {}
    vectors: dict[str, Any] = {}
    without_vector: list[Page] = []
    for row in rows:
        if row.page is None or row.failure is not None:
            continue
        by_id[row.page.id] = row.page
        vectors[row.page.id] = row.vector
        if row.vector is None:
            without_vector.append(row.page)

    # A worker that was only told which contents are stored sends such pages without a vector: it is taken from there.
    failures: dict[str, Failure] = {}
    equals = store.embeddings_of_equals(without_vector)
    for page in without_vector:
        vectors[page.id] = equals.get(content_key(page))
        if vectors[page.id] is None:
            reason = "not embedded: the page like it was removed meanwhile; index it again."
            failures[page.id] = Failure(page.source, reason, page.number)

    def fail(page: Page, error: Exception) -> None:
        failures[page.id] = failed_page(page, error)

    pages = [page for page in by_id.values() if page.id not in failures]
    add_pages(store, pages, [vectors[page.id] for page in pages], fail)
    return [_written(row, failures) for row in rows]


def _written(row: PageRow, failures: dict[str, Failure]) -> PageRow:
    if row.page is None:
        return row
    name = Page(row.page.doc_id, row.page.number, source=row.page.source)
    return replace(row, page=name, vector=None, failure=row.failure or failures.get(name.id))


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
    open_pages(opened)
    pooling = getattr(opened, "pooling", "rows" if has_patches(opened) else None)
    return DescribedEmbedder(
        name=opened.name,
        kind=opened.kind,
        dimension=opened.dimension,
        fingerprint=fingerprint_of(opened),
        instruction=instruction_of(opened),
        reads="pixels" if reads_pixels(opened) else "text",
        pooling=pooling,
    )
