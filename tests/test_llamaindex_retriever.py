from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import PixelEmbedder
from llama_index.core import QueryBundle, get_response_synthesizer
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import ImageNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool
from llama_index.core.vector_stores import MetadataFilters
from PIL import Image

from visrag_integrations import PageRetriever, QdrantPageStore
from visrag_integrations.errors import SettingError
from visrag_integrations.llamaindex import VisRAGRetriever, open_node_image
from visrag_integrations.types import Page

COLOURS = {"red": "apple", "yellow": "banana", "purple": "plum"}


@pytest.fixture
def core() -> Iterator[PageRetriever]:
    embedder = PixelEmbedder()
    pages = [
        Page(colour, number, text, f"{colour}.pdf", {"year": 2020 + number}, picture=Image.new("RGB", (8, 8), colour))
        for number, (colour, text) in enumerate(COLOURS.items(), 1)
    ]
    with QdrantPageStore(":memory:") as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
        yield PageRetriever(embedder, store)


def texts(hits: Any) -> list[str]:
    return [hit.node.text for hit in hits]


def test_gives_what_the_core_gives(core: PageRetriever) -> None:
    found = VisRAGRetriever(retriever=core, similarity_top_k=2).retrieve("banana")
    expected = core.retrieve("banana", 2)
    assert [hit.node.node_id for hit in found] == [hit.page.id for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])
    assert all(isinstance(hit.node, ImageNode) for hit in found)
    assert found[0].node.metadata["file_name"] == "yellow.pdf"
    assert open_node_image(found[0]).getpixel((0, 0)) == pytest.approx((255, 255, 0), abs=5)


def test_by_picture_and_by_both(core: PageRetriever, tmp_path: Path) -> None:
    path = tmp_path / "query.png"
    Image.new("RGB", (8, 8), "purple").save(path)
    retriever = VisRAGRetriever(core, 1)
    assert texts(retriever.retrieve(QueryBundle("", image_path=str(path)))) == ["plum"]
    assert texts(retriever.retrieve(QueryBundle("plum", image_path=str(path)))) == ["plum"]


def test_by_vector_and_by_other_texts(core: PageRetriever) -> None:
    retriever = VisRAGRetriever(core, 1)
    vector = core.embedder.embed_queries(["banana"])[0].tolist()
    assert texts(retriever.retrieve(QueryBundle("what?", embedding=vector))) == ["banana"]
    imagined = QueryBundle("what?", custom_embedding_strs=["plum", "plum plum"])
    assert texts(retriever.retrieve(imagined)) == ["plum"]


def test_filters_modes_and_threshold(core: PageRetriever) -> None:
    later = MetadataFilters.from_dicts([{"key": "year", "value": 2021, "operator": ">"}])
    assert set(texts(VisRAGRetriever(core, filters=later).retrieve("apple"))) == {"banana", "plum"}
    assert texts(VisRAGRetriever(core, filters={"source": "red.pdf"}).retrieve("plum")) == ["apple"]
    assert texts(VisRAGRetriever(core, mode="lexical").retrieve("plum")) == ["plum"]
    inside = MetadataFilters.from_dicts([{"key": "source", "value": "ell", "operator": "text_match"}])
    assert texts(VisRAGRetriever(core, filters=inside).retrieve("apple")) == ["banana"]
    scores = [hit.score or 0.0 for hit in VisRAGRetriever(core).retrieve("plum")]
    above = VisRAGRetriever(core, score_threshold=float(np.mean(scores[:2]))).retrieve("plum")
    assert len(above) == 1


def test_the_threshold_holds_for_questions_that_bring_a_vector(core: PageRetriever) -> None:
    vector = core.embedder.embed_queries(["plum"])[0].tolist()
    for asked in (QueryBundle("plum", embedding=vector), QueryBundle("plum", custom_embedding_strs=["plum"])):
        scores = [hit.score or 0.0 for hit in VisRAGRetriever(core).retrieve(asked)]
        assert len(scores) == len(COLOURS)
        between = float(np.mean(scores[:2]))
        assert texts(VisRAGRetriever(core, score_threshold=between).retrieve(asked)) == ["plum"]
        # A page with exactly this score stays.
        assert len(VisRAGRetriever(core, score_threshold=scores[1]).retrieve(asked)) == 2


async def test_async(core: PageRetriever) -> None:
    retriever = VisRAGRetriever(core, 1)
    found = await asyncio.gather(*(retriever.aretrieve(text) for text in [*COLOURS.values()] * 8))
    assert [texts(hits) for hits in found] == [[text] for text in COLOURS.values()] * 8


def test_in_query_engines(core: PageRetriever) -> None:
    engine = RetrieverQueryEngine.from_args(VisRAGRetriever(core, 2), llm=MockLLM())
    answer = engine.query("banana")
    assert texts(answer.source_nodes)[0] == "banana"
    assert "yellow.pdf" in str(answer)  # the mock repeats its prompt
    tool = QueryEngineTool.from_defaults(engine, name="pages", description="page images")
    router = RouterQueryEngine(selector=First(), query_engine_tools=[tool], llm=MockLLM())
    assert texts(router.query("plum").source_nodes)[0] == "plum"


class First(BaseSelector):
    """Chooses the first tool."""

    def _select(self, choices: Any, query: Any) -> SelectorResult:
        return SelectorResult(selections=[SingleSelection(index=0, reason="the only one")])

    async def _aselect(self, choices: Any, query: Any) -> SelectorResult:
        return self._select(choices, query)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass


def test_fused_with_another(core: PageRetriever) -> None:
    fusion = QueryFusionRetriever(
        [VisRAGRetriever(core), VisRAGRetriever(core, mode="lexical")],
        llm=MockLLM(),
        num_queries=1,
        use_async=False,
        similarity_top_k=2,
    )
    assert texts(fusion.retrieve("banana"))[0] == "banana"


def test_as_a_tool(core: PageRetriever) -> None:
    tool = RetrieverTool.from_defaults(VisRAGRetriever(core, 1), name="pages", description="page images")
    output = str(tool("banana"))
    assert "banana" in output
    assert "file_name" in output


def test_in_a_synthesizer_that_shows_pictures(core: PageRetriever) -> None:
    synthesizer = get_response_synthesizer(llm=MockLLM(is_chat_model=True), multimodal=True)
    engine = RetrieverQueryEngine(VisRAGRetriever(core, 1), response_synthesizer=synthesizer)
    assert texts(engine.query("banana").source_nodes) == ["banana"]


def test_events(core: PageRetriever) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    VisRAGRetriever(core, callback_manager=CallbackManager([debug])).retrieve("plum")
    assert len(debug.get_event_pairs(CBEventType.RETRIEVE)) == 1


def test_on_an_index_that_is_there(tmp_path: Path) -> None:
    embedder = PixelEmbedder()
    page = Page("d", 1, "apple", "a.pdf", picture=Image.new("RGB", (4, 4), "red"))
    with QdrantPageStore(tmp_path) as store:
        store.prepare(embedder)
        store.add_pages([page], embedder.embed_pages([page]))
    retriever = VisRAGRetriever.from_index(tmp_path, embedder, similarity_top_k=1)
    try:
        assert texts(retriever.retrieve("apple")) == ["apple"]
    finally:
        retriever.retriever.store.close()


def test_host_conventions(core: PageRetriever) -> None:
    assert BaseRetriever in VisRAGRetriever.__mro__
    with pytest.raises(SettingError, match="PageRetriever"):
        VisRAGRetriever(retriever="index")
    with pytest.raises(SettingError, match="1 or more"):
        VisRAGRetriever(core, similarity_top_k=0)
