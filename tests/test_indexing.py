"""The loop that fills a store: any store, equal pages once, failures page by page, and how documents of a run end."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CountingEmbedder
from PIL import Image

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.errors import EmbedderError, PictureError, SettingError, StoreError
from visrag_integrations.evaluation import index_pages
from visrag_integrations.indexing import FailureRule, FillCounts, fill_store
from visrag_integrations.ingestion.documents import Documents, DocumentStatus
from visrag_integrations.ingestion.sources import GivenSources
from visrag_integrations.readers.pool import DocumentDone
from visrag_integrations.types import Failure


def _png() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(data, "PNG")
    return data.getvalue()


WORDS = ["alpha", "beta", "alpha", "gamma", "alpha", "delta"]
PAGES = [Page("d", number, picture=_png(), text=word, source="d.pdf") for number, word in enumerate(WORDS, 1)]


class PlainStore:
    """Only what filling needs of the `PageStore` plug; refuses the pages that say so."""

    def __init__(self, refuse: str = "", error: type[Exception] = EmbedderError) -> None:
        self.pages: dict[str, Any] = {}
        self.refuse, self.error = refuse, error
        self.prepared = False

    def prepare(self, embedder: Any) -> None:
        self.prepared = True

    def add_pages(self, pages: Sequence[Page], embeddings: Sequence[Any]) -> None:
        if self.refuse and any(self.refuse in page.text for page in pages):
            raise self.error("does not fit")
        for page, embedding in zip(pages, embeddings, strict=True):
            self.pages[page.id] = (page, embedding)

    def get_pages(self, ids: Sequence[str]) -> list[Page]:
        return [self.pages[id_][0] for id_ in ids if id_ in self.pages]


class Failing(CountingEmbedder):
    """Raises this for pages with the word."""

    def __init__(self, word: str, error: Exception) -> None:
        super().__init__()
        self.word, self.error = word, error
        self.calls: list[list[int]] = []

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        pages = list(pages)
        self.calls.append([page.number for page in pages])
        if any(self.word in page.text for page in pages):
            raise self.error
        return super().embed_pages(pages)


def fill(store: Any, embedder: Any, pages: Sequence[Page] = PAGES, **settings: Any) -> tuple[FillCounts, list[int]]:
    failed: list[int] = []
    counts = fill_store(
        pages,
        store,
        embedder,
        batch_size=settings.pop("batch_size", 16),
        on_failure=lambda page, error: failed.append(page.number),
        on_batch=lambda counts: None,
        **settings,
    )
    return counts, failed


@pytest.mark.parametrize("plain", [True, False], ids=["any store", "our store"])
def test_equal_pages_are_embedded_once(plain: bool) -> None:
    store: Any = PlainStore() if plain else QdrantPageStore(":memory:")
    embedder = CountingEmbedder()
    report = index_pages(PAGES, embedder, store, batch_size=2)
    assert (report.pages, report.added, report.failed) == (6, 6, ())
    # A store that can be asked for equal pages saves those of other batches too.
    assert [number for _, number in embedder.embedded] == ([1, 2, 3, 4, 5, 6] if plain else [1, 2, 4, 6])
    again = CountingEmbedder()
    assert index_pages(PAGES, again, store).added == 0
    assert again.embedded == []


def test_a_batch_is_cut_in_halves_until_the_page_at_fault_is_alone() -> None:
    embedder = Failing("gamma", PictureError("no"))
    different = [Page("d", number, text=word) for number, word in enumerate(["alpha", "beta", "gamma", "delta"], 1)]
    counts, failed = fill(PlainStore(), embedder, different)
    assert embedder.calls == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4]]
    assert (counts, failed) == (FillCounts(added=3, unchanged=0, embedded=3), [3])


def test_pages_that_a_store_refuses_are_left_out_and_a_broken_store_ends_the_run() -> None:
    store = PlainStore(refuse="alpha")
    counts, failed = fill(store, CountingEmbedder())
    assert (counts.added, failed) == (3, [1, 3, 5])
    assert len(store.pages) == 3
    with pytest.raises(StoreError, match="does not fit"):
        fill(PlainStore(refuse="alpha", error=StoreError), CountingEmbedder())


MANY = [Page("d", number, text=f"bad {number}") for number in range(1, 9)]


def test_which_failures_end_a_run() -> None:
    counts, failed = fill(PlainStore(), Failing("bad", PictureError("this page")), MANY)
    assert (counts.added, failed) == (0, [1, 2, 3, 4, 5, 6, 7, 8]), "eight bad pages are eight bad pages"

    broken = Failing("bad", ConnectionResetError("the device is gone"))
    with pytest.raises(ConnectionResetError):
        fill(PlainStore(), broken, MANY, batch_size=1)
    assert len(broken.calls) == 5

    strict = Failing("bad", PictureError("no"))
    with pytest.raises(PictureError):
        fill(PlainStore(), strict, MANY, batch_size=1, rule=FailureRule(belong_to_the_page=()))
    assert len(strict.calls) == 5

    at_once = Failing("bad", SettingError("this handle was closed"))
    with pytest.raises(SettingError):
        index_pages(MANY, at_once, PlainStore())  # type: ignore[arg-type]
    assert len(at_once.calls) == 1


def test_a_page_that_cannot_be_made_ready_is_reported_alone() -> None:
    def complete(page: Page) -> Page:
        if page.text == "gamma":
            raise PictureError("cannot be opened")
        return replace(page, text=f"{page.text}, read")

    store = PlainStore()
    counts, failed = fill(store, CountingEmbedder(), complete=complete)
    assert (counts.added, failed) == (5, [4])
    assert {page.text for page, _ in store.pages.values()} == {"alpha, read", "beta, read", "delta, read"}


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0])
def test_a_batch_size_that_would_store_nothing_is_refused(batch_size: Any) -> None:
    with pytest.raises(SettingError, match=f"batch_size is {batch_size}"):
        fill(PlainStore(), CountingEmbedder(), batch_size=batch_size)


def test_how_documents_of_a_run_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new.pdf").touch()
    failures: list[Failure] = []

    def status(doc_id: str) -> DocumentStatus:
        return documents._tracked[doc_id].status

    with QdrantPageStore(":memory:") as store:
        store.prepare(CountingEmbedder())
        whole = Page("whole", 1, text="alpha", source="whole.pdf", metadata={"total_pages": 1})
        store.add_pages([whole], np.ones((1, 4)))
        documents = Documents(store, failures.append)

        assert documents.known_pages("whole") is None
        assert status("whole") is DocumentStatus.SEEN
        documents.settle(DocumentDone("whole.pdf", "whole"))
        assert status("whole") is DocumentStatus.STORED

        for doc_id in ("new", "changed", "bad"):
            assert documents.known_pages(doc_id) == frozenset()
            assert status(doc_id) is DocumentStatus.READING
        added = [Page(doc_id, 1, text=doc_id, source=f"{doc_id}.pdf") for doc_id in ("new", "changed")]
        store.add_pages(added, np.ones((2, 4)))
        documents.added_pages([*added, *added])
        documents.settle(DocumentDone("new.pdf", "new", 1, 1))
        documents.discard(DocumentDone("changed.pdf", "changed", 1, 1))
        documents.settle(DocumentDone("bad.pdf", "bad", 1, 1))
        assert [status(doc_id).value for doc_id in ("new", "changed", "bad")] == ["stored", "failed", "failed"]

        given = GivenSources([Path("new.pdf")], measure=False)
        assert list(given) == [Path("new.pdf")]
        documents.finish(given)
        assert status("whole") is DocumentStatus.GONE
        assert (documents.added, documents.unchanged, documents.removed) == (1, 1, 1)
        assert [failure.source for failure in failures] == ["changed.pdf"]
        assert store.count() == 1
