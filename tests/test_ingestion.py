"""index_documents: adding, running again, changed files, bad files, and a store that goes on after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder

from visrag_integrations import Page, PageReader, QdrantPageStore, index_documents
from visrag_integrations.errors import SettingError, StoreMismatchError
from visrag_integrations.indexing import BatchEmbedder

READER = PageReader(
    backend="pdfium", ocr="never", max_pixels=200_000
)  # this engine starts faster, small pages are quick


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QdrantPageStore]:
    with QdrantPageStore(tmp_path / "index") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    draw_pdf(made / "one.pdf", ["alpha first", "beta second", "gamma third"])
    draw_pdf(made / "two.pdf", ["delta alone"])
    return made


def test_pages_are_added_and_found(store: QdrantPageStore, folder: Path) -> None:
    embedder = CountingEmbedder()
    report = index_documents([folder], store=store, embedder=embedder, reader=READER, workers=1)
    assert (report.documents, report.pages, report.added, report.unchanged, report.failed) == (2, 4, 4, 0, ())
    assert store.count() == 4
    hit = store.search(embedder.embed_queries(["beta"])[0], top_k=1)[0]
    assert (Path(hit.page.source).name, hit.page.number) == ("one.pdf", 2)
    assert hit.page.open_image().size[0] > 300


def test_a_second_run_reads_and_embeds_nothing(store: QdrantPageStore, folder: Path) -> None:
    index_documents([folder], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    again = CountingEmbedder()
    report = index_documents([folder], store=store, embedder=again, reader=READER, workers=1)
    assert again.embedded == []
    assert (report.documents, report.pages, report.added, report.unchanged) == (2, 4, 0, 4)


def test_only_missing_pages_are_read(store: QdrantPageStore, folder: Path) -> None:
    index_documents(
        folder / "one.pdf", store=store, embedder=CountingEmbedder(), reader=replace(READER, max_pages=1), workers=1
    )
    embedder = CountingEmbedder()
    report = index_documents(folder / "one.pdf", store=store, embedder=embedder, reader=READER, workers=1)
    assert [number for _, number in embedder.embedded] == [2, 3]
    assert (report.pages, report.added, report.unchanged) == (3, 2, 1)


def test_a_changed_file_replaces_its_pages(store: QdrantPageStore, folder: Path) -> None:
    index_documents([folder], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    draw_pdf(folder / "one.pdf", ["delta new"])
    report = index_documents([folder], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    assert (report.pages, report.added, report.unchanged, report.removed) == (2, 1, 1, 3)
    assert store.count() == 2


def test_the_same_content_under_two_names_is_stored_once(store: QdrantPageStore, folder: Path) -> None:
    shutil.copy(folder / "one.pdf", folder / "copy of one.pdf")
    report = index_documents([folder], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    assert (report.documents, report.pages, report.added) == (2, 4, 4)
    (document,) = (d for d in store.documents() if d.pages == 3)
    assert {Path(source).name for source in document.sources} == {"one.pdf", "copy of one.pdf"}
    draw_pdf(folder / "one.pdf", ["delta new"])
    index_documents([folder], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    assert store.count() == 5, "the copy still holds the three pages"


def test_bad_documents_are_reported_and_the_rest_is_indexed(store: QdrantPageStore, folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 this is all there is")
    (folder / "empty.pdf").write_bytes(b"")
    sources = [folder, folder / "nothing here.pdf"]
    report = index_documents(sources, store=store, embedder=CountingEmbedder(), reader=READER, workers=2)
    assert (report.documents, report.pages) == (2, 4)
    assert {Path(f.source).name for f in report.failed} == {"broken.pdf", "empty.pdf", "nothing here.pdf"}
    assert all(f.error for f in report.failed)


def test_a_page_that_cannot_be_embedded_is_reported_alone(store: QdrantPageStore, folder: Path) -> None:
    report = index_documents([folder], store=store, embedder=CountingEmbedder(refuse="beta"), reader=READER, workers=1)
    assert (report.pages, report.added) == (3, 3)
    (failure,) = report.failed
    assert (Path(failure.source).name, failure.page) == ("one.pdf", 2)
    assert "cannot be embedded" in failure.error


def test_every_one_of_equal_pages_that_cannot_be_embedded_is_reported() -> None:
    words = ["alpha", "beta", "beta", "gamma", "beta"]
    pages = [Page("d", number, picture=b"one file", text=word) for number, word in enumerate(words, 1)]
    told: list[tuple[int, str]] = []
    with QdrantPageStore(":memory:") as store:
        embedding = BatchEmbedder(
            CountingEmbedder(refuse="beta"), store, lambda page, error: told.append((page.number, str(error)))
        )
        made = embedding.embed(pages)
    assert ([page.number for page in made.pages], len(made.vectors)) == ([1, 4], 2)
    assert told == [(number, "this page cannot be embedded") for number in (2, 3, 5)]


def test_another_embedder_is_refused(store: QdrantPageStore, folder: Path) -> None:
    index_documents([folder], store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
    other = CountingEmbedder()
    other.name = "other"
    with pytest.raises(StoreMismatchError, match=r"counting.*other|other.*counting"):
        index_documents([folder], store=store, embedder=other, reader=READER, workers=1)


def test_settings_are_checked(store: QdrantPageStore, folder: Path) -> None:
    with pytest.raises(SettingError, match="batch_size is 0"):
        index_documents([folder], store=store, embedder=CountingEmbedder(), batch_size=0)


def test_sources_may_be_a_generator(store: QdrantPageStore, folder: Path) -> None:
    report = index_documents(
        (path for path in sorted(folder.iterdir())), store=store, embedder=CountingEmbedder(), reader=READER, workers=1
    )
    assert report.pages == 4


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from fakes import CountingEmbedder
from visrag_integrations import PageReader, QdrantPageStore, index_documents
with QdrantPageStore({index!r}) as store:
    reader = PageReader(backend="pdfium", ocr="never", max_pixels=200_000)
    index_documents({folder!r}, store=store, embedder=CountingEmbedder(), reader=reader, workers=1, batch_size=2)
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder, index = tmp_path / "documents", tmp_path / "index"
    folder.mkdir()
    for n in range(6):
        draw_pdf(folder / f"{n}.pdf", [f"alpha {n} {page}" for page in range(8)])
    code = SCRIPT.format(tests=str(Path(__file__).parent), index=str(index), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while len(list(index.glob("pictures/**/*.jp*g"))) < 10 and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with QdrantPageStore(index) as store:
        durable = store.count()
        embedder = CountingEmbedder()
        report = index_documents([folder], store=store, embedder=embedder, reader=READER, workers=1)
        assert store.count() == 48
    assert durable > 0
    assert len(embedder.embedded) == 48 - durable
    assert (report.pages, report.added, report.unchanged) == (48, 48 - durable, durable)
