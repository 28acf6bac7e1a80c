"""A password in the URL of a document goes to its server, and into nothing that is kept or said."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder

from visrag_integrations import PageReader, PageRetriever, QdrantPageStore, index_documents

ASKED_WITH = "Basic " + base64.b64encode(b"ada:very-secret").decode()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """An address with a name and a password, without which nothing is given."""
    document = draw_pdf(tmp_path / "given.pdf", ["forty boats"]).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            known = self.headers["Authorization"] == ASKED_WITH and self.path == "/boats.pdf"
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(document) if known else 0))
            self.end_headers()
            if known:
                self.wfile.write(document)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://ada:very-secret@127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_no_password_is_kept_or_said(site: str, tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    with QdrantPageStore(tmp_path / "index") as store:
        report = index_documents(
            [f"{site}/boats.pdf", f"{site}/missing.pdf"],
            store=store,
            embedder=embedder,
            reader=PageReader(ocr="never"),
            progress=False,
        )
        assert (report.documents, len(report.failed)) == (1, 1)  # it was asked with the password
        (page,) = PageRetriever(embedder, store).retrieve("boats")
        store.export(tmp_path / "out.zip")
        said = json.dumps(report.as_dict()) + str(report) + repr(page) + repr(page.page.metadata) + page.page.source
    assert "boats.pdf" in said
    assert "secret" not in said
    for path in (tmp_path / "index").rglob("*"):
        assert not path.is_file() or b"very-secret" not in path.read_bytes(), path
