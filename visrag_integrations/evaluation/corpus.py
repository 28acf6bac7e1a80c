"""`index_pages`: the pages of a set into a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from visrag_integrations import ocr
from visrag_integrations.evaluation.batch_runner import ERRORS_THAT_END_A_RUN
from visrag_integrations.indexing import FailureRule, FillCounts, fill_store
from visrag_integrations.interfaces import PageEmbedder, PageStore
from visrag_integrations.interfaces.embedders import reads_pixels
from visrag_integrations.progress_bars import progress_bar
from visrag_integrations.types import Failure, Page

# As for questions, any five failures in a row end it: what is measured on a set that is mostly missing means nothing.
_RULE = FailureRule(end_the_run=ERRORS_THAT_END_A_RUN, belong_to_the_page=())


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
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        on_failure: Called with every page that failed.
    """
    started = time.monotonic()
    failed: list[Failure] = []
    store.prepare(embedder)
    total = None
    if isinstance(pages, Sequence):
        total = len(pages)
    complete: Callable[[Page], Page] | None = with_text
    if reads_pixels(embedder):
        complete = None
    with progress_bar(progress, total=total, unit="page", desc="Indexing") as bar:

        def show(counts: FillCounts) -> None:
            bar.update(counts.added + counts.unchanged + len(failed) - bar.n)

        def fail(page: Page, error: Exception) -> None:
            failed.append(Failure(page.source or page.doc_id, f"{error}", page.number))
            if on_failure is not None:
                on_failure(failed[-1])

        counts = fill_store(
            pages,
            store,
            embedder,
            batch_size=batch_size,
            on_failure=fail,
            on_batch=show,
            complete=complete,
            rule=_RULE,
        )
    return PagesReport(counts.unchanged + counts.added, counts.added, tuple(failed), time.monotonic() - started)


def with_text(page: Page) -> Page:
    """The page with what OCR reads on its picture, where it came without text."""
    if page.text.strip() or page.picture is None or page.metadata.get("text_source"):
        return page
    with page.open_image() as image:
        words = ocr.read_words(image)
    source = "ocr" if words else "none"
    metadata = {**page.metadata, "text_source": source}
    return replace(page, text=ocr.assemble(words), words=words, metadata=metadata)
