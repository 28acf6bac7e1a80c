"""`index_pages`: the pages of a set into a store."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tqdm.auto import tqdm

from visrag_integrations import ocr
from visrag_integrations.errors import EmbedderError
from visrag_integrations.evaluation.record import Work
from visrag_integrations.interfaces import PageEmbedder, PageStore
from visrag_integrations.types import Failure, Page


@dataclass(frozen=True)
class PagesReport:
    """What `index_pages` did.

    Attributes:
        pages: Pages of the set that are in the store now.
        added: Those that are new.
        failed: Pages that could not be read or embedded, and why.
        seconds: How long it took.
    """

    pages: int
    added: int
    failed: tuple[Failure, ...]
    seconds: float


def index_pages(
    pages: Iterable[Page],
    embedder: PageEmbedder,
    store: PageStore,
    *,
    batch_size: int = 16,
    progress: bool | None = None,
    on_failure: Callable[[Failure], None] | None = None,
) -> PagesReport:
    """Make the store hold these pages; those that it has (by `Page.id`) are not embedded again.

    For an embedder that reads text, pages that come as pictures only are read by OCR, so that words find them too.

    Args:
        pages: For example `EvaluationSet.pages`; read once, in batches.
        embedder: What makes the vectors.
        store: Where the pages go; its collection is created for `embedder`, or checked against it.
        batch_size: Pages embedded and added together.
        progress: A progress bar; by default only where standard error is a terminal.
        on_failure: Called with every page that failed.
    """
    started, failed, counts = time.monotonic(), list[Failure](), {"known": 0, "added": 0}
    store.prepare(embedder)
    total = len(pages) if isinstance(pages, Sequence) else None
    with tqdm(total=total, unit="page", desc="Indexing", disable=None if progress is None else not progress) as bar:

        def done(finished: list[tuple[Page, None]]) -> None:
            counts["added"] += len(finished)
            bar.update(len(finished))

        def fail(page: Page, error: Exception) -> None:
            failed.append(Failure(page.source or page.doc_id, f"{error}", page.number))
            bar.update()
            if on_failure is not None:
                on_failure(failed[-1])

        def new() -> Iterator[Page]:
            for batch in _batches(pages, batch_size):
                known = {page.id for page in store.get_pages([page.id for page in batch])}
                counts["known"] += sum(page.id in known for page in batch)
                bar.update(sum(page.id in known for page in batch))
                yield from (page for page in batch if page.id not in known)

        Work[Page, None](lambda batch: _add(batch, embedder, store), done, fail, batch_size).all(new())
    return PagesReport(counts["known"] + counts["added"], counts["added"], tuple(failed), time.monotonic() - started)


def _add(pages: list[Page], embedder: PageEmbedder, store: PageStore) -> list[None]:
    if getattr(embedder, "reads", "pixels") == "text":
        pages = [_with_text(page) for page in pages]
    vectors: list[Any] = embedder.embed_pages(pages)
    if len(vectors) != len(pages):
        raise EmbedderError(f"The embedder {embedder.name!r} gave {len(vectors)} vectors for {len(pages)} pages.")
    store.add_pages(pages, vectors)
    return [None] * len(pages)


def _with_text(page: Page) -> Page:
    """The page with what OCR reads on its picture, where it came without text."""
    if page.text.strip() or page.picture is None or page.metadata.get("text_source"):
        return page
    with page.open_image() as image:
        words = ocr.read_words(image)
    metadata = {**page.metadata, "text_source": "ocr" if words else "none"}
    return replace(page, text=ocr.assemble(words), words=words, metadata=metadata)


def _batches(pages: Iterable[Page], size: int) -> Iterator[list[Page]]:
    remaining = iter(pages)
    while batch := list(itertools.islice(remaining, max(1, size))):
        yield batch
