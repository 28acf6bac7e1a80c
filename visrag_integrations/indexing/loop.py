"""The loop that fills a store: skip what is stored, embed the rest, add it; what fails is reported page by page.

`fill_store` runs both halves one after the other. A pipeline that overlaps them, or runs them on two machines, uses the
halves themselves: `BatchEmbedder.embed`, and `add_pages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from visrag_integrations.errors import SettingError, StoreError, VisRAGError
from visrag_integrations.indexing.embedding import PAGES_FAIL_ALONE, BatchEmbedder, FailureRule, OnFailure
from visrag_integrations.indexing.joint_embedder import EmbedsPages
from visrag_integrations.interfaces import PageStore
from visrag_integrations.types import Page


@dataclass(frozen=True)
class FillCounts:
    """How far `fill_store` is, in pages.

    Attributes:
        added: Pages that are new in the store.
        unchanged: Pages that were there already, by `Page.id`.
        embedded: Pages the embedder made vectors for; the others were equal to one that had a vector.
    """

    added: int = 0
    unchanged: int = 0
    embedded: int = 0


def fill_store(
    pages: Iterable[Page],
    store: PageStore,
    embedder: EmbedsPages,
    *,
    batch_size: int,
    on_failure: OnFailure,
    on_batch: Callable[[FillCounts], None],
    complete: Callable[[Page], Page] | None = None,
    rule: FailureRule = PAGES_FAIL_ALONE,
) -> FillCounts:
    """Make the store hold these pages. Every batch is stored before the next one is embedded.

    Args:
        pages: Read lazily, a batch at a time.
        store: Where they go; its collection is prepared already.
        embedder: What makes the vectors.
        batch_size: Pages embedded and added together.
        on_failure: Called with each page that could not be embedded or stored, and why; the others go on.
        on_batch: Called after every batch.
        complete: Makes each new page ready before it is embedded and stored, for example reads its text.
        rule: Which errors end the run.
    """
    check_batch_size(batch_size)
    embedding = BatchEmbedder(embedder, store, on_failure, rule)
    added = unchanged = 0
    for batch in in_batches(pages, batch_size):
        stored = stored_ids(store, batch)
        new = [page for page in batch if page.id not in stored]
        ready = new if complete is None else _completed(new, complete, on_failure, rule)
        made = embedding.embed(ready)
        added += len(add_pages(store, made.pages, made.vectors, on_failure))
        embedding.in_flight.clear()  # from here on the store itself knows them
        unchanged += len(batch) - len(new)
        on_batch(FillCounts(added, unchanged, embedding.embedded))
    return FillCounts(added, unchanged, embedding.embedded)


def _completed(
    pages: Sequence[Page], complete: Callable[[Page], Page], on_failure: OnFailure, rule: FailureRule
) -> list[Page]:
    """The pages made ready; those that cannot be are reported."""
    ready: list[Page] = []
    for page in pages:
        try:
            ready.append(complete(page))
        except rule.end_the_run:
            raise
        except Exception as err:  # noqa: BLE001  pictures and engines of all kinds raise anything
            on_failure(page, err)
    return ready


def add_pages(store: PageStore, pages: Sequence[Page], vectors: Sequence[Any], on_failure: OnFailure) -> list[Page]:
    """Add what the store takes of these pages; gives the pages that are in it now.

    Raises:
        StoreError: The store failed.
    """
    if not pages:
        return []
    try:
        store.add_pages(pages, vectors)
    except StoreError:
        raise
    except VisRAGError as err:
        if len(pages) == 1:
            on_failure(pages[0], err)
            return []
    else:
        return list(pages)
    # One of the pages is at fault: each is tried alone, so that the others are kept.
    added: list[Page] = []
    for page, vector in zip(pages, vectors, strict=True):
        added += add_pages(store, [page], [vector], on_failure)
    return added


def stored_ids(store: PageStore, pages: Sequence[Page]) -> set[str]:
    """The ids of those of the pages that the store holds."""
    return {page.id for page in store.get_pages([page.id for page in pages])}


def in_batches(pages: Iterable[Page], size: int) -> Iterator[list[Page]]:
    """The pages, so many at a time."""
    remaining = iter(pages)
    while batch := list(islice(remaining, size)):
        yield batch


def check_batch_size(batch_size: int) -> None:
    """Nothing for a batch size that can be used.

    Raises:
        SettingError: It is not a whole number from 1. (With 0 no page would ever be stored, and nothing would say so.)
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise SettingError(f"batch_size is {batch_size!r}; it must be a whole number, 1 or more.")
