"""Documents behind URLs: read, indexed, found in folders, and every way they can be missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder

from visrag_integrations import PageReader, QdrantPageStore, index_documents
from visrag_integrations.errors import DocumentError, DocumentLimitError, DocumentNotFoundError
from visrag_integrations.readers import ReaderPool
from visrag_integrations.readers.pool import DocumentDone

fsspec = pytest.importorskip("fsspec")
READER = PageReader(backend="pdfium", ocr="never", max_pixels=100_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "some documents"
    (made / "deep").mkdir(parents=True)
    draw_pdf(made / "one.pdf", ["alpha", "beta"])
    draw_pdf(made / "deep" / "two.pdf", ["gamma"])
    (made / "notes.xyz").write_bytes(b"not a document")
    (made / ".hidden.pdf").write_bytes(b"not looked at")
    return made


def test_a_url_is_read_like_its_file(folder: Path) -> None:
    url = f"file://{folder}/one.pdf"
    pages, same = list(READER.read(url)), list(READER.read(folder / "one.pdf"))
    assert [page.text for page in pages] == ["alpha", "beta"]
    assert [page.id for page in pages] == [page.id for page in same]
    assert {page.source for page in pages} == {url}


def test_folders_are_walked_in_any_file_system() -> None:
    files = fsspec.filesystem("memory")
    with fsspec.open("memory://shelf/a.txt", "w") as file:
        file.write("hello")
    try:
        assert [page.source for page in PageReader().read("memory://shelf")] == ["memory:///shelf/a.txt"]
        assert [page.text.strip() for page in PageReader().read(["memory://shelf/a.txt"])] == ["hello"]
    finally:
        files.rm("/shelf", recursive=True)


def test_urls_are_indexed_and_known_again(folder: Path, tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        sources = [f"file://{folder}", f"file://{folder}/missing.pdf"]
        report = index_documents(sources, store=store, embedder=CountingEmbedder(), reader=READER, workers=1)
        assert (report.documents, report.added) == (2, 3)
        (failure,) = report.failed
        assert failure.source.endswith("missing.pdf")
        assert failure.error == "there is no such file. Check the URL."
        again = CountingEmbedder()
        second = index_documents(sources, store=store, embedder=again, reader=READER, workers=1, prune=True)
        assert (second.unchanged, second.removed, again.embedded) == (3, 0, [])
        (document, _) = sorted(store.documents(), key=lambda found: -found.pages)
        assert document.sources == (f"file://{folder}/one.pdf",)


def test_what_cannot_be_fetched_is_said(folder: Path) -> None:
    with pytest.raises(DocumentNotFoundError, match="no such file"):
        list(READER.read(f"file://{folder}/missing.pdf"))
    with pytest.raises(DocumentLimitError, match="more than max_bytes=10"):
        list(PageReader(max_bytes=10).read(f"file://{folder}/one.pdf"))
    with pytest.raises(DocumentError, match="cannot be opened: Protocol not known: nowhere"):
        list(READER.read("nowhere://bucket/one.pdf"))
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(DocumentNotFoundError, match="the folder holds no document"):
        list(READER.read(f"file://{empty}"))


def test_a_pool_may_keep_its_processes(folder: Path) -> None:
    with ReaderPool(READER, workers=1) as pool:
        ends = [
            [event for event in pool.read_documents([path]) if isinstance(event, DocumentDone)]
            for path in (folder / "one.pdf", folder / "deep" / "two.pdf")
        ]
        (process,) = pool._processes
        pid = process._process and process._process.pid
        assert [event.pages for (event,) in ends] == [2, 1]
        list(pool.read_documents([folder / "one.pdf"]))
        assert process._process is not None
        assert process._process.pid == pid
        running = process._process
    assert running.poll() is not None, "it ends with the block"
