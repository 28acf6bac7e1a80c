"""VRAGQueryEngine and VRAGWorkflow: the agent behind LlamaIndex's classes, with its callbacks, events and streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator, ScriptedRetriever
from llama_index.core import MockEmbedding, Settings, VectorStoreIndex
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import QueryEngineTool
from llama_index.core.workflow import Context, StartEvent

from visrag_integrations import PageReader, PageRetriever, QdrantPageStore, ScoredPage, load_generator
from visrag_integrations.agent import Crop, Finish, PictureRules, Recording, Search, Step, Thought, Trace, VRAGAgent
from visrag_integrations.agent.remembered import AgentSettings
from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.llamaindex import EVisRAGLLM, VisRAGRetriever, VRAGQueryEngine, VRAGStepEvent, VRAGWorkflow
from visrag_integrations.llamaindex import workflow as workflow_module
from visrag_integrations.llamaindex.workflow import FindEvent
from visrag_integrations.types import Conversation, Generation, GenerationSettings

LOOK = "<think>I look.</think><search>twelve boxes</search>"
CLOSER = "<think>Small.</think><bbox>[100, 100, 200, 200]</bbox>"
ANSWER = "<think>I see.</think><answer>Twelve</answer>"
RUN = (LOOK, CLOSER, ANSWER)
TEXTS = ["The warehouse holds twelve boxes.", "Bananas are yellow.", "Ships sail on the sea."]
KINDS = [Thought, Search, Thought, Crop, Thought, Finish]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageRetriever]:
    tmp_path = tmp_path_factory.mktemp("stock")
    embedder = PixelEmbedder()
    pages = list(PageReader(ocr="never").read(draw_pdf(tmp_path / "stock.pdf", TEXTS)))
    with QdrantPageStore(tmp_path / "index", picture_format="PNG") as store:
        store.prepare(embedder)
        store.add_pages(pages, embedder.embed_pages(pages))
        yield PageRetriever(embedder, store)


@pytest.fixture
def retriever(core: PageRetriever) -> VisRAGRetriever:
    return VisRAGRetriever(core, similarity_top_k=1)


def llm(*texts: str) -> EVisRAGLLM:
    return EVisRAGLLM(generator=ScriptedGenerator(*texts))


def test_a_query_gives_the_answer_with_every_step(retriever: VisRAGRetriever) -> None:
    response = VRAGQueryEngine(retriever, llm(*RUN)).query("How many boxes?")
    assert isinstance(response, Response)
    assert str(response) == "Twelve"
    (found,) = response.source_nodes
    assert found.node.metadata["file_name"] == "stock.pdf"
    assert found.score is not None
    metadata = response.metadata or {}
    assert (metadata["reason"], metadata["sufficient"], metadata["problems"]) == ("answered", True, [])
    assert metadata["answer"].text == "Twelve"
    assert [step["kind"] for step in metadata["steps"]] == ["thought", "search", "thought", "crop", "thought", "finish"]
    assert [type(step) for step in metadata["trace"]] == KINDS
    assert retriever.similarity_top_k == 1


def test_the_run_is_the_cores(core: PageRetriever, retriever: VisRAGRetriever) -> None:
    """The same pages, the same pixels, the crop drawn again from the document, through LlamaIndex's retriever."""
    expected = VRAGAgent(core, ScriptedGenerator(*RUN)).run("How many boxes?")
    trace = VRAGQueryEngine(retriever, llm(*RUN)).query("How many boxes?").metadata["trace"]
    assert [shown.region for shown in trace.shown] == [shown.region for shown in expected.shown]
    assert [shown.size for shown in trace.shown] == [shown.size for shown in expected.shown]
    for one, other in zip(trace.shown, expected.shown, strict=True):
        assert one.picture.tobytes() == other.picture.tobytes()


def test_more_nodes_are_asked_for_until_one_is_new(retriever: VisRAGRetriever) -> None:
    response = VRAGQueryEngine(retriever, llm(LOOK, LOOK, LOOK, ANSWER)).query("How many?")
    assert sorted(node.node.metadata["number"] for node in response.source_nodes) == [1, 2, 3]


async def test_aquery_and_streams_give_the_same(retriever: VisRAGRetriever) -> None:
    engine = VRAGQueryEngine(retriever, llm(*RUN * 3))
    response = await engine.aquery("How many?")
    *steps, trace = engine.stream_steps("How many?")
    assert isinstance(trace, Trace)
    assert [type(step) for step in steps] == KINDS
    found: list[Step | Trace] = [item async for item in engine.astream_steps(QueryBundle("How many?"))]
    assert [type(item) for item in found] == [*KINDS, Trace]
    assert str(response) == str(trace) == "Twelve"


def test_core_objects_and_settings_are_taken(core: PageRetriever) -> None:
    assert str(VRAGQueryEngine(core, load_generator("extractive")).query("Who holds twelve boxes?")).startswith(
        "The ware"
    )

    generator = ScriptedGenerator(ANSWER)
    model = EVisRAGLLM(generator=generator, temperature=0.0, max_tokens=77)
    VRAGQueryEngine(core, model, template="Q: {question}").query("How many?")
    assert generator.asked_with is not None
    assert (generator.asked_with.temperature, generator.asked_with.max_tokens) == (0.0, 77)
    assert generator.batches[0][0][0].text == "Q: How many?"
    with pytest.raises(SettingError, match="retriever is str"):
        VRAGQueryEngine("pages", model)
    with pytest.raises(SettingError, match="max_turns is 0"):
        VRAGQueryEngine(core, model, 0)
    with pytest.raises(SettingError, match="question is empty"):
        VRAGQueryEngine(core, model).query("")


def test_what_the_engine_takes_is_known(core: PageRetriever) -> None:
    generator = ScriptedGenerator(LOOK, ANSWER)
    generator.max_images = 1  # type: ignore[attr-defined]
    trace = VRAGQueryEngine(core, EVisRAGLLM(generator=generator)).query("How many?").metadata["trace"]
    assert "This is your last turn" in trace.steps[1].observation.text


class OtherModel(MockLLM):
    """A multi-modal LLM that is not ours."""

    texts: list[str] = []  # noqa: RUF012  (pydantic copies it)
    asked: list[Any] = []  # noqa: RUF012

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self.asked.append(list(messages))
        return ChatResponse(message=ChatMessage(role="assistant", content=self.texts.pop(0)))


def test_any_multi_modal_llm_is_shown_the_pages(retriever: VisRAGRetriever) -> None:
    model = OtherModel()
    model.texts = list(RUN)
    assert str(VRAGQueryEngine(retriever, model).query("How many?")) == "Twelve"
    last = model.asked[-1]
    assert [message.role.value for message in last] == ["user", "assistant", "user", "assistant", "user"]
    assert [block.block_type for block in last[2].blocks] == ["image"]


def test_any_retriever_will_do_and_shows_no_node_twice() -> None:
    class Plain(BaseRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return [NodeWithScore(node=TextNode(id_=str(n), text=text), score=0.5) for n, text in enumerate(TEXTS[:2])]

    response = VRAGQueryEngine(Plain(), llm(LOOK, LOOK, LOOK, ANSWER)).query("How many?")
    assert [node.node.get_content() for node in response.source_nodes] == TEXTS[:2]
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=MockEmbedding(8))
    response = VRAGQueryEngine(index.as_retriever(similarity_top_k=1), llm(LOOK, LOOK, ANSWER)).query("How many?")
    assert len({node.node.get_content() for node in response.source_nodes}) == 2


def test_callbacks_and_events_fire(retriever: VisRAGRetriever) -> None:
    class Heard(BaseEventHandler):
        names: list[str] = []  # noqa: RUF012

        def handle(self, event: Any, **_: Any) -> None:
            self.names.append(type(event).__name__)

    heard, debug = Heard(), LlamaDebugHandler(print_trace_on_end=False)
    root = get_dispatcher()
    root.add_event_handler(heard)
    try:
        VRAGQueryEngine(retriever, llm(*RUN), callback_manager=CallbackManager([debug])).query("How many?")
    finally:
        root.event_handlers.remove(heard)
    assert heard.names.count("LLMChatStartEvent") == heard.names.count("LLMChatEndEvent") == 3
    assert heard.names.count("RetrievalEndEvent") == 1
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 3
    assert len(debug.get_event_pairs(CBEventType.QUERY)) == 1


def test_it_is_a_tool_of_an_agent(retriever: VisRAGRetriever) -> None:
    tool = QueryEngineTool.from_defaults(VRAGQueryEngine(retriever, llm(*RUN)), name="pages", description="Pages.")
    assert str(tool.call("How many?")) == "Twelve"


def test_the_llm_of_settings_is_used(core: PageRetriever) -> None:
    before = Settings._llm
    model = OtherModel()
    model.texts, Settings.llm = [ANSWER], model
    try:
        assert str(VRAGQueryEngine(core).query("How many?")) == "Twelve"
    finally:
        Settings._llm = before


# --- the workflow -----------------------------------------------------------------------------------------------------


async def test_a_workflow_gives_an_event_for_every_step(retriever: VisRAGRetriever) -> None:
    handler = VRAGWorkflow(retriever, llm(*RUN)).run(query="How many?")
    seen = [event.step async for event in handler.stream_events() if isinstance(event, VRAGStepEvent)]
    response = await handler
    assert [type(step) for step in seen] == KINDS
    assert str(response) == "Twelve"
    assert tuple(seen) == response.metadata["trace"].steps
    assert len(response.source_nodes) == 1


async def test_many_runs_of_a_workflow_are_under_way_at_once(core: PageRetriever) -> None:
    class Together(ScriptedGenerator):
        """Answers once two questions have come."""

        def __init__(self) -> None:
            super().__init__()
            self.waiting = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None
            self.asked: list[str] = []

        async def agenerate(
            self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
        ) -> list[Generation]:
            if self.waiting is not None:
                await self.waiting.wait()
            ((first, *_),) = conversations
            self.asked.append(first.text[-2:])
            return [Generation(ANSWER)]

    generator = Together()
    workflow = VRAGWorkflow(core, EVisRAGLLM(generator=generator), 1)
    answers = await asyncio.gather(*(workflow.run(query=question) for question in ("a?", "b?")))
    assert [str(answer) for answer in answers] == ["Twelve", "Twelve"]
    assert len(generator.asked) == 2


class CountingRecording(Recording):
    """Says how often it was asked."""

    calls = 0

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.calls += 1
        return super().generate(conversations, settings)


@pytest.mark.parametrize("after", range(1, 6))
async def test_a_kept_context_is_taken_up_where_it_was(core: PageRetriever, after: int) -> None:
    """In another process, which has another workflow: what was written is not written again."""
    first = VRAGWorkflow(core, llm(*RUN))
    handler, kept, seen = first.run(query="How many?"), {}, 0
    async for event in handler.stream_events():
        seen += isinstance(event, VRAGStepEvent)
        if seen == after and not kept:
            kept = json.loads(json.dumps(handler.ctx.to_dict()))
    expected = await handler
    again = CountingRecording([Generation(text) for text in RUN])
    second = VRAGWorkflow(core, EVisRAGLLM(generator=again))
    response = await second.run(ctx=Context.from_dict(second, kept))
    assert response.metadata["trace"] == expected.metadata["trace"]
    assert again.calls <= len(RUN) - (after - 1) // 2


async def test_a_context_kept_before_the_run_went_on_is_taken_up_where_it_was(core: PageRetriever) -> None:
    """In the same process: the workflow holds the run at a later point by then."""

    class Stream:
        def write_event_to_stream(self, event: Any) -> None: ...

    workflow, stream = VRAGWorkflow(core, llm(*RUN)), Stream()
    searched = await workflow.write(stream, await workflow.begin(stream, StartEvent(query="How many?")))
    assert isinstance(searched, FindEvent)
    looking = await workflow.find(stream, searched)
    await workflow.look(stream, looking)
    again = await workflow.find(stream, searched)
    assert (type(again), again.turns) == (type(looking), looking.turns)


async def test_runs_that_were_left_are_forgotten(core: PageRetriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow_module, "_MOST_RUNS", 2)
    workflow = VRAGWorkflow(core, llm(*RUN))
    begun = [await workflow.begin(None, StartEvent(query=f"{n}?")) for n in range(5)]
    assert [event.run for event in begun[3:]] == list(workflow._runs)


async def test_a_workflow_raises_what_fails() -> None:
    class Dead(ScriptedRetriever):
        def retrieve(self, *_: Any, **__: Any) -> Sequence[ScoredPage]:
            raise StoreError("the store is gone")

    with pytest.raises(StoreError):
        await VRAGWorkflow(Dead(), llm(LOOK)).run(query="How many?")
    with pytest.raises(SettingError, match="question is empty"):
        await VRAGWorkflow(Dead(), llm(LOOK)).run()


def test_the_names_are_offered() -> None:
    from visrag_integrations import llamaindex

    assert {"VRAGQueryEngine", "VRAGStepEvent", "VRAGWorkflow"} <= set(llamaindex.__all__)
    assert llamaindex.__all__ == sorted(llamaindex._HOMES) == dir(llamaindex)


async def test_a_trained_checkpoint_is_run_as_it_was_trained(core: PageRetriever, tmp_path: Path) -> None:
    """Turns, prompt and picture sizes, in both classes; what is said has the last word."""
    AgentSettings(2, "Q: {question}", PictureRules(4 * 28 * 28, 16 * 28 * 28)).save(tmp_path)
    generator = ScriptedGenerator(*[LOOK] * 5)
    generator.name = str(tmp_path)
    trace = VRAGQueryEngine(core, generator).query("How many?").metadata["trace"]
    assert generator.batches[0][0][0].text == "Q: How many?"
    assert (len(trace.turns), trace.reason) == (2, "turns")
    assert trace.shown[0].size[0] * trace.shown[0].size[1] <= 16 * 28 * 28
    served = await VRAGWorkflow(core, llm(LOOK, LOOK), trained=tmp_path).run(query="How many?")
    assert len(served.metadata["trace"].turns) == 2
    said = VRAGQueryEngine(core, generator, 3, template="{question}!").query("How many?")
    assert len(said.metadata["trace"].turns) == 3
    assert generator.batches[-1][0][0].text == "How many?!"
