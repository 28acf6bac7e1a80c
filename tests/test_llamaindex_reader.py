from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
from drawing import draw_pdf
from llama_index.core import SimpleDirectoryReader
from llama_index.core.readers.base import BasePydanticReader
from llama_index.core.schema import ImageDocument, ImageNode, MetadataMode, NodeRelationship
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc

from visrag_integrations.errors import DocumentLimitError, DocumentNotFoundError, PictureError
from visrag_integrations.llamaindex import PageNodeParser, VisRAGReader, open_node_image
from visrag_integrations.readers import PageReader


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    return draw_pdf(tmp_path / "a.pdf", ["apples", "bananas", ""])


@pytest.fixture
def reader(tmp_path: Path) -> VisRAGReader:
    return VisRAGReader(image_dir=tmp_path / "pictures", ocr="never")


def test_one_image_document_a_page(pdf: Path, reader: VisRAGReader) -> None:
    documents = reader.load_data(pdf, extra_info={"project": "x"})
    assert [type(document) for document in documents] == [ImageDocument] * 3
    first = documents[0]
    assert first.text == "apples"
    assert first.metadata["page_label"] == "1"
    assert (first.metadata["file_name"], first.metadata["file_path"]) == ("a.pdf", str(pdf))
    assert first.metadata["doc_id"] == str(pdf)
    assert first.metadata["project"] == "x"
    data = Path(first.image_path or "").read_bytes()
    assert first.metadata["image_sha256"] == hashlib.sha256(data).hexdigest()
    assert open_node_image(first).size == PageReader(ocr="never").read(pdf).__next__().open_image().size
    assert len({document.hash for document in documents}) == len({document.id_ for document in documents}) == 3


def test_what_models_are_shown(pdf: Path, reader: VisRAGReader) -> None:
    blank = reader.load_data(pdf)[2]
    assert blank.get_content(MetadataMode.EMBED).strip() == "page_label: 3"  # an empty one would be left out
    assert "image_sha256" not in blank.get_content(MetadataMode.LLM)
    assert "image_sha256" in blank.get_content(MetadataMode.ALL)  # the key of pipeline caches


def test_documents_are_linked_within_their_file(tmp_path: Path, pdf: Path, reader: VisRAGReader) -> None:
    other = draw_pdf(tmp_path / "b.pdf", ["cherries"])
    one, two, three, alone = reader.load_data([pdf, other])
    assert two.relationships[NodeRelationship.PREVIOUS].node_id == one.id_
    assert two.relationships[NodeRelationship.NEXT].node_id == three.id_
    assert NodeRelationship.NEXT not in three.relationships
    assert alone.relationships == {}
    assert one.ref_doc_id is None  # a document is its own source: docstores go by its id


def test_only_the_changed_page_changes(tmp_path: Path, reader: VisRAGReader) -> None:
    before = reader.load_data(draw_pdf(tmp_path / "c.pdf", ["one", "two", "three"]))
    after = reader.load_data(draw_pdf(tmp_path / "c.pdf", ["one", "TWO", "three", "four"]))
    assert [document.id_ for document in before] == [document.id_ for document in after[:3]]
    assert [old.hash == new.hash for old, new in zip(before, after, strict=False)] == [True, False, True]


def test_reads_lazily(tmp_path: Path, pdf: Path, reader: VisRAGReader) -> None:
    documents = iter(reader.lazy_load_data(pdf))
    next(documents)
    assert len(list((tmp_path / "pictures").rglob("*.jpg"))) < 3
    assert len(list(documents)) == 2


def test_documents_survive_storage(pdf: Path, reader: VisRAGReader) -> None:
    document = reader.load_data(pdf)[0]
    back = json_to_doc(doc_to_json(document))
    assert isinstance(back, ImageDocument)
    assert back.hash == document.hash
    assert open_node_image(back).tobytes() == open_node_image(document).tobytes()


def test_in_a_directory_reader(tmp_path: Path, pdf: Path, reader: VisRAGReader) -> None:
    documents = SimpleDirectoryReader(input_files=[str(pdf)], file_extractor={".pdf": reader}).load_data()
    assert [document.metadata["page_label"] for document in documents] == ["1", "2", "3"]
    assert "file_size" in documents[0].metadata
    assert documents[0].image_path


async def test_async(pdf: Path, reader: VisRAGReader) -> None:
    assert [document.text for document in await reader.aload_data(pdf)] == ["apples", "bananas", ""]


def test_on_another_filesystem(pdf: Path, reader: VisRAGReader) -> None:
    fsspec = pytest.importorskip("fsspec")
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/llamaindex-reader/a.pdf", pdf.read_bytes())
    try:
        assert [d.metadata["page_label"] for d in reader.load_data("/llamaindex-reader", fs=fs)] == ["1", "2", "3"]
        loader = SimpleDirectoryReader("/llamaindex-reader", fs=fs, file_extractor={".pdf": reader})
        (first, *_) = loader.load_data()
        assert first.metadata["file_path"] == "/llamaindex-reader/a.pdf"
        with pytest.raises(DocumentLimitError, match="max_bytes=10"):
            VisRAGReader(max_bytes=10).load_data("/llamaindex-reader/a.pdf", fs=fs)
    finally:
        fs.rm("/llamaindex-reader", recursive=True)


def test_host_conventions(tmp_path: Path) -> None:
    assert BasePydanticReader in VisRAGReader.__mro__
    reader = VisRAGReader(image_dir=tmp_path, pages="1-2", password="secret")
    assert reader.class_name() == "VisRAGReader"
    assert "secret" not in reader.to_json()
    for back in (VisRAGReader.from_dict(reader.to_dict()), pickle.loads(pickle.dumps(reader))):
        assert back.image_dir == str(tmp_path)
        assert back._reader.pages == reader._reader.pages
    assert pickle.loads(pickle.dumps(reader))._reader.password == "secret"  # for a directory reader's workers
    assert VisRAGReader(reader=PageReader(ocr="never"))._reader.ocr == "never"


def test_missing_file(reader: VisRAGReader, tmp_path: Path) -> None:
    with pytest.raises(DocumentNotFoundError, match="no such file"):
        reader.load_data(tmp_path / "none.pdf")


def test_one_node_a_page(tmp_path: Path, reader: VisRAGReader) -> None:
    long = draw_pdf(tmp_path / "long.pdf", ["word " * 60, ""])
    documents = reader.load_data(long)
    nodes = PageNodeParser().get_nodes_from_documents(documents)
    assert [type(node) for node in nodes] == [ImageNode, ImageNode]
    assert [node.ref_doc_id for node in nodes] == [document.id_ for document in documents]
    assert [node.node_id for node in PageNodeParser()(documents)] == [node.node_id for node in nodes]
    assert nodes[0].text.count("word") == 60
    assert nodes[0].image_path == documents[0].image_path
    assert nodes[0].metadata == documents[0].metadata


def test_remote_pictures_only_when_asked() -> None:
    with pytest.raises(PictureError, match="fetch_urls=True"):
        open_node_image(ImageNode(image_url="https://example.invalid/a.png"))
    with pytest.raises(PictureError, match="no picture"):
        open_node_image(ImageNode(id_="7"))


def test_pictures_of_another_format(pdf: Path, tmp_path: Path) -> None:
    (first, *_) = VisRAGReader(image_dir=tmp_path / "pictures", picture_format="PNG").load_data(pdf)
    assert first.image_mimetype == "image/png"
    assert open_node_image(first).format in (None, "PNG")
