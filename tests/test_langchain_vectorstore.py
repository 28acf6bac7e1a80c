"""VisRAGVectorStore beyond the standard suite: pictures, pages, search types, indexing, the official package."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_qdrant import QdrantVectorStore
from PIL import Image
from qdrant_client import QdrantClient, models

from visrag_integrations import Page, PageRetriever, QdrantPageStore, Query, load_embedder
from visrag_integrations.errors import EmbedderError, PictureError, SettingError, StoreFormatError, StoreMismatchError
from visrag_integrations.langchain import (
    VisRAGEmbeddings,
    VisRAGLoader,
    VisRAGRetriever,
    VisRAGVectorStore,
    open_document_image,
)

TEXTS = ["A violin has four strings.", "Taxes are due in April.", "The cello is larger than the violin."]


@pytest.fixture
def texts() -> Iterator[VisRAGVectorStore]:
    with QdrantPageStore(":memory:") as store:
        made = VisRAGVectorStore(store, PixelEmbedder())
        made.add_texts(TEXTS, [{"n": n} for n in range(3)], ids=["a", "b", "c"])
        yield made


@pytest.fixture(scope="module")
def embeddings() -> VisRAGEmbeddings:
    return VisRAGEmbeddings(embedder=PixelEmbedder())


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "green", "blue")]
    for path in paths:
        Image.new("RGB", (28, 28), path.stem).save(path)
    return paths


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_every_search_type(texts: VisRAGVectorStore) -> None:
    vector = PixelEmbedder().embed_queries([TEXTS[1]])[0].tolist()
    assert ids(texts.similarity_search(TEXTS[1], k=1)) == ids(texts.similarity_search_by_vector(vector, k=1)) == ["b"]
    ((document, score),) = texts.similarity_search_with_score(TEXTS[1], k=1)
    assert (document.metadata, round(score, 5)) == ({"n": 1}, 1.0)
    ((document, relevance),) = texts.similarity_search_with_relevance_scores(TEXTS[1], k=1)
    assert (document.id, round(relevance, 5)) == ("b", 1.0)
    assert ids(texts.similarity_search("violin", k=3, filter={"n": {"gte": 2}})) == ["c"]
    assert ids(texts.similarity_search("april", k=3, mode="lexical")) == ["b"]
    assert ids(texts.similarity_search(TEXTS[0], k=3, score_threshold=0.999)) == ["a"]
    for search_type in ("similarity", "mmr"):
        retriever = texts.as_retriever(search_type=search_type, search_kwargs={"k": 2})
        assert retriever.invoke(TEXTS[0])[0].id == "a"
    threshold = texts.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.999, "k": 3}
    )
    assert ids(threshold.invoke(TEXTS[0])) == ["a"]
    with pytest.raises(SettingError, match="alpha"):
        texts.similarity_search("violin", alpha=1)


async def test_every_search_type_async(texts: VisRAGVectorStore) -> None:
    vector = PixelEmbedder().embed_queries([TEXTS[1]])[0].tolist()
    assert ids(await texts.asimilarity_search_by_vector(vector, k=1)) == ["b"]
    assert (await texts.asimilarity_search_with_score(TEXTS[1], k=1))[0][0].id == "b"
    assert ids(await texts.amax_marginal_relevance_search(TEXTS[1], k=1)) == ["b"]
    assert ids(await texts.amax_marginal_relevance_search_by_vector(vector, k=1)) == ["b"]
    assert ids(await texts.as_retriever(search_kwargs={"k": 1}).ainvoke(TEXTS[1])) == ["b"]


def test_mmr_leaves_out_what_is_said_already(texts: VisRAGVectorStore) -> None:
    texts.add_texts([TEXTS[0] + "."], ids=["a2"])
    assert set(ids(texts.similarity_search(TEXTS[0], k=2))) == {"a", "a2"}
    best, other = ids(texts.max_marginal_relevance_search(TEXTS[0], k=2, lambda_mult=0.3))
    assert best in {"a", "a2"}
    assert other in {"b", "c"}


def test_mmr_gives_as_many_as_are_asked_for(texts: VisRAGVectorStore) -> None:
    """`k` counts, also where it is more than `fetch_k`, whose default a caller may not know."""
    vector = PixelEmbedder().embed_queries([TEXTS[0]])[0].tolist()
    assert set(ids(texts.max_marginal_relevance_search(TEXTS[0], k=3, fetch_k=1))) == {"a", "b", "c"}
    assert set(ids(texts.max_marginal_relevance_search_by_vector(vector, k=3, fetch_k=2))) == {"a", "b", "c"}
    assert ids(texts.max_marginal_relevance_search(TEXTS[0], k=1, fetch_k=3)) == ["a"]


def test_diverse_documents_of_another_embedders_store_are_refused(texts: VisRAGVectorStore) -> None:
    other = PixelEmbedder()
    other.name = "other"
    with pytest.raises(StoreMismatchError, match=r"'pixels'.*'other'"):
        VisRAGVectorStore(texts.store, other).max_marginal_relevance_search(TEXTS[0])


def test_a_store_that_two_embedders_fill_is_searched_by_either() -> None:
    """Whatever one embedder adds alone is refused: the other could not find it."""
    one, many = PixelEmbedder(), load_embedder("ocr")
    with QdrantPageStore(":memory:") as store:
        store.prepare(one, also=[many])
        pages = [Page("d", number, text=text) for number, text in enumerate(TEXTS, 1)]
        rows = zip(one.embed_pages(pages), many.embed_pages(pages), strict=True)
        store.add_pages(pages, [{"page": vector, "patches": vectors} for vector, vectors in rows])
        for embedder in (one, many):
            made = VisRAGVectorStore(store, embedder)
            assert made.similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]
        with pytest.raises(EmbedderError, match="this collection holds"):
            VisRAGVectorStore(store, one).add_texts(["A viola."])


def test_inputs_are_read_once_and_counted(texts: VisRAGVectorStore) -> None:
    added = texts.add_texts((text for text in ("x", "y")), ({"n": n} for n in (8, 9)))
    assert [document.metadata for document in texts.get_by_ids(added)] == [{"n": 8}, {"n": 9}]
    assert len(texts.add_documents(Document(str(n)) for n in range(70))) == 70
    assert texts.add_documents([]) == []
    for wrong in ({"metadatas": [{}]}, {"ids": ["1", "2", "3"]}):
        with pytest.raises(SettingError, match="numbers differ"):
            texts.add_texts(["x", "y"], **wrong)  # type: ignore[arg-type]


def test_delete_by_filter_and_all(texts: VisRAGVectorStore) -> None:
    assert texts.delete(filter={"n": 0})
    assert ids(texts.get_by_ids(["a", "b", "c"])) == ["b", "c"]
    assert texts.delete([])
    assert texts.store.count() == 2
    assert texts.delete()
    assert texts.store.count() == 0
    assert texts.similarity_search("violin") == []


def test_pictures_are_found_by_pictures(embeddings: VisRAGEmbeddings, pictures: list[Path], tmp_path: Path) -> None:
    store = VisRAGVectorStore.from_documents([], embeddings, location=tmp_path / "index", picture_format="PNG")
    first, *_ = added = store.add_images(pictures, [{"n": n} for n in range(3)])
    assert store.add_images([pictures[0].read_bytes()]) == [first]
    assert store.add_images([Image.new("RGB", (28, 28), "white")], ids=["mine"]) == ["mine"]
    assert store.store.count() == 4
    for query in ({"image": str(pictures[2])}, Query(image=pictures[2]), Image.new("RGB", (28, 28), "blue")):
        (document,) = store.similarity_search(query, k=1)
        assert document.id == added[2]
    assert document.metadata["source"] == str(pictures[2])
    assert open_document_image(document).getpixel((0, 0)) == (0, 0, 255)
    assert str(tmp_path / "index" / "pictures") in document.metadata["image"]
    assert ids(store.max_marginal_relevance_search(Query(image=pictures[2]), k=1)) == [added[2]]


def test_remote_pictures_are_fetched_only_when_asked(embeddings: VisRAGEmbeddings, pictures: list[Path]) -> None:
    class Files(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(pictures[0].read_bytes())

    store = VisRAGVectorStore.from_documents([], embeddings)
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/red.png"
        with pytest.raises(PictureError, match="fetch_urls=True"):
            store.add_images([url])
        (remote,) = store.add_images([url], fetch_urls="private")
        server.shutdown()
    assert [remote] == store.add_images([pictures[0]])
    assert store.get_by_ids([remote])[0].metadata["source"] == url


def test_loaded_pages_are_embedded_by_their_pictures(embeddings: VisRAGEmbeddings, tmp_path: Path) -> None:
    pdf = draw_pdf(tmp_path / "a.pdf", ["one", "two"])
    documents = VisRAGLoader(pdf).load()
    store = VisRAGVectorStore.from_documents(documents, embeddings)
    assert isinstance(store.store, QdrantPageStore)
    (page,) = store.store.get_pages([str(documents[0].id)])
    expected = np.array(embeddings.embed_image(open_document_image(documents[0]))[0][:48])
    stored = store.store.get_embeddings([page.id])[page.id][:48]  # the numbers that are of pixels
    assert stored @ expected / np.linalg.norm(stored) / np.linalg.norm(expected) == pytest.approx(1, abs=1e-5)
    found = VisRAGRetriever(retriever=PageRetriever(embeddings.embedder, store.store)).invoke("one")
    assert sorted(ids(found), key=str) == sorted(ids(documents), key=str)
    assert open_document_image(found[0]).size == open_document_image(documents[0]).size
    assert store.get_by_ids([str(documents[1].id)])[0].metadata["page"] == 1


def test_multi_vectors_and_mixed_embeddings(tmp_path: Path) -> None:
    store = VisRAGVectorStore(QdrantPageStore(":memory:"), load_embedder("ocr"))
    assert store.embeddings is None
    store.add_texts(TEXTS, ids=["a", "b", "c"])
    assert ids(store.similarity_search("when are taxes due", k=1)) == ["b"]
    assert store.max_marginal_relevance_search("when are taxes due", k=2)[0].id == "b"
    with pytest.raises(SettingError, match="multi-vectors"):
        store.similarity_search_with_relevance_scores("violin")
    fake = DeterministicFakeEmbedding(size=5)
    text_only = VisRAGVectorStore.from_texts(TEXTS, fake, collection="texts")
    assert text_only.embeddings is fake
    with pytest.raises(SettingError, match="text only"):
        text_only.similarity_search(Query(image=Image.new("RGB", (8, 8))))
    with pytest.raises(StoreMismatchError, match="5-dim"):
        VisRAGVectorStore(text_only.store, DeterministicFakeEmbedding(size=6)).similarity_search("a")
    with pytest.raises(SettingError, match="VisRAGEmbeddings"):
        VisRAGVectorStore(text_only.store, object()).similarity_search("a")


def test_indexing_api_adds_skips_updates_and_deletes(tmp_path: Path) -> None:
    store = VisRAGVectorStore(QdrantPageStore(tmp_path / "index"), PixelEmbedder())
    records = InMemoryRecordManager("n")
    records.create_schema()

    def run(texts: list[str]) -> dict[str, int]:
        documents = [Document(text, metadata={"source": text[:1]}) for text in texts]
        return dict(index(documents, records, store, cleanup="full", source_id_key="source", key_encoder="sha256"))

    assert run(["a1", "b1", "c1"])["num_added"] == 3
    assert run(["a1", "b1", "c1"])["num_skipped"] == 3
    counts = run(["a2", "b1"])
    assert (counts["num_added"], counts["num_skipped"], counts["num_deleted"]) == (1, 1, 2)
    assert sorted(d.page_content for d in store.similarity_search("a", k=9)) == ["a2", "b1"]


async def test_indexing_api_with_loaded_pages_async(embeddings: VisRAGEmbeddings, tmp_path: Path) -> None:
    store = VisRAGVectorStore(QdrantPageStore(tmp_path / "index"), embeddings)
    records = InMemoryRecordManager("n")
    settings: dict[str, Any] = {"cleanup": "incremental", "source_id_key": "source", "key_encoder": "sha256"}
    pdf = draw_pdf(tmp_path / "a.pdf", ["one", "two"])
    assert (await aindex(VisRAGLoader(pdf), records, store, **settings))["num_added"] == 2
    assert (await aindex(VisRAGLoader(pdf), records, store, **settings))["num_skipped"] == 2
    draw_pdf(pdf, ["one", "three"])
    counts = await aindex(VisRAGLoader(pdf), records, store, **settings)
    # Page one did not change, so it is not embedded again.
    assert (counts["num_added"], counts["num_skipped"], counts["num_deleted"]) == (1, 1, 1)
    found = await store.asimilarity_search("one", k=9)
    assert sorted(d.page_content.strip() for d in found) == ["one", "three"]
    assert open_document_image(found[0]).width > 10


def test_the_official_package_reads_what_we_wrote() -> None:
    client = QdrantClient(":memory:")
    fake = DeterministicFakeEmbedding(size=6)
    ours = VisRAGVectorStore(QdrantPageStore(client, "shared"), fake)
    given = "5f0c9a52-1d1b-4c37-9d0a-0f4a5a0c9b11"
    ours.add_texts(["foo", "bar"], [{"n": 1}, {"n": 2}], ids=[given, "2"])
    theirs = QdrantVectorStore(client, "shared", embedding=fake, vector_name="page")
    by_n = models.Filter(must=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=1))])
    (found,) = theirs.similarity_search("foo", k=5, filter=by_n)
    assert (found.page_content, found.metadata["n"]) == ("foo", 1)
    assert theirs.get_by_ids([given])[0].page_content == "foo"
    assert ids(ours.similarity_search("foo", k=5, filter=by_n)) == [given]  # the client's own filters too


def test_what_the_official_package_wrote_is_taken_over() -> None:
    fake = DeterministicFakeEmbedding(size=6)
    for name, vector in (("plain", ""), ("named", "dense")):
        theirs = QdrantVectorStore.from_texts(
            ["foo", "bar"],
            fake,
            [{"n": 1}, {"page": "iv"}],
            location=":memory:",
            collection_name=name,
            vector_name=vector,
        )
        ours = VisRAGVectorStore.from_qdrant_collection(theirs.client, name, fake, vector_name=vector)
        expected = [(d.page_content, s) for d, s in theirs.similarity_search_with_score("foo", k=2)]
        found = [(d.page_content, s) for d, s in ours.similarity_search_with_score("foo", k=2)]
        assert [text for text, _ in found] == [text for text, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
        (best, other) = ours.similarity_search("foo", k=2)
        assert (best.metadata, other.metadata) == ({"n": 1}, {"page": "iv"})
        assert theirs.get_by_ids([str(best.id)])[0].page_content == "foo"
    with pytest.raises(StoreFormatError, match=r"no vector ''.*dense"):
        VisRAGVectorStore.from_qdrant_collection(theirs.client, "named", fake)
