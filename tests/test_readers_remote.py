"""Documents behind URLs: read, indexed, found in folders, and every way they can be missing."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder

from visrag_integrations import PageReader, QdrantPageStore, index_documents
from visrag_integrations.errors import DocumentError, DocumentLimitError, DocumentNotFoundError
from visrag_integrations.readers import ReaderPool
from visrag_integrations.readers.finding import find_documents, is_one_document
from visrag_integrations.readers.pool import DocumentDone

fsspec = pytest.importorskip("fsspec")
MemoryFileSystem = fsspec.get_filesystem_class("memory")
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


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    """A web server on which every path is one text, and the methods it was asked with."""
    asked: list[str] = []

    class Text(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.command)
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Text) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_over_http_a_document_is_downloaded_only_to_be_read(web: tuple[str, list[str]]) -> None:
    pytest.importorskip("aiohttp")
    url, asked = web
    sources = [f"{url}/a.txt", f"{url}/reports/a", f"{url}/"]
    assert list(find_documents(sources)) == sources
    assert all(is_one_document(source) for source in sources)
    assert asked == []
    assert [page.text.strip() for page in PageReader().read(sources[0])] == ["hello"]
    assert asked.count("GET") == 1


def test_only_what_may_be_a_folder_is_asked() -> None:
    class Unasked(MemoryFileSystem):
        protocol = "unasked"

        def isdir(self, path: str) -> bool:
            raise OSError("asked")

    fsspec.register_implementation("unasked", Unasked, clobber=True)
    documents = ["unasked://x/a.PDF", "unasked://x/b.txt?version=3"]
    assert list(find_documents(documents)) == documents
    with pytest.raises(DocumentError, match="asked"):
        list(find_documents("unasked://x"))


def test_a_folder_that_is_called_like_a_document() -> None:
    with fsspec.open("memory://noted.pdf/a.txt", "w") as file:
        file.write("hello")
    try:
        assert list(find_documents("memory://noted.pdf/")) == ["memory:///noted.pdf/a.txt"]
    finally:
        fsspec.filesystem("memory").rm("/noted.pdf", recursive=True)


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
