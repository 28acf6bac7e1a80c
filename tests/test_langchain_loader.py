"""Loader and blob parser on files drawn at run time."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from drawing import draw_pdf
from langchain_core.document_loaders import BaseLoader, BlobLoader
from langchain_core.documents.base import Blob
from PIL import Image

from visrag_integrations import Page, PageReader
from visrag_integrations.errors import DocumentNotFoundError
from visrag_integrations.langchain import VisRAGBlobParser, VisRAGLoader, open_document_image
from visrag_integrations.langchain.convert import document_to_page


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    return draw_pdf(tmp_path / "report.pdf", ["first page", "second page"])


def test_one_document_a_page(pdf: Path) -> None:
    loader = VisRAGLoader(pdf, max_pixels=90_000)
    assert isinstance(loader, BaseLoader)
    first, second = loader.load()
    # The document is known by its path: a file that changes is still the same document.
    doc_id = os.path.abspath(pdf)
    assert [first.page_content.strip(), second.page_content.strip()] == ["first page", "second page"]
    pages = list(PageReader().read(pdf))
    assert [first.id, second.id] == [Page(doc_id, number).id for number in (1, 2)]
    own = {"source": str(pdf), "page": 1, "doc_id": doc_id, "number": 2}
    assert own.items() <= second.metadata.items()
    of_page = {"text_source", "image", "image_sha256"}
    assert second.metadata.keys() == own.keys() | of_page
    (_, described) = VisRAGLoader(pdf, file_metadata=True).load()
    assert described.metadata["total_pages"] == 2
    assert described.metadata.keys() == own.keys() | of_page | pages[0].metadata.keys()
    assert open_document_image(second).size == pages[1].open_image().size
    assert all(len(str(value)) < 500 for value in second.metadata.values())


def test_pdf_metadata_has_the_names_langchain_users_know(tmp_path: Path) -> None:
    import pymupdf

    path = tmp_path / "meta.pdf"
    with pymupdf.open() as document:
        document.new_page().insert_text((50, 50), "front matter")
        document.set_metadata({"creator": "TeX", "producer": "pdfTeX", "creationDate": "D:20240531120000Z"})
        document.set_page_labels([{"startpage": 0, "prefix": "", "style": "r", "firstpagenum": 4}])
        document.save(path)
    (loaded,) = VisRAGLoader(path, file_metadata=True).load()
    assert (loaded.metadata["creator"], loaded.metadata["producer"]) == ("TeX", "pdfTeX")
    assert loaded.metadata["creationdate"].startswith("2024-05-31T12:00:00")
    assert loaded.metadata["page_label"] == "iv"


def test_pages_come_one_by_one(pdf: Path, tmp_path: Path) -> None:
    documents = VisRAGLoader([pdf, tmp_path / "report.pdf"]).lazy_load()
    assert next(documents).metadata["number"] == 1
    with pytest.raises(DocumentNotFoundError, match="nothing"):
        VisRAGLoader(tmp_path / "nothing.pdf").load()


async def test_async_loading(pdf: Path) -> None:
    assert await VisRAGLoader(pdf).aload() == VisRAGLoader(pdf).load()


def test_pictures_inline_only_when_asked(pdf: Path) -> None:
    (document,) = VisRAGLoader(pdf, reader=PageReader(pages="1"), inline_images=True).load()
    assert document.metadata["image"].startswith("data:image/jpeg;base64,")
    (from_bytes,) = VisRAGLoader(pdf.read_bytes(), pages="1").load()
    assert "image" not in from_bytes.metadata
    assert document_to_page(from_bytes).picture is None
    (inline,) = VisRAGLoader(pdf.read_bytes(), pages="1", inline_images=True).load()
    assert open_document_image(inline).size == open_document_image(document).size


def test_blobs(pdf: Path) -> None:
    class Folder(BlobLoader):
        def yield_blobs(self):  # type: ignore[no-untyped-def]
            yield Blob.from_path(pdf, metadata={"team": "red"})

    parser = VisRAGBlobParser()
    (blob,) = Folder().yield_blobs()
    first, second = parser.parse(blob)
    assert (first.metadata["source"], first.metadata["team"], second.metadata["page"]) == (str(pdf), "red", 1)
    assert open_document_image(second).width > 10

    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
    (picture,) = parser.parse(Blob.from_data(buffer.getvalue(), path="s3://bucket/scan.png"))
    assert picture.metadata["source"] == "s3://bucket/scan.png"
    assert "image" not in picture.metadata
