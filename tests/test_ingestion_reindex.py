"""Another embedder for a whole collection: made beside the old one, which it replaces in one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder
from places import opened, places

from visrag_integrations import Page, PageReader, QdrantPageStore, index_documents
from visrag_integrations.errors import SettingError, StoreError, StoreMismatchError
from visrag_integrations.ingestion import reindex

READER = PageReader(backend="pdfium", ocr="never", max_pixels=100_000)


class Wider(CountingEmbedder):
    """Another model: more dimensions, and it may break after some pages."""

    name, dimension = "wider", 6
    words = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")

    def __init__(self, refuse: str = "", breaks_after: int = 10**9) -> None:
        super().__init__(refuse)
        self.breaks_after = breaks_after

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        pages = list(pages)
        if len(self.embedded) >= self.breaks_after:
            raise KeyboardInterrupt
        return super().embed_pages(pages)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    draw_pdf(made / "one.pdf", ["alpha first", "beta second", "gamma third", "epsilon fourth"])
    draw_pdf(made / "two.pdf", ["delta alone"])
    return made


@pytest.fixture(params=places("folder", "memory", "server"))
def store(request: pytest.FixtureRequest, tmp_path: Path, folder: Path) -> Iterator[QdrantPageStore]:
    """A filled store of each kind; what opens it again is its attribute `again`."""
    settings = {} if request.param == "folder" else {"pictures": tmp_path / "pictures"}
    with opened(request.param, tmp_path) as place:
        yield from _filled(folder, place, **settings)


def _filled(folder: Path, location: Any, **settings: Any) -> Iterator[QdrantPageStore]:
    with QdrantPageStore(location, **settings) as store:
        index_documents(folder, store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
        store.again = lambda: QdrantPageStore(location, **settings)  # type: ignore[attr-defined]
        yield store


def best(store: QdrantPageStore, embedder: CountingEmbedder, word: str) -> tuple[str, int]:
    (hit,) = store.search(embedder.embed_queries([word])[0], top_k=1)
    assert hit.page.open_image().size[0] > 100
    return Path(hit.page.source).name, hit.page.number


def test_the_new_vectors_take_the_place_of_the_old(store: QdrantPageStore) -> None:
    before = {page.id: (page.text, page.source, dict(page.metadata)) for page in store.scroll()}
    for _ in range(2):  # there and back, and again, through both versions
        report = reindex(store, embedder=Wider())
        assert (report.documents, report.pages, report.added, report.embedded) == (2, 5, 5, 5)
        assert store.info is not None
        assert (store.info.embedder, store.info.dimension) == ("wider", 6)
        assert best(store, Wider(), "epsilon") == ("one.pdf", 4)
        assert {page.id: (page.text, page.source, dict(page.metadata)) for page in store.scroll()} == before
        with pytest.raises(StoreMismatchError):
            store.prepare(CountingEmbedder())
        reindex(store, embedder=CountingEmbedder())
        assert best(store, CountingEmbedder(), "gamma") == ("one.pdf", 3)
    with store.again() as opened:  # type: ignore[attr-defined]
        assert opened.count() == 5
        assert best(opened, CountingEmbedder(), "delta") == ("two.pdf", 1)


def test_the_old_one_is_searched_until_the_new_one_is_whole(store: QdrantPageStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        reindex(store, embedder=Wider(breaks_after=4), batch_size=2)
    assert best(store, CountingEmbedder(), "beta") == ("one.pdf", 2)
    embedder = Wider()
    report = reindex(store, embedder=embedder)
    assert len(embedder.embedded) == 1, "the run goes on where it stopped"
    assert (report.pages, report.added, report.unchanged) == (5, 1, 4)
    assert best(store, Wider(), "beta") == ("one.pdf", 2)


def test_what_is_removed_meanwhile_does_not_come_back(store: QdrantPageStore, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        reindex(store, embedder=Wider(breaks_after=4), batch_size=2)
    assert store.delete(source=str(folder / "one.pdf")) == 4
    reindex(store, embedder=Wider())
    assert [page.text.strip() for page in store.scroll()] == ["delta alone"]


def test_a_page_that_fails_keeps_the_old_one_in_use(store: QdrantPageStore) -> None:
    report = reindex(store, embedder=Wider(refuse="gamma"))
    assert [(Path(failure.source).name, failure.page) for failure in report.failed] == [("one.pdf", 3)]
    assert best(store, CountingEmbedder(), "gamma") == ("one.pdf", 3)
    embedder = Wider()
    assert reindex(store, embedder=embedder).pages == 5
    assert [number for _, number in embedder.embedded] == [3]
    reindex(store, embedder=CountingEmbedder(refuse="gamma"), allow_failures=True)
    assert store.count() == 4


def test_a_run_with_a_third_embedder_is_given_up(store: QdrantPageStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        reindex(store, embedder=Wider(breaks_after=2), batch_size=2)

    class Third(CountingEmbedder):
        name = "third"

    assert reindex(store, embedder=Third()).pages == 5
    assert best(store, Third(), "gamma") == ("one.pdf", 3)


def test_sources_are_read_again(store: QdrantPageStore, folder: Path) -> None:
    report = reindex(store, embedder=Wider(), sources=folder, reader=READER, workers=1)
    assert (report.pages, report.added) == (5, 5)
    assert best(store, Wider(), "epsilon") == ("one.pdf", 4)
    again = index_documents(folder, store=store, embedder=Wider(), reader=READER, workers=1)
    assert (again.added, again.unchanged) == (0, 5)


def test_the_one_in_use_keeps_its_pictures_while_files_change(store: QdrantPageStore, folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"no document")
    assert reindex(store, embedder=Wider(), sources=folder, reader=READER, workers=1).failed
    draw_pdf(folder / "two.pdf", ["zeta instead"])
    assert reindex(store, embedder=Wider(), sources=folder, reader=READER, workers=1).failed
    assert best(store, CountingEmbedder(), "delta") == ("two.pdf", 1), "still the old page, with its picture"


def test_a_file_that_goes_between_two_runs_does_not_come_back(store: QdrantPageStore, folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"no document")
    assert reindex(store, embedder=Wider(), sources=folder, reader=READER, workers=1).failed
    (folder / "broken.pdf").unlink()
    (folder / "one.pdf").unlink()
    report = reindex(store, embedder=Wider(), sources=folder, reader=READER, workers=1)
    assert (report.documents, report.pages, report.failed) == (1, 1, ())
    assert [page.text.strip() for page in store.scroll()] == ["delta alone"]
    assert best(store, Wider(), "delta") == ("two.pdf", 1)


def test_indexing_goes_on_and_all_can_be_removed(store: QdrantPageStore, folder: Path) -> None:
    reindex(store, embedder=Wider())
    draw_pdf(folder / "three.pdf", ["zeta"])
    assert index_documents(folder, store=store, embedder=Wider(), reader=READER, workers=1).added == 1
    assert best(store, Wider(), "zeta") == ("three.pdf", 1)
    store.prepare(CountingEmbedder(), recreate=True)
    assert store.count() == 0
    assert index_documents(folder, store=store, embedder=CountingEmbedder(), reader=READER, workers=1).added == 6
    with store.again() as opened:  # type: ignore[attr-defined]
        assert opened.count() == 6


def test_vectors_that_the_store_refuses_are_one_pages_failure() -> None:
    class Broken(Wider):
        def _vector(self, text: str) -> np.ndarray:
            return super()._vector(text) * (np.nan if "beta" in text else 1)

    with QdrantPageStore(":memory:") as store:
        store.prepare(CountingEmbedder())
        pages = [Page("d", number, text=word, source="d.pdf") for number, word in enumerate(Wider.words, 1)]
        store.add_pages(pages, np.ones((6, 4)))
        report = reindex(store, embedder=Broken(), allow_failures=True)
        assert (report.added, [failure.page for failure in report.failed]) == (5, [2])
        assert store.count() == 5


def test_a_batch_size_of_nothing_is_refused_and_the_collection_stays() -> None:
    with QdrantPageStore(":memory:") as store:
        store.prepare(CountingEmbedder())
        store.add_pages([Page("d", 1, text="alpha", source="d.pdf")], np.ones((1, 4)))
        with pytest.raises(SettingError, match="batch_size is 0"):
            reindex(store, embedder=Wider(), batch_size=0)
        assert store.count() == 1


def test_there_must_be_something(tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path / "new") as store, pytest.raises(StoreError, match="index_documents"):
        reindex(store, embedder=Wider())
