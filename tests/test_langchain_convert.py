"""Pages as Documents and back, and picture references, against literal values."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from drawing import draw_pdf
from langchain_core.documents import Document
from langchain_core.load import dumpd, load
from PIL import Image

from visrag_integrations import Page, Query, ScoredPage
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.langchain import image_references, open_document_image
from visrag_integrations.langchain.convert import document_to_page, hit_to_document, page_to_document, to_query
from visrag_integrations.langchain.image_references import open_reference, picture_of

RED = Image.new("RGB", (8, 8), "red")


def png(path: Path) -> Path:
    RED.save(path)
    return path


def test_a_page_has_the_keys_of_langchain_pdf_loaders() -> None:
    page = Page("d1", 3, "Hi", "a.pdf", {"total_pages": 9, "page_label": "iii", "creator": "TeX"})
    document = page_to_document(page)
    assert document == Document(
        id=page.id,
        page_content="Hi",
        metadata={
            "source": "a.pdf",
            "page": 2,
            "total_pages": 9,
            "page_label": "iii",
            "creator": "TeX",
            "doc_id": "d1",
            "number": 3,
        },
    )
    assert document_to_page(document) == page
    assert document_to_page(document).id == page.id


def test_a_page_under_another_id_is_still_that_page(tmp_path: Path) -> None:
    page = Page("d1", 3, "Hi", "a.pdf", {"total_pages": 9}, picture=png(tmp_path / "p.png"))
    other = document_to_page(page_to_document(page), "key-1")
    assert (other.doc_id, other.number, other.source, other.given_id) == ("d1", 3, "a.pdf", "key-1")
    assert other.open_image().size == (8, 8)
    assert page_to_document(other).metadata == page_to_document(page).metadata


def test_what_a_search_adds_is_not_kept() -> None:
    page = Page("d1", 1, "Hi")
    assert hit_to_document(ScoredPage(page, 0.5)) == hit_to_document(ScoredPage(page, 0.7)) == page_to_document(page)
    found = hit_to_document(ScoredPage(page, 0.5, "cosine"), with_scores=True)
    assert (found.metadata["score"], found.metadata["score_type"]) == (0.5, "cosine")
    assert document_to_page(found) == Page("d1", 1, "Hi")
    own = Document("Hi", id="x", metadata={"score": 5})
    assert page_to_document(document_to_page(own)) == own


def test_text_documents_keep_any_metadata_and_get_an_id() -> None:
    metadata = {"page": "iv", "number": "A-7", "doc_id": None, "source": 3, "image": "http://x/y.png"}
    page = document_to_page(Document("Hi", metadata=metadata))
    assert page.given_id
    assert page.picture is None
    assert page_to_document(page) == Document("Hi", id=page.given_id, metadata=metadata)
    chunk = document_to_page(Document("Hi", id="c", metadata={"source": "a.pdf", "page": 4}))
    assert (chunk.doc_id, chunk.number, chunk.source) == ("a.pdf", 5, "a.pdf")


def test_inline_pictures_are_pictures() -> None:
    inline = page_to_document(Page("d1", 1, picture=RED), inline_images=True)
    assert inline.metadata["image"].startswith("data:image/jpeg;base64,")
    assert open_document_image(inline).size == (8, 8)
    page = document_to_page(Document("", id="x", metadata={"image": inline.metadata["image"], "n": 1}))
    assert page.open_image().size == (8, 8)
    assert page.metadata == {"n": 1}


@pytest.mark.filterwarnings("ignore")  # the host says that its `load` is in beta, and more in newer versions
def test_references_open_later(tmp_path: Path) -> None:
    pdf = draw_pdf(tmp_path / "a#page=1.pdf", ["one", "two"])
    path = png(tmp_path / "p q.png")
    for reference in (str(path), path.as_uri(), str(path) + "#page=1", f"{pdf}#page=2", pdf.as_uri() + "#page=2"):
        assert open_reference(reference).size[0] > 0, reference
    for page in (Page("d", 1, picture=path), Page("d", 2, picture=RED), Page("d", 3, picture=path.read_bytes)):
        document = page_to_document(page)
        assert open_document_image(document).getpixel((0, 0)) == (255, 0, 0)
        assert load(dumpd(document)) == pickle.loads(pickle.dumps(document)) == document


def test_references_are_refused_in_words(tmp_path: Path) -> None:
    pdf = draw_pdf(tmp_path / "a.pdf", ["one"])
    cases = {
        "http://localhost:9/a.png": "fetch_urls=True",
        "data:image/png;base64": "comma",
        "data:image/png;base64,###": "base64",
        "visrag:gone": "inline_images=True",
        f"{pdf}#page=2": "page 2",
        str(tmp_path / "none.png"): "none.png",
    }
    for reference, words in cases.items():
        with pytest.raises(PictureError, match=words):
            open_reference(reference)
    with pytest.raises(PictureError, match="has no picture"):
        open_document_image(Document("Hi"))
    with pytest.raises(PictureError, match="cannot be fetched"):
        open_reference("http://localhost:9/a.png", fetch_urls=True)


def test_pictures_without_an_address_are_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_references, "_recent", image_references._RecentPictures(limit=2))
    references = [str(image_references.reference_to(Page("d", n, picture=RED))) for n in (1, 2, 3)]
    assert picture_of(references[2]) is RED
    with pytest.raises(PictureError, match="memory"):
        picture_of(references[0])


def test_questions_in_every_shape() -> None:
    assert to_query("how many?") == "how many?"
    assert to_query({"text": "like", "image": RED}) == Query("like", RED)
    assert to_query({"question": "how many?"}) == "how many?"
    assert to_query(RED).image is RED  # type: ignore[union-attr]
    assert to_query(Query("a")) == Query("a")
    with pytest.raises(SettingError, match="empty"):
        to_query({"text": ""})
