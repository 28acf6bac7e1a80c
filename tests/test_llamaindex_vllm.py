"""LlamaIndex down to a real vLLM server (its CPU build) with a tiny random model: questions over a PDF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from llama_index.core import VectorStoreIndex
from test_vllm_server import Server
from test_vllm_server import server as server  # a fixture, shared

from visrag_integrations import QdrantPageStore
from visrag_integrations.llamaindex import (
    EVisRAGLLM,
    PageNodeParser,
    VisRAGQueryEngine,
    VisRAGReader,
    VisRAGVectorStore,
)

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
QUESTION = "Which page is about bananas?"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStoreIndex]:
    folder: Path = tmp_path_factory.mktemp("documents")
    pdf = draw_pdf(folder / "fruit.pdf", ["apples are red", "bananas are yellow", "plums are blue"])
    documents = VisRAGReader(image_dir=folder / "pictures", ocr="never", max_pixels=60_000).load_data(pdf)
    with QdrantPageStore(":memory:") as store:
        vector_store = VisRAGVectorStore(store=store, embedder=PixelEmbedder())
        index = VectorStoreIndex.from_vector_store(vector_store, embed_model=vector_store.embed_model)
        index.insert_nodes(PageNodeParser()(documents))
        yield index


@pytest.fixture(scope="module")
def llm(server: Server) -> Iterator[EVisRAGLLM]:
    made = EVisRAGLLM(server.url, temperature=0.0, max_tokens=24)
    yield made
    made.generator.close()  # type: ignore[attr-defined]


async def test_sync_async_and_streamed(index: VectorStoreIndex, llm: EVisRAGLLM) -> None:
    engine = VisRAGQueryEngine.from_defaults(index, llm, similarity_top_k=2)
    response = engine.query(QUESTION)
    written = response.metadata["answer"].raw
    assert written
    assert [node.node.metadata["file_name"] for node in response.source_nodes] == ["fruit.pdf", "fruit.pdf"]
    assert (await engine.aquery(QUESTION)).metadata["answer"].raw == written
    streaming = VisRAGQueryEngine.from_defaults(index, llm, similarity_top_k=2, streaming=True)
    streamed = streaming.query(QUESTION)
    "".join(streamed.response_gen)
    assert streamed.metadata["answer"].raw == written
    streamed = await streaming.aquery(QUESTION)
    async for _ in streamed.async_response_gen():
        pass
    assert streamed.metadata["answer"].raw == written


def test_held_to_the_form_there_is_evidence_for_every_page(index: VectorStoreIndex, llm: EVisRAGLLM) -> None:
    guided = EVisRAGLLM(generator=llm.generator, guided=True, temperature=0.0, max_tokens=200)
    response = VisRAGQueryEngine.from_defaults(index, guided, similarity_top_k=2).query(QUESTION)
    evidence = response.metadata["evidence"]
    assert [entry["index"] for entry in evidence] == [1, 2]
    assert [entry["node_id"] for entry in evidence] == [node.node_id for node in response.source_nodes]
    assert response.metadata["problems"] == []


def test_the_host_shows_all_pages_at_once(index: VectorStoreIndex, llm: EVisRAGLLM) -> None:
    engine = index.as_query_engine(llm=llm, similarity_top_k=2, multimodal=True)
    assert str(engine.query(QUESTION))
