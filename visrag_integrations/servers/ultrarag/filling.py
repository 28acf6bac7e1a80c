"""A corpus into a collection, so that the collection holds what the corpus has: new, changed and removed pages."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import index_pages
from visrag_integrations.files import write_whole
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.interfaces.embedders import default_mode_of, fingerprint_of, instruction_of, reads_pixels
from visrag_integrations.interfaces.stores import page_for
from visrag_integrations.servers.ultrarag.image_corpus import CONTENT, CORPUS
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Mode, Page, Query

logger = logging.getLogger(__name__)

# Pages that are asked for together; as many as the store itself reads in one go.
_TOGETHER = 256


def fill(
    pages: Sequence[Page], embedder: PageEmbedder, store: QdrantPageStore, batch_size: int, *, overwrite: bool = False
) -> list[Failure]:
    """Make the collection hold these pages of a corpus; unchanged ones are not embedded again.

    Args:
        pages: As `read_corpus` gives them.
        embedder: What makes the vectors.
        store: The collection.
        batch_size: Pages embedded together.
        overwrite: Embed the unchanged pages too.

    Returns:
        The pages that could not be read or embedded; all others are in.
    """
    failed: list[Failure] = []
    readable: list[Page] = []
    for page in pages:
        if page.picture is not None and not page.metadata[CONTENT]:
            failed.append(Failure(page.source, f"its picture {page.picture!s} cannot be read"))
        else:
            readable.append(page)
    store.prepare(embedder)
    if overwrite:  # only this corpus' pages: a collection may hold others
        store.delete(ids=[page_for(store, page).id for page in readable])
    _remove_changed(readable, store)
    report = index_pages(readable, embedder, store, batch_size=batch_size)
    failed += report.failed
    _remove_gone(pages, store)
    logger.warning("indexed %d pages, %d of them new; %d failed", report.pages, report.added, len(failed))
    return failed


def _remove_changed(pages: Sequence[Page], store: QdrantPageStore) -> None:
    """Remove stored pages whose picture or text is another one now: they are added again under the same id."""
    changed: list[str] = []
    for start in range(0, len(pages), _TOGETHER):
        batch = {(ours := page_for(store, page)).id: ours for page in pages[start : start + _TOGETHER]}
        for stored in store.get_pages(list(batch)):
            if stored.metadata.get(CONTENT) != batch[stored.id].metadata[CONTENT]:
                changed.append(stored.id)
    if changed:
        store.delete(ids=changed)


def _remove_gone(pages: Sequence[Page], store: QdrantPageStore) -> None:
    """Remove pages of this corpus that it no longer has; pages that came in another way stay."""
    there = {page_for(store, page).id for page in pages}
    gone: list[str] = []
    for stored in store.scroll({CORPUS: pages[0].metadata[CORPUS]}):
        if stored.id not in there:
            gone.append(stored.id)
    if gone:
        store.delete(ids=gone)
        logger.warning("removed %d pages that the corpus no longer has", len(gone))


def write_embeddings(pages: Sequence[Page], embedder: PageEmbedder, store: QdrantPageStore, path: Path) -> None:
    """The stored vectors as UltraRAG keeps them: one float32 .npy, a row a page, in the corpus' order.

    Raises:
        SettingError: The embedder makes several vectors a page, a page has none, or the file cannot be written.
    """
    if embedder.kind != "single":
        raise SettingError(
            f"{embedder.name} makes several vectors a page, which a .npy of one row a page cannot hold. They are in "
            "the store; set backend_configs.visrag.write_embeddings to false."
        )
    rows: list[Any] = []
    for start in range(0, len(pages), _TOGETHER):
        ids = [page_for(store, page).id for page in pages[start : start + _TOGETHER]]
        vectors = store.get_embeddings(ids)
        missing = [id_ for id_ in ids if id_ not in vectors]
        if missing:
            raise SettingError(f"{path} needs a vector of every page, and {len(missing)} pages have none in the store.")
        rows += [vectors[id_] for id_ in ids]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        np.save(file, np.asarray(rows, dtype=np.float32))
        write_whole(path, file.getvalue())
    except OSError as err:
        raise SettingError(f"{path} cannot be written: {err.strerror or err}. embedding_path names it.") from err


def read_embeddings(path: Path, pages: Sequence[Page], embedder: PageEmbedder) -> MadeEmbeddings:
    """The vectors of a .npy as an embedder that makes them.

    Raises:
        SettingError: It is no such file, or not of this corpus and embedder.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise SettingError(f"{path} cannot be read as embeddings: {err}.") from err
    wanted = (len(pages), embedder.dimension)
    if embedder.kind != "single" or rows.shape != wanted:
        raise SettingError(
            f"{path} holds numbers of shape {rows.shape}; the corpus and {embedder.name} need {wanted}: a row a page. "
            "Remove the file to have the pages embedded again."
        )
    vectors = {}
    for page, row in zip(pages, rows, strict=True):
        vectors[(page.doc_id, page.number)] = np.asarray(row, dtype=np.float32)
    return MadeEmbeddings(embedder, vectors)


@dataclass
class MadeEmbeddings:
    """An embedder whose vectors of pages were made before; the collection takes it for the one that made them."""

    maker: PageEmbedder
    vectors: Mapping[tuple[str, int], Any]

    def __post_init__(self) -> None:
        self.name, self.dimension = self.maker.name, self.maker.dimension
        self.kind: Literal["single", "multi"] = self.maker.kind
        self.fingerprint, self.instruction = fingerprint_of(self.maker), instruction_of(self.maker)
        self.default_mode: Mode = default_mode_of(self.maker)
        self.reads: Literal["text", "pixels"] = "pixels" if reads_pixels(self.maker) else "text"

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        """The vectors that were made of these pages."""
        return [self.vectors[page.doc_id, page.number] for page in pages]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        """As the embedder that made the vectors does."""
        return list(self.maker.embed_queries(list(queries)))
