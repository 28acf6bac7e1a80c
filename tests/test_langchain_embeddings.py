"""VisRAGEmbeddings with the real VisRAG-Ret code on tiny random weights, inside the host's vector stores."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_qdrant import QdrantVectorStore
from PIL import Image

from visrag_integrations import Page, load_embedder
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.interfaces.opened import model_behind
from visrag_integrations.langchain import VisRAGEmbeddings

CHECKPOINT = Path(__file__).parent / "data" / "visrag_ret_tiny" / "checkpoint"
PICTURE = CHECKPOINT.parent / "images" / "icon_small.png"


@pytest.fixture(scope="module")
def embeddings() -> VisRAGEmbeddings:
    return VisRAGEmbeddings(str(CHECKPOINT), device="cpu")


def test_pictures_in_every_shape_give_the_core_embedding(embeddings: VisRAGEmbeddings, tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    image = Image.new("RGB", (28, 40), "green")
    image.save(path)
    (expected,) = embeddings.embedder.embed_pages([Page.from_image(path, doc_id="d")])
    shapes = [path, str(path), path.as_uri(), path.read_bytes(), image, Page.from_image(path, doc_id="d")]
    for found in embeddings.embed_image(uris=iter(shapes)):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    (found,) = embeddings.embed_image(str(path))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert embeddings.embed_images([]) == embeddings.embed_documents([]) == []
    with pytest.raises(PictureError, match="fetch_urls=True"):
        embeddings.embed_image("https://example.com/a.png")


def test_questions_get_the_instruction_and_documents_do_not(embeddings: VisRAGEmbeddings) -> None:
    core = embeddings.embedder
    question = embeddings.embed_query("violin")
    np.testing.assert_allclose(embeddings.embed_documents([core.instruction + "violin"])[0], question, atol=1e-5)  # type: ignore[attr-defined]
    assert abs(np.dot(embeddings.embed_documents(["violin"])[0], question)) < 0.9999


async def test_async_twins_give_the_same(embeddings: VisRAGEmbeddings) -> None:
    path = str(PICTURE)
    query, (text,), (image,), (again,) = await asyncio.gather(
        embeddings.aembed_query("a"),
        embeddings.aembed_documents(["b"]),
        embeddings.aembed_image(path),
        embeddings.aembed_images([path]),
    )
    np.testing.assert_allclose(query, embeddings.embed_query("a"), atol=1e-5)
    np.testing.assert_allclose(text, embeddings.embed_documents(["b"])[0], atol=1e-5)
    np.testing.assert_allclose([image, again], embeddings.embed_images([path, path]), atol=1e-5)


def test_one_model_per_process_and_settings_and_pickles_without_it(embeddings: VisRAGEmbeddings) -> None:
    loaded = model_behind(embeddings.embedder)
    assert model_behind(VisRAGEmbeddings(CHECKPOINT, device="cpu").embedder) is loaded
    copy = pickle.loads(pickle.dumps(embeddings))
    assert model_behind(copy.embedder) is loaded
    assert len(pickle.dumps(embeddings)) < 1000


def test_nothing_is_loaded_before_it_is_needed() -> None:
    assert repr(VisRAGEmbeddings()) == "VisRAGEmbeddings(model='openbmb/VisRAG-Ret')"
    nowhere = VisRAGEmbeddings("/no/such/checkpoint")
    with pytest.raises(ValueError, match="/no/such/checkpoint"):
        nowhere.embed_query("a")


def test_multi_vector_embedders_are_refused_by_name() -> None:
    with pytest.raises(SettingError, match=r"'ocr'.*VisRAGRetriever"):
        VisRAGEmbeddings(embedder=load_embedder("ocr"))
    with pytest.raises(SettingError, match=r"'ocr'.*VisRAGRetriever"):
        VisRAGEmbeddings("ocr").embed_query("a")
    with pytest.raises(SettingError, match="device"):
        VisRAGEmbeddings(embedder=load_embedder("ocr"), device="cpu")


def test_inside_the_vector_stores_of_the_host(embeddings: VisRAGEmbeddings) -> None:
    texts = ["violin", "tax forms", "a table of rainfall"]
    in_memory = InMemoryVectorStore.from_texts(texts, embeddings)
    qdrant = QdrantVectorStore.from_texts(texts, embeddings, location=":memory:")
    by_cosine = np.array(embeddings.embed_documents(texts)) @ embeddings.embed_query("violin")
    best = [texts[i] for i in np.argsort(-by_cosine)]
    assert [d.page_content for d in in_memory.similarity_search("violin", k=3)] == best
    assert [d.page_content for d in qdrant.similarity_search("violin", k=3)] == best
    assert isinstance(qdrant.similarity_search("violin", k=1)[0], Document)
