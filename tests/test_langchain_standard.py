"""LangChain's own standard suites, whole, against the real classes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests
from qdrant_client import QdrantClient

from visrag_integrations import Page, PageRetriever, QdrantPageStore, load_embedder
from visrag_integrations.langchain import VisRAGEmbeddings, VisRAGRetriever, VisRAGVectorStore

CHECKPOINT = Path(__file__).parent / "data" / "visrag_ret_tiny" / "checkpoint"


class _TinyEmbeddings:
    """The real VisRAG-Ret code with tiny random weights; one model for both suites."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return VisRAGEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": str(CHECKPOINT), "device": "cpu"}


class TestEmbeddingsUnit(_TinyEmbeddings, EmbeddingsUnitTests):
    pass


class TestEmbeddingsIntegration(_TinyEmbeddings, EmbeddingsIntegrationTests):
    pass


class TestVectorStoreInAFolder(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with QdrantPageStore(tmp_path / "index") as store:
            yield VisRAGVectorStore(store, self.get_embeddings())


class TestVectorStoreBehindAClient(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        with QdrantPageStore(QdrantClient(":memory:"), collection="documents") as store:
            yield VisRAGVectorStore(store, self.get_embeddings())


@functools.cache
def page_retriever() -> PageRetriever:
    embedder, store = load_embedder("ocr"), QdrantPageStore(":memory:")
    store.prepare(embedder)
    pages = [Page("d", n, text=f"Lesson {n} about playing the violin") for n in range(1, 7)]
    store.add_pages(pages, embedder.embed_pages(pages))
    return PageRetriever(embedder, store)


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return VisRAGRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"retriever": page_retriever()}

    @property
    def retriever_query_example(self) -> str:
        return "violin lessons"
