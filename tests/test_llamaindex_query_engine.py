"""VisRAGQueryEngine and VisRAGRerank over real pages, with scripted engines and the extractive one."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator
from llama_index.core import MockEmbedding, Settings, StorageContext, VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.selectors import PydanticSingleSelector
from llama_index.core.tools import QueryEngineTool
from PIL import Image

from visrag_integrations import PageReader, PageRetriever, QdrantPageStore, load_generator
from visrag_integrations.errors import SettingError, UnknownNameError
from visrag_integrations.generation.evisrag import INSUFFICIENT, build_prompt
from visrag_integrations.llamaindex import (
    EVisRAGLLM,
    PageNodeParser,
    VisRAGQueryEngine,
    VisRAGReader,
    VisRAGRerank,
    VisRAGRetriever,
    VisRAGVectorStore,
)
from visrag_integrations.types import Answer, Conversation, Generation, GenerationSettings, Usage

TEXTS = ["The warehouse holds twelve boxes.", "Bananas are yellow.", "Ships sail on the sea."]
RAW = (
    "<observe>Pages with text.</observe><evidence>\n[1]: twelve boxes\n[2]: no relevant information\n</evidence>"
    "<think>It is said.</think><answer>Twelve boxes</answer>"
)


@pytest.fixture(scope="module")
def embedder() -> PixelEmbedder:
    return PixelEmbedder()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, embedder: PixelEmbedder) -> Iterator[QdrantPageStore]:
    tmp_path = tmp_path_factory.mktemp("stock")
    pages = list(PageReader(ocr="never").read(draw_pdf(tmp_path / "stock.pdf", TEXTS)))
    with QdrantPageStore(tmp_path / "index") as opened:
        opened.prepare(embedder)
        opened.add_pages(pages, embedder.embed_pages(pages))
        yield opened


@pytest.fixture
def retriever(store: QdrantPageStore, embedder: PixelEmbedder) -> VisRAGRetriever:
    return VisRAGRetriever(PageRetriever(embedder, store), similarity_top_k=2, mode="lexical")


class EchoGenerator(ScriptedGenerator):
    """Answers with the question, slowly."""

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        time.sleep(0.01)
        questions = [talk[0].text.rstrip().rsplit("Question: ", 1)[1] for talk in conversations]
        return [Generation(f"<answer>{question}</answer>") for question in questions]


# --- answers --------------------------------------------------------------------------------------------------------


def test_an_answer_with_its_evidence(retriever: VisRAGRetriever) -> None:
    generator = ScriptedGenerator(RAW)
    response = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=generator)).query("How many boxes sail?")
    assert isinstance(response, Response)
    assert str(response) == "Twelve boxes"
    assert response.metadata is not None
    answer = response.metadata["answer"]
    assert isinstance(answer, Answer)
    assert (answer.text, answer.raw, response.metadata["sufficient"]) == ("Twelve boxes", RAW, True)
    assert (response.metadata["thinking"], response.metadata["observation"]) == ("It is said.", "Pages with text.")
    first, second = response.metadata["evidence"]
    node = response.source_nodes[0].node
    assert (first["text"], first["relevant"], second["relevant"]) == ("twelve boxes", True, False)
    assert (first["node_id"], first["index"], first["page"]) == (node.node_id, 1, node.metadata["number"])
    assert first["source"].endswith("stock.pdf")
    shown = generator.batches[0][0][0]
    assert shown.content[0] == build_prompt("How many boxes sail?")
    assert [page.number for page in shown.pages] == [hit.page.number for hit in answer.pages]
    assert all(page.open_image().width > 100 for page in shown.pages)


def test_a_real_pdf_without_any_model(retriever: VisRAGRetriever) -> None:
    response = VisRAGQueryEngine(retriever, load_generator("extractive")).query("How many boxes are in the warehouse?")
    assert "twelve boxes" in str(response)
    assert response.metadata["evidence"][0]["page"] == 1


async def test_evidence_is_found_on_its_page(retriever: VisRAGRetriever) -> None:
    question = "How many boxes are in the warehouse?"
    engine = VisRAGQueryEngine(retriever, "extractive")
    for response in (engine.query(question), await engine.aquery(question)):
        entry = response.metadata["evidence"][0]
        assert (entry["verdict"], entry["support"], entry["missing"]) == ("supported", 1.0, [])
        assert entry["boxes"]
        (stored,) = retriever.retriever.store.get_pages([entry["node_id"]])
        drawn = next(word.box for word in stored.words if "warehouse" in word.text)
        assert any(box[0] <= drawn[0] < drawn[2] <= box[2] + 1e-4 and box[1] <= drawn[1] for box in entry["boxes"])
        assert json.loads(json.dumps(response.metadata["evidence"])) == response.metadata["evidence"]


async def test_async_says_the_same(retriever: VisRAGRetriever) -> None:
    engine = VisRAGQueryEngine(retriever, "extractive")
    response = await engine.aquery("How many boxes are in the warehouse?")
    assert str(response) == str(engine.query("How many boxes are in the warehouse?"))


def test_streaming(retriever: VisRAGRetriever) -> None:
    generator = ScriptedGenerator(RAW)
    response = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=generator), streaming=True).query("How many boxes?")
    assert isinstance(response, StreamingResponse)
    assert response.metadata == {}
    pieces = list(response.response_gen)
    assert len(pieces) > 1  # as it is written, and only the answer
    assert "".join(pieces) == "Twelve boxes"
    assert response.metadata["evidence"][0]["text"] == "twelve boxes"
    assert len(response.source_nodes) == 1


async def test_async_streaming(retriever: VisRAGRetriever) -> None:
    engine = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=ScriptedGenerator(RAW, RAW)), streaming=True)
    response = await engine.aquery("How many boxes?")
    assert isinstance(response, AsyncStreamingResponse)
    assert "".join([piece async for piece in response.async_response_gen()]) == "Twelve boxes"
    assert response.metadata["sufficient"] is True
    left = await engine.aquery("How many boxes?")
    await anext(left.response_gen)
    await left.response_gen.aclose()


def test_every_strategy(retriever: VisRAGRetriever) -> None:
    for strategy, texts in {"page_concatenation": 1, "text": 1, "weighted_selection": 2}.items():
        generator = ScriptedGenerator(*[Generation(RAW, logprob=-0.1)] * texts)
        engine = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=generator), strategy=strategy)
        assert str(engine.query("Which boxes sail the sea?")) == "Twelve boxes"
        assert len(generator.batches[0]) == texts
    generator = ScriptedGenerator(*[Generation(RAW, logprob=-0.1)] * 2)
    engine = VisRAGQueryEngine(
        retriever, EVisRAGLLM(generator=generator), strategy="weighted_selection", streaming=True
    )
    assert str(engine.query("Which boxes sail the sea?")) == "Twelve boxes"
    with pytest.raises(UnknownNameError, match="multi_image"):
        VisRAGQueryEngine(retriever, "extractive", strategy="guess")


def test_nothing_found(retriever: VisRAGRetriever) -> None:
    for streaming in (False, True):
        response = VisRAGQueryEngine(retriever, "extractive", streaming=streaming).query("xylophone")
        assert str(response) == INSUFFICIENT
        assert (response.metadata["sufficient"], response.source_nodes) == (False, [])
        assert "no page was found" in response.metadata["problems"][0]


def test_plain_models(retriever: VisRAGRetriever) -> None:
    generator = ScriptedGenerator("Twelve.")
    response = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=generator, prompt="plain")).query("How many boxes?")
    assert (str(response), response.metadata["evidence"]) == ("Twelve.", [])
    assert generator.batches[0][0][0].text == "How many boxes?"


def test_other_llms_of_llamaindex_look_too(retriever: VisRAGRetriever) -> None:
    class Seeing(MockLLM):
        def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
            kinds = [block.block_type for block in messages[0].blocks]
            return ChatResponse(message=ChatMessage(" ".join(kinds), role="assistant"))

        def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
            yield ChatResponse(message=ChatMessage("see", role="assistant"), delta="see")
            yield ChatResponse(message=ChatMessage("seen", role="assistant"), delta="n")

    assert str(VisRAGQueryEngine(retriever, Seeing()).query("How many boxes?")) == "text image"
    assert str(VisRAGQueryEngine(retriever, Seeing(), streaming=True).query("How many boxes?")) == "seen"


def test_settings_of_the_llm_reach_the_engine(retriever: VisRAGRetriever) -> None:
    seen: list[GenerationSettings | None] = []

    class Noting(ScriptedGenerator):
        def generate(self, conversations: Any, settings: GenerationSettings | None = None) -> list[Generation]:
            seen.append(settings)
            return super().generate(conversations, settings)

    VisRAGQueryEngine(retriever, EVisRAGLLM(generator=Noting(RAW), max_tokens=5)).query("How many boxes?")
    assert seen == [GenerationSettings(max_tokens=5)]


async def test_64_questions_at_once(retriever: VisRAGRetriever) -> None:
    engine = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=EchoGenerator()))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    answers = await asyncio.gather(*(engine.aquery(f"How many boxes, {n}?") for n in range(64)))
    ticking.cancel()
    assert [str(answer) for answer in answers] == [f"How many boxes, {n}?" for n in range(64)]
    assert ticks > 10


async def test_engines_with_an_async_way_get_all_questions_at_once(retriever: VisRAGRetriever) -> None:
    asked, everyone = [], asyncio.Event()

    class Async(EchoGenerator):
        async def agenerate(self, conversations: Any, settings: Any = None) -> list[Generation]:
            asked.append(conversations)
            if len(asked) >= 64:  # nobody is answered before all have asked
                everyone.set()
            await everyone.wait()
            return self.generate(conversations, settings)

    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = EVisRAGLLM(generator=Async())
    engine = VisRAGQueryEngine(retriever, llm, callback_manager=CallbackManager([debug]))
    answers = await asyncio.gather(*(engine.aquery(f"How many boxes, {n}?") for n in range(64)))
    assert [str(answer) for answer in answers] == [f"How many boxes, {n}?" for n in range(64)]
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 64
    assert str(await engine.aquery("xylophone")) == INSUFFICIENT


# --- in LlamaIndex --------------------------------------------------------------------------------------------------


def test_from_an_index(tmp_path: Path, embedder: PixelEmbedder) -> None:
    documents = VisRAGReader(image_dir=tmp_path / "pictures", ocr="never").load_data(
        draw_pdf(tmp_path / "a.pdf", TEXTS)
    )
    with QdrantPageStore(tmp_path / "index") as store:
        vector_store = VisRAGVectorStore(store, embedder)
        index = VectorStoreIndex.from_documents(
            documents,
            storage_context=StorageContext.from_defaults(vector_store=vector_store),
            transformations=[PageNodeParser()],
            embed_model=vector_store.embed_model,
        )
        llm = EVisRAGLLM("extractive")
        engine = VisRAGQueryEngine.from_defaults(
            index, llm, similarity_top_k=1, vector_store_query_mode="text_search", strategy="text"
        )
        response = engine.query("How many boxes are in the warehouse?")
        assert "twelve boxes" in str(response)
        assert [source.metadata["page_label"] for source in response.source_nodes] == ["1"]
        assert response.metadata["evidence"][0]["source"] == str(tmp_path / "a.pdf")
        text_only = index.as_query_engine(llm=llm, streaming=True, vector_store_query_mode="text_search")
        assert isinstance(text_only.query("How many boxes?"), StreamingResponse)


def test_settings_llm(retriever: VisRAGRetriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "_llm", EVisRAGLLM(generator=ScriptedGenerator(RAW)))
    assert str(VisRAGQueryEngine.from_args(retriever).query("How many boxes?")) == "Twelve boxes"
    monkeypatch.setattr(Settings, "_llm", None)
    assert VisRAGQueryEngine(retriever).llm.metadata.model_name == "openbmb/EVisRAG-7B"
    with pytest.raises(SettingError, match="int"):
        VisRAGQueryEngine(retriever, 7)


def test_behind_a_router(retriever: VisRAGRetriever) -> None:
    engine = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=ScriptedGenerator(RAW)))
    assert isinstance(engine, BaseQueryEngine)
    tool = QueryEngineTool.from_defaults(engine, name="stock", description="What is in stock.")

    class First(PydanticSingleSelector):
        def __init__(self) -> None: ...

        def _select(self, choices: Any, query: QueryBundle) -> Any:
            from llama_index.core.base.base_selector import SelectorResult, SingleSelection

            return SelectorResult(selections=[SingleSelection(index=0, reason="only one")])

    router = RouterQueryEngine(selector=First(), query_engine_tools=[tool], llm=MockLLM(), summarizer=object())  # type: ignore[arg-type]
    response = router.query("How many boxes?")
    assert str(response) == "Twelve boxes"
    assert {"selector_result", "answer"} <= set(response.metadata)


async def test_as_a_tool(retriever: VisRAGRetriever) -> None:
    engine = VisRAGQueryEngine(retriever, EVisRAGLLM(generator=ScriptedGenerator(RAW, RAW)))
    tool = QueryEngineTool.from_defaults(engine)
    assert tool.call("How many boxes?").content == "Twelve boxes"
    assert (await tool.acall("How many boxes?")).content == "Twelve boxes"


def test_callbacks_and_events(retriever: VisRAGRetriever) -> None:
    debug, seen = LlamaDebugHandler(print_trace_on_end=False), []

    class Handler(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            seen.append(type(event).__name__)

    manager = CallbackManager([debug])
    said = Generation(RAW, usage=Usage(30, 4))
    for streaming in (False, True):
        engine = VisRAGQueryEngine(
            retriever, EVisRAGLLM(generator=ScriptedGenerator(said)), callback_manager=manager, streaming=streaming
        )
        dispatcher, handler = get_dispatcher(), Handler()
        dispatcher.add_event_handler(handler)
        try:
            str(engine.query("How many boxes?"))
        finally:
            dispatcher.event_handlers.remove(handler)
        for name in ("Query", "Retrieval", "Synthesize", "LLMChat"):
            assert seen.count(f"{name}StartEvent") == seen.count(f"{name}EndEvent") == 1, (name, seen)
        for kind in (CBEventType.QUERY, CBEventType.SYNTHESIZE, CBEventType.LLM):
            assert len(debug.get_event_pairs(kind)) == 1, kind
        usage = debug.get_event_pairs(CBEventType.LLM)[0][1].payload["response"].raw["usage"]
        assert usage["prompt_tokens"] == 30
        debug.flush_event_logs()
        seen.clear()


def test_an_engine_that_fails_says_so_to_those_who_listen(retriever: VisRAGRetriever) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = EVisRAGLLM(generator=ScriptedGenerator())  # nothing to say
    engine = VisRAGQueryEngine(retriever, llm, callback_manager=CallbackManager([debug]))
    with pytest.raises(IndexError):
        engine.query("How many boxes?")
    ((_, end),) = debug.get_event_pairs(CBEventType.LLM)
    assert "exception" in end.payload


# --- rerank ---------------------------------------------------------------------------------------------------------


def colours(tmp_path: Path) -> list[Any]:
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "green", "blue")]
    for path in paths:
        Image.new("RGB", (28, 28), path.stem).save(path)
    return paths


def test_nodes_are_ordered_by_their_picture(tmp_path: Path, embedder: PixelEmbedder) -> None:
    from llama_index.core.schema import ImageNode

    paths = colours(tmp_path)
    nodes = [NodeWithScore(node=ImageNode(id_=path.stem, image_path=str(path)), score=0.5) for path in paths]
    before = [found.model_dump() for found in nodes]
    rerank = VisRAGRerank(embedder, top_n=2)
    best = rerank.postprocess_nodes(nodes, query_bundle=QueryBundle("", image_path=str(paths[2])))
    assert best[0].node_id == "blue"
    assert (len(best), best[0].node is nodes[2].node, best[0].score != 0.5) == (2, True, True)
    assert [found.model_dump() for found in nodes] == before
    with pytest.raises(SettingError, match="query_str"):
        rerank.postprocess_nodes(nodes)
    assert rerank.postprocess_nodes([], query_str="?") == []


def test_vectors_are_taken_from_the_store(tmp_path: Path, embedder: PixelEmbedder) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        vector_store = VisRAGVectorStore(store, embedder)
        vector_store.add([TextNode(id_=str(n), text=text) for n, text in enumerate(TEXTS)])
        done = embedder.embedded
        nodes = [NodeWithScore(node=node, score=1.0) for node in vector_store.get_nodes(["0", "1", "2"])]
        rerank = VisRAGRerank(embedder, store=vector_store)
        assert rerank.postprocess_nodes(nodes, query_str=TEXTS[2])[0].node_id == "2"
        assert embedder.embedded == done
        new = NodeWithScore(node=TextNode(id_="new", text=TEXTS[1] + " Bananas."))
        rerank.postprocess_nodes([*nodes, new], query_str=TEXTS[1])
        assert embedder.embedded == done + 1


async def test_rerank_in_an_engine_and_its_events(
    retriever: VisRAGRetriever, store: QdrantPageStore, embedder: PixelEmbedder
) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    engine = VisRAGQueryEngine(
        retriever,
        EVisRAGLLM(generator=ScriptedGenerator(RAW, RAW)),
        node_postprocessors=[VisRAGRerank(embedder, store=store, top_n=1)],
        callback_manager=CallbackManager([debug]),
    )
    assert len(engine.query("Which boxes sail the sea?").source_nodes) == 1
    assert len((await engine.aquery("Which boxes sail the sea?")).source_nodes) == 1
    assert len(debug.get_event_pairs(CBEventType.RERANKING)) == 2


def test_rerank_follows_the_hosts_conventions() -> None:
    rerank = VisRAGRerank(MockEmbedding(4), top_n=5)
    assert isinstance(rerank, BaseNodePostprocessor)
    assert (rerank.class_name(), VisRAGRerank.from_dict(rerank.to_dict()).top_n) == ("VisRAGRerank", 5)
    assert re.search("top_n", str(VisRAGRerank.model_json_schema()))
