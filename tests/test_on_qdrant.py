"""Documents, retrieval, pictures and both hosts on a server: in this process, and a real one where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf
from fakes import CountingEmbedder
from places import opened, places

from visrag_integrations import Page, PageReader, PageRetriever, QdrantPageStore, index_documents
from visrag_integrations.ingestion import reindex

READER = PageReader(backend="pdfium", ocr="never")


@pytest.fixture(params=places("memory", "server"))
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with opened(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    draw_pdf(made / "one.pdf", ["alpha first", "beta second", "gamma third"])
    draw_pdf(made / "two.pdf", ["delta alone"])
    return made


def index(store: QdrantPageStore, folder: Path) -> Any:
    return index_documents(folder, store=store, embedder=CountingEmbedder(), reader=READER, workers=1)


def test_documents_are_indexed_found_changed_and_removed(location: Any, folder: Path) -> None:
    with QdrantPageStore(location) as store:
        report = index(store, folder)
        assert (report.pages, report.added, report.failed) == (4, 4, ())
        again = index(store, folder)
        assert (again.added, again.unchanged) == (0, 4)
        retriever = PageRetriever(CountingEmbedder(), store)
        for mode in ("dense", "lexical", "hybrid"):
            (hit,) = retriever.retrieve("delta", top_k=1, mode=mode)
            assert Path(hit.page.source).name == "two.pdf"
        assert hit.page.open_image().size[0] > 100, "its picture is on the server"
        assert [
            h.page.number for h in retriever.retrieve("beta", top_k=9, filter={"source": "one.pdf", "number": 2})
        ] == [2]
        store.delete(source=str(folder / "two.pdf"))
        assert store.count() == 3
        assert [document.pages for document in store.documents()] == [3]


def test_another_embedder_takes_over(location: Any, folder: Path) -> None:
    class Wider(CountingEmbedder):
        name, dimension = "wider", 6

        def _vector(self, text: str) -> np.ndarray:
            return np.concatenate([super()._vector(text), np.full(2, 0.01, np.float32)])

    with QdrantPageStore(location) as store:
        index(store, folder)
        assert reindex(store, embedder=Wider()).added == 4
        (hit,) = PageRetriever(Wider(), store).retrieve("delta", top_k=1)
        assert Path(hit.page.source).name == "two.pdf"
        assert hit.page.open_image().size[0] > 100
    with QdrantPageStore(location) as store:
        assert store.info is not None
        assert store.info.embedder == "wider"


def test_as_a_file_and_back(location: Any, folder: Path, tmp_path: Path) -> None:
    with QdrantPageStore(location) as store:
        index(store, folder)
        assert store.export(tmp_path / "index.zip") == 4
    with QdrantPageStore.import_from(tmp_path / "index.zip", tmp_path / "copy") as copy:
        assert copy.count() == 4
        assert {page.open_image().size[0] > 100 for page in copy.scroll()} == {True}


def test_langchain(location: Any) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.documents import Document
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from visrag_integrations.langchain import VisRAGVectorStore

    with QdrantPageStore(location, indexed_fields={"year": "integer"}) as store:
        host = VisRAGVectorStore(store=store, embedding=DeterministicFakeEmbedding(size=8))
        documents = [Document(f"text {n}", metadata={"year": 2020.0 + n, "page": n}) for n in range(5)]
        ids = host.add_documents(documents, ids=[f"id-{n}" for n in range(5)])
        assert ids == [f"id-{n}" for n in range(5)]
        (best,) = host.similarity_search("text 3", k=1)
        assert (best.page_content, best.metadata["year"], best.id) == ("text 3", 2023, "id-3")
        found = host.similarity_search("text", k=9, filter={"year": {"gte": 2022}})
        assert {document.metadata["page"] for document in found} == {2, 3, 4}
        assert [document.page_content for document in host.get_by_ids(["id-4"])] == ["text 4"]
        host.delete(["id-0", "id-1"])
        assert len(host.similarity_search("text", k=9)) == 3


def test_llamaindex(location: Any) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery

    from visrag_integrations.llamaindex import VisRAGVectorStore

    with QdrantPageStore(location) as store:
        host = VisRAGVectorStore(store=store, embedder=CountingEmbedder())
        axes = np.eye(4).tolist()
        nodes = [TextNode(id_=f"n{n}", text=f"text {n}", metadata={"n": n}, embedding=axes[n]) for n in range(4)]
        assert host.add(nodes) == ["n0", "n1", "n2", "n3"]
        only = MetadataFilters(filters=[MetadataFilter(key="n", value=2)])
        result = host.query(VectorStoreQuery(query_embedding=axes[1], similarity_top_k=9, filters=only))
        assert result.ids == ["n2"]
        host.delete_nodes(["n2"])
        assert {node.node_id for node in host.get_nodes(["n1", "n2"])} == {"n1"}


def test_tenants_are_kept_apart(location: Any) -> None:
    embedder = CountingEmbedder()
    for tenant in ("ada", "bob"):
        with QdrantPageStore(location, tenant=tenant) as store:
            store.prepare(embedder)
            pages = [Page("d", n, text="alpha", metadata={"of": tenant}) for n in (1, 2)]
            store.add_pages(pages, embedder.embed_pages(pages))
    with QdrantPageStore(location, tenant="ada") as store:
        found = store.search(embedder.embed_queries(["alpha"])[0], text="alpha", mode="hybrid", top_k=9)
        assert {hit.page.metadata["of"] for hit in found} == {"ada"}
        assert store.count() == 2
