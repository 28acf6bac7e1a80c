"""`create_vrag_agent`: as a Runnable, with callbacks and events, in batches, inside LangGraph, with any chat model."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from fakes import PixelEmbedder, ScriptedGenerator, ScriptedRetriever
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from PIL import Image

from visrag_integrations import Page, PageRetriever, QdrantPageStore, ScoredPage, load_generator
from visrag_integrations.agent import Crop, Finish, PictureRules, Search, Thought, VRAGAgent
from visrag_integrations.agent.remembered import AgentSettings
from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.generation.vrag import STOP, build_prompt
from visrag_integrations.langchain import ChatEVisRAG, VisRAGRetriever, create_vrag_agent, open_document_image
from visrag_integrations.langchain.messages import to_conversation
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Message, Usage

LOOK = "<think>I look.</think><search>violins</search>"
CLOSER = "<think>Small.</think><bbox>[100, 100, 200, 200]</bbox>"
ANSWER = "<think>I see.</think><answer>12</answer>"
RUN = (LOOK, CLOSER, ANSWER)
TEXTS = ("We own 12 violins.", "Taxes are due in April.", "A cello is large.")


@pytest.fixture(scope="module")
def core() -> Iterator[PageRetriever]:
    embedder = PixelEmbedder()
    with QdrantPageStore(":memory:", picture_format="PNG") as store:
        store.prepare(embedder)
        pages = [Page("d", n, t, "d.pdf", picture=Image.new("RGB", (560, 504), "red")) for n, t in enumerate(TEXTS, 1)]
        store.add_pages(pages, embedder.embed_pages([Page("d", p.number, p.text) for p in pages]))
        yield PageRetriever(embedder, store)


@pytest.fixture
def retriever(core: PageRetriever) -> VisRAGRetriever:
    return VisRAGRetriever(retriever=core, k=1)


def test_invoke_gives_steps_pages_and_the_answer(retriever: VisRAGRetriever) -> None:
    generator = ScriptedGenerator(*RUN)
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=generator))
    found = agent.invoke("How many violins?")
    assert set(found) == {"question", "steps", "context", "answer", "sufficient", "reason", "result", "trace"}
    assert (found["question"], found["answer"], found["sufficient"], found["reason"]) == (
        *("How many violins?", "12", True),
        "answered",
    )
    assert [type(step) for step in found["steps"]] == [Thought, Search, Thought, Crop, Thought, Finish]
    (document,) = found["context"]
    assert (document.metadata["source"], document.metadata["number"]) == ("d.pdf", 1)
    assert open_document_image(document).size == (560, 504)
    assert found["result"].pages[0].page.number == 1
    assert found["trace"].answer is found["result"]
    assert "visrag-trace" in found["trace"]._repr_html_()
    assert generator.asked_with == GenerationSettings(max_tokens=1024, stop=STOP)
    assert agent.get_name() == "vrag_agent"


def test_the_run_is_the_cores(core: PageRetriever, retriever: VisRAGRetriever) -> None:
    """The same pages, the same pixels, the same words, through LangChain's retriever and chat model."""
    ours, theirs = ScriptedGenerator(*RUN), ScriptedGenerator(*RUN)
    expected = VRAGAgent(core, ours).run("How many violins?")
    trace = create_vrag_agent(retriever, ChatEVisRAG(generator=theirs)).invoke("How many violins?")["trace"]
    assert [type(step) for step in trace] == [type(step) for step in expected]
    assert [shown.region for shown in trace.shown] == [shown.region for shown in expected.shown]
    for (one,), (other,) in zip(ours.batches, theirs.batches, strict=True):
        assert [(turn.role, turn.text) for turn in one] == [(turn.role, turn.text) for turn in other]
        assert [pixels(part) for turn in one for part in turn.content if not isinstance(part, str)] == [
            pixels(part) for turn in other for part in turn.content if not isinstance(part, str)
        ]


def pixels(part: Any) -> tuple[tuple[int, int], bytes]:
    image = part.open_image() if isinstance(part, Page) else part
    return image.size, image.convert("RGB").tobytes()


def test_core_objects_are_taken_as_they_are(core: PageRetriever) -> None:
    agent = create_vrag_agent(core, load_generator("extractive"))
    assert agent.invoke({"question": "Who owns 12 violins?"})["answer"].startswith("We own 12 violins")
    assert agent.invoke({"asked": "x", "question": "Who owns 12 violins?"})["sufficient"] is True
    for other in (create_vrag_agent, None):
        with pytest.raises(SettingError, match=r"give VisRAGRetriever\(\.\.\.\)"):
            create_vrag_agent(other, load_generator("extractive"))
    with pytest.raises(SettingError, match="max_turns is 0"):
        create_vrag_agent(core, load_generator("extractive"), 0)
    for given in ("", {"q": "x"}, 7):
        with pytest.raises(SettingError, match="The question is"):
            agent.invoke(given)


def test_more_pages_are_asked_for_until_one_is_new(retriever: VisRAGRetriever) -> None:
    generator = ScriptedGenerator(LOOK, LOOK, LOOK, ANSWER)
    found = create_vrag_agent(retriever, ChatEVisRAG(generator=generator)).invoke("How many?")
    assert sorted(document.metadata["number"] for document in found["context"]) == [1, 2, 3]


def test_stream_gives_each_step_as_it_happens(retriever: VisRAGRetriever) -> None:
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=ScriptedGenerator(*RUN, *RUN)))
    pieces = list(agent.stream("How many?"))
    assert [type(step).__name__ for piece in pieces for step in piece.get("steps", ())] == [
        *("Thought", "SearchStep", "Thought", "Crop", "Thought", "Finish")
    ]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    assert whole["answer"] == agent.invoke("How many?")["answer"] == "12"
    assert len(whole["context"]) == 1


async def test_async_gives_the_same(retriever: VisRAGRetriever) -> None:
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=ScriptedGenerator(*RUN * 3)))
    found = await agent.ainvoke("How many?")
    steps = [step async for piece in agent.astream("How many?") for step in piece.get("steps", ())]
    assert [type(step) for step in steps] == [type(step) for step in found["steps"]]
    assert found["answer"] == agent.invoke("How many?")["answer"] == "12"


@pytest.mark.parametrize("how", ["batch", "abatch"])
async def test_a_batch_is_one_call_a_round(retriever: VisRAGRetriever, how: str) -> None:
    class ByLength(ScriptedGenerator):
        def generate(
            self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
        ) -> list[Generation]:
            self.batches.append(list(conversations))
            return [Generation(RUN[len(talk) // 2]) for talk in conversations]

    generator = ByLength()
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=generator))
    questions = ["a?", {"question": "b?"}, "c?"]
    found = agent.batch(questions) if how == "batch" else await agent.abatch(questions)
    assert [one["question"] for one in found] == ["a?", "b?", "c?"]
    assert [one["answer"] for one in found] == ["12"] * 3
    assert [[type(step) for step in one["steps"]] for one in found] == [
        [Thought, Search, Thought, Crop, Thought, Finish]
    ] * 3
    assert [len(one["context"]) for one in found] == [1, 1, 1]
    assert [len(batch) for batch in generator.batches] == [3, 3, 3]
    assert agent.batch([]) == []


class Recorder(BaseCallbackHandler):
    """What starts, with the id of what started it."""

    def __init__(self) -> None:
        self.started: list[tuple[str, Any]] = []
        self.chains: list[Any] = []
        self.events: list[Any] = []
        self.ended = 0

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **_: Any) -> None:
        self.chains.append((run_id, parent_run_id))

    def on_chat_model_start(self, serialized: Any, messages: Any, *, parent_run_id: Any = None, **_: Any) -> None:
        self.started.append(("llm", parent_run_id))

    def on_retriever_start(self, serialized: Any, query: str, *, parent_run_id: Any = None, **_: Any) -> None:
        self.started.append((query, parent_run_id))

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.ended += 1

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.events.append((name, data["kind"]))


def test_callbacks_of_retriever_and_model_fire_below_the_agent(retriever: VisRAGRetriever) -> None:
    recorder = Recorder()
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=ScriptedGenerator(*RUN)))
    agent.invoke("How many?", {"callbacks": [recorder]})
    ((run_id, _),) = recorder.chains
    assert recorder.started == [("llm", run_id), ("violins", run_id), ("llm", run_id), ("llm", run_id)]
    assert recorder.ended == 3
    kinds = ["thought", "search", "thought", "crop", "thought", "finish"]
    assert recorder.events == [("vrag_step", kind) for kind in kinds]


def test_callbacks_of_a_batch_are_each_questions_own(retriever: VisRAGRetriever) -> None:
    recorders = [Recorder(), Recorder()]
    generator = ScriptedGenerator(LOOK, ANSWER, ANSWER)
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=generator))
    agent.batch(["a?", "b?"], [{"callbacks": [one]} for one in recorders])
    seen = sorted([what for what, _ in one.started] for one in recorders)
    assert seen == [["llm"], ["llm", "violins", "llm"]]
    for one in recorders:
        assert {parent for _, parent in one.started} == {one.chains[0][0]}


async def test_steps_are_custom_events(retriever: VisRAGRetriever) -> None:
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=ScriptedGenerator(*RUN)))
    seen = [event async for event in agent.astream_events("How many?", version="v2")]
    steps = [event["data"] for event in seen if event["event"] == "on_custom_event" and event["name"] == "vrag_step"]
    assert [step["kind"] for step in steps] == ["thought", "search", "thought", "crop", "thought", "finish"]
    assert steps[1]["shown"][0]["size"] == [560, 504]
    assert {"on_retriever_end", "on_chat_model_end"} <= {event["event"] for event in seen}


async def test_async_handlers_hear_it_too(retriever: VisRAGRetriever) -> None:
    class Hears(AsyncCallbackHandler):
        heard = 0

        async def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
            self.heard += 1

    handler = Hears()
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=ScriptedGenerator(*RUN * 3)))
    await agent.ainvoke("How many?", {"callbacks": [handler]})
    assert handler.heard == 6


# --- any chat model, any retriever ------------------------------------------------------------------------------------


class HostModel(GenericFakeChatModel):
    """A chat model of the host's, which remembers what it was asked."""

    asked: list[Any] = []  # noqa: RUF012  (pydantic copies it)

    def _generate(self, messages: list[BaseMessage], stop: list[str] | None = None, *args: Any, **kwargs: Any) -> Any:
        self.asked.append((messages, stop, kwargs))
        return super()._generate(messages, stop, *args, **kwargs)


def test_any_chat_model_is_shown_the_pages(retriever: VisRAGRetriever) -> None:
    cut_off = AIMessage("<think>a", response_metadata={"stop_reason": "max_tokens"})
    used = AIMessage(ANSWER, usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9})
    model = HostModel(messages=iter([AIMessage(LOOK), cut_off, used]))
    found = create_vrag_agent(retriever, model).invoke("How many?")
    assert (found["answer"], found["trace"].usage) == ("12", Usage(7, 2))
    assert found["trace"].problem_counts == {"cut_off": 1}
    messages, stop, _ = model.asked[-1]
    assert stop == list(STOP)
    assert [message.type for message in messages] == ["human", "ai", "human", "ai", "human"]
    assert messages[0].content[0]["text"] == build_prompt("How many?")
    (page,) = to_conversation([messages[2]])[0].pages
    assert (page.doc_id, page.text, page.open_image().size) == ("d", "We own 12 violins.", (560, 504))
    quiet = HostModel(messages=iter([ANSWER]))
    create_vrag_agent(retriever, quiet, stop=()).invoke("How many?")
    assert quiet.asked[-1][1] is None


def test_a_chain_may_stand_for_the_model(retriever: VisRAGRetriever) -> None:
    texts = iter(RUN)
    found = create_vrag_agent(retriever, RunnableLambda(lambda messages: next(texts))).invoke("How many?")
    assert found["answer"] == "12"


def test_any_retriever_will_do_and_shows_no_document_twice() -> None:
    class Plain(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document("We own 12 violins.", metadata={"source": "a"}), Document("Cello.", id="7")]

    generator = ScriptedGenerator(LOOK, LOOK, LOOK, ANSWER)
    found = create_vrag_agent(Plain(), ChatEVisRAG(generator=generator)).invoke("How many?")
    assert [document.page_content for document in found["context"]] == ["We own 12 violins.", "Cello."]
    assert "No page that you have not seen" in found["steps"][5].observation.text


def test_a_dead_store_raises_and_a_batch_may_keep_the_error() -> None:
    class Dead(ScriptedRetriever):
        def retrieve(self, *_: Any, **__: Any) -> Sequence[ScoredPage]:
            raise StoreError("the store is gone")

    agent = create_vrag_agent(Dead(), ScriptedGenerator(LOOK, *[LOOK] * 2))
    with pytest.raises(StoreError):
        agent.invoke("How many?")
    assert [type(one) for one in agent.batch(["a?", "b?"], return_exceptions=True)] == [StoreError, StoreError]


# --- LangGraph --------------------------------------------------------------------------------------------------------


class State(TypedDict, total=False):
    question: str
    answer: str
    reason: str
    steps: list[Any]
    context: Annotated[list[Document], operator.add]


def test_it_is_a_node_of_a_graph(retriever: VisRAGRetriever) -> None:
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=ScriptedGenerator(*RUN)))
    graph = StateGraph(State)
    graph.add_node("look", agent)
    graph.add_edge(START, "look")
    graph.add_edge("look", END)
    state = graph.compile().invoke({"question": "How many?"})
    assert (state["answer"], state["reason"], len(state["context"])) == ("12", "answered", 1)


async def test_its_steps_stream_out_of_a_graph(retriever: VisRAGRetriever) -> None:
    agent = create_vrag_agent(retriever, ChatEVisRAG(generator=ScriptedGenerator(*RUN)))

    def look(state: State) -> dict[str, Any]:
        writer, found = get_stream_writer(), None
        for piece in agent.stream(state["question"]):
            found = piece if found is None else found + piece
            for step in piece.get("steps", ()):
                writer(type(step).__name__)
        return {"answer": found["answer"]}

    graph = StateGraph(State)
    graph.add_node("look", look)
    graph.add_edge(START, "look")
    seen = list(graph.compile().stream({"question": "How many?"}, stream_mode=["custom", "values"]))
    assert [piece for mode, piece in seen if mode == "custom"] == [
        *("Thought", "SearchStep", "Thought", "Crop", "Thought", "Finish")
    ]
    assert seen[-1][1]["answer"] == "12"


def test_messages_of_earlier_turns_keep_their_text() -> None:
    from visrag_integrations.langchain.agent import to_messages

    human, ai = to_messages((Message(("Hi", Page("d", 1, "Text."))), Message(("Hello",), "assistant")))
    assert isinstance(human, HumanMessage)
    assert to_conversation([human, ai]) == (Message(("Hi", Page("d", 1, "Text."))), Message(("Hello",), "assistant"))


def test_a_trained_checkpoint_is_run_as_it_was_trained(core: PageRetriever, tmp_path: Path) -> None:
    """Turns, prompt and picture sizes, by the generator's name, the model's name, or the folder of a server's model."""
    AgentSettings(2, "Q: {question}", PictureRules(4 * 28 * 28, 16 * 28 * 28)).save(tmp_path)
    generator = ScriptedGenerator(*[LOOK] * 5)
    generator.name = str(tmp_path)
    found = create_vrag_agent(core, generator).invoke("How many?")
    assert generator.batches[0][0][0].text == "Q: How many?"
    assert (len(found["trace"].turns), found["reason"]) == (2, "turns")
    shown = found["trace"].shown[0]
    assert shown.size[0] * shown.size[1] <= 16 * 28 * 28
    named = ChatEVisRAG(model=str(tmp_path), generator=ScriptedGenerator(LOOK, LOOK))
    assert len(create_vrag_agent(core, named).invoke("How many?")["trace"].turns) == 2
    served = ChatEVisRAG(generator=ScriptedGenerator(LOOK, LOOK))
    assert len(create_vrag_agent(core, served, trained=tmp_path).invoke("How many?")["trace"].turns) == 2
    # What is said has the last word.
    said = create_vrag_agent(core, generator, 3, template="{question}!")
    assert len(said.invoke("How many?")["trace"].turns) == 3
    assert generator.batches[-1][0][0].text == "How many?!"
