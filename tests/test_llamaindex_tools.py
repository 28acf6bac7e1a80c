"""Tools and agents: what the model is offered and shown, what it calls, and what an agent's context keeps."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder, ScriptedGenerator
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context
from PIL import Image

from visrag_integrations import PageReader, PageRetriever, QdrantPageStore
from visrag_integrations.errors import GenerationError, SettingError
from visrag_integrations.images import open_picture
from visrag_integrations.llamaindex import (
    EVisRAGLLM,
    VisRAGRetriever,
    create_visrag_tool,
    nodes_to_content,
)

# LlamaIndex looks at every attribute of an agent, also at those that pydantic and it itself call old; and its memory
# cannot be kept under some versions of pydantic, which it says in a warning.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step"),
    pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key. memory"),
]
TEXTS = ["The warehouse holds twelve boxes.", "Bananas are yellow.", "Ships sail on the sea."]


class ScriptedServer(ScriptedGenerator):
    """A generator behind a chat completions server: gives the queued messages, and remembers the requests."""

    def __init__(self, *messages: str | Mapping[str, Any]) -> None:
        super().__init__()
        self.messages = list(messages)
        self.requests: list[dict[str, Any]] = []

    def chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        message = self._next(request)
        choice = {"message": message, "finish_reason": "stop"}
        return {"model": "scripted", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}

    def stream_chat(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        message = self._next(request)
        text = message.get("content") or ""
        try:
            for start in range(0, len(text), 5):
                yield _piece({"content": text[start : start + 5]})
            for index, made in enumerate(message.get("tool_calls") or ()):
                name, arguments = made["function"]["name"], made["function"]["arguments"]
                yield _piece({"tool_calls": [{"index": index, "id": made["id"], "function": {"name": name}}]})
                for start in range(0, len(arguments), 4):
                    part = {"arguments": arguments[start : start + 4]}
                    yield _piece({"tool_calls": [{"index": index, "function": part}]})
            yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}
            yield {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
        finally:
            self.closed = True

    def _next(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.requests.append(json.loads(json.dumps(request)))  # what travels is JSON
        message = self.messages.pop(0)
        return {"content": message} if isinstance(message, str) else dict(message)


def _piece(delta: dict[str, Any]) -> dict[str, Any]:
    return {"model": "scripted", "choices": [{"delta": delta, "finish_reason": None}]}


def call(name: str, id_: str = "c1", **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": id_, "type": "function", "function": function}]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantPageStore]:
    folder = tmp_path_factory.mktemp("stock")
    pages = list(PageReader(ocr="never").read(draw_pdf(folder / "stock.pdf", TEXTS)))
    embedder = PixelEmbedder()
    with QdrantPageStore(folder / "index") as opened:
        opened.prepare(embedder)
        opened.add_pages(pages, embedder.embed_pages(pages))
        yield opened


@pytest.fixture
def retriever(store: QdrantPageStore) -> VisRAGRetriever:
    return VisRAGRetriever(PageRetriever(PixelEmbedder(), store), similarity_top_k=2, mode="lexical")


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(fn=add)


def shown(request: Mapping[str, Any]) -> list[str]:
    """What the model was shown, one short word a part."""
    parts = []
    for message in request["messages"]:
        content = message["content"]
        kinds = [part["type"] for part in content] if isinstance(content, list) else ["text"]
        parts += [f"{message['role']} {kind}" for kind in kinds]
    return parts


# --- tool calls -----------------------------------------------------------------------------------------------------


async def test_a_question_with_tools(retriever: VisRAGRetriever) -> None:
    reply = call("add", a=2, b=3)
    server = ScriptedServer(reply, reply, reply, reply)
    llm = EVisRAGLLM(generator=server, temperature=0.0)
    whole = llm.chat_with_tools([ADD], "What is 2 + 3?")
    awaited = await llm.achat_with_tools([ADD], "What is 2 + 3?")
    *_, streamed = llm.stream_chat_with_tools([ADD], "What is 2 + 3?")
    pieces = [piece async for piece in await llm.astream_chat_with_tools([ADD], "What is 2 + 3?")]
    for response in (whole, awaited, streamed, pieces[-1]):
        (selection,) = llm.get_tool_calls_from_response(response)
        assert (selection.tool_id, selection.tool_name, selection.tool_kwargs) == ("c1", "add", {"a": 2, "b": 3})
    request = server.requests[0]
    assert request["tools"][0]["function"]["name"] == "add"
    assert request["temperature"] == 0.0
    assert "tool_choice" not in request
    assert request["messages"] == [{"role": "user", "content": "What is 2 + 3?"}]


def test_which_tool_is_asked_for() -> None:
    replies = [call("add", a=1)] * 4
    server = ScriptedServer(*replies)
    llm = EVisRAGLLM(generator=server)
    llm.chat_with_tools([ADD], "?", tool_required=True)
    llm.chat_with_tools([ADD], "?", tool_choice="add", allow_parallel_tool_calls=True)
    llm.chat_with_tools([ADD], "?", tool_choice="any")
    llm.chat_with_tools([ADD], "?", tool_choice="auto")
    chosen = [request["tool_choice"] for request in server.requests]
    assert chosen == ["required", {"type": "function", "function": {"name": "add"}}, "required", "auto"]
    assert [request.get("parallel_tool_calls") for request in server.requests] == [False, None, False, False]


def test_one_call_where_several_are_not_allowed() -> None:
    two = {"content": "", "tool_calls": [*call("add", "1", a=1)["tool_calls"], *call("add", "2", a=2)["tool_calls"]]}
    llm = EVisRAGLLM(generator=ScriptedServer(two, two))
    one = llm.chat_with_tools([ADD], "?")
    both = llm.chat_with_tools([ADD], "?", allow_parallel_tool_calls=True)
    assert [len(llm.get_tool_calls_from_response(response)) for response in (one, both)] == [1, 2]


@pytest.mark.parametrize("written", ["{'a': 1}", "[1]", '{"a": 1', "7"])
def test_arguments_that_are_no_json_object_are_an_error_the_model_sees(written: str) -> None:
    reply = call("add")
    reply["tool_calls"][0]["function"]["arguments"] = written
    llm = EVisRAGLLM(generator=ScriptedServer(reply))
    (selection,) = llm.get_tool_calls_from_response(llm.chat_with_tools([ADD], "?"))
    with pytest.raises(TypeError, match="not_json"):
        ADD.call(**selection.tool_kwargs)


def test_no_call_where_one_is_needed() -> None:
    llm = EVisRAGLLM(generator=ScriptedServer("Five.", "Five."))
    response = llm.chat_with_tools([ADD], "?")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(GenerationError, match=r"'Five\.'.*--enable-auto-tool-choice"):
        llm.get_tool_calls_from_response(response)
    assert llm.predict_and_call([ADD], "?", error_on_no_tool_call=False).response == "Five."


def test_who_takes_tools_and_who_does_not() -> None:
    assert EVisRAGLLM(generator=ScriptedServer()).metadata.is_function_calling_model
    assert EVisRAGLLM("http://localhost:9/v1").metadata.is_function_calling_model
    assert EVisRAGLLM("m", base_url="http://localhost:9/v1").metadata.is_function_calling_model
    assert not EVisRAGLLM().metadata.is_function_calling_model
    assert not EVisRAGLLM("extractive").metadata.is_function_calling_model
    plain = EVisRAGLLM(generator=ScriptedGenerator("a"))
    assert not plain.metadata.is_function_calling_model
    with pytest.raises(SettingError, match=r"cannot call tools.*ReActAgent"):
        plain.chat_with_tools([ADD], "?")


def test_closing_a_stream_with_tools_stops_the_server() -> None:
    server = ScriptedServer("One two three four five.")
    stream = EVisRAGLLM(generator=server).stream_chat_with_tools([ADD], "?")
    next(stream)
    stream.close()
    assert server.closed


# --- a tool that shows pages ----------------------------------------------------------------------------------------


async def test_the_tool_gives_captions_and_pictures(retriever: VisRAGRetriever, tmp_path: Path) -> None:
    tool = create_visrag_tool(retriever, image_dir=tmp_path)
    for output in (tool.call(query="boxes"), await tool.acall(query="boxes")):
        caption, picture = output.blocks
        assert isinstance(caption, TextBlock)
        assert isinstance(picture, ImageBlock)
        assert caption.text.startswith("[1] ")
        assert caption.text.endswith("stock.pdf, page 1:")
        assert picture.path is not None
        assert open_picture(picture.path).width > 100
        assert len(output.model_dump_json()) < 3000
    assert [block.text for block in tool.call(query="zebra").blocks] == ["No page fits this query."]  # type: ignore[union-attr]
    assert "query" in tool.metadata.get_parameters_dict()["properties"]
    assert "twelve boxes" in str(create_visrag_tool(retriever, text_only=True).call(query="boxes"))
    with pytest.raises(SettingError, match="without retrieve"):
        create_visrag_tool(7)


def test_pictures_that_are_no_files_become_some(tmp_path: Path) -> None:
    class Retriever:
        def retrieve(self, query: str, top_k: int = 5, **_: Any) -> Any:
            from visrag_integrations.types import Page, ScoredPage

            return [ScoredPage(Page("d", 1, picture=Image.new("RGB", (9, 9), "red")), 1.0)]

    tool = create_visrag_tool(Retriever(), image_dir=tmp_path / "kept")
    paths = [tool.call(query="red").blocks[1].path for _ in range(2)]  # type: ignore[union-attr]
    assert paths[0] == paths[1]
    assert paths[0].is_relative_to(tmp_path / "kept")
    assert open_picture(paths[0]).size == (9, 9)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("many", [False, True])
async def test_an_agent_sees_the_pages_it_finds(
    retriever: VisRAGRetriever, tmp_path: Path, streaming: bool, many: bool
) -> None:
    server = ScriptedServer(call("search_pages", query="boxes"), "There are twelve boxes.", "Twelve, as I said.")
    tool = create_visrag_tool(retriever, image_dir=tmp_path)
    agent: Any = FunctionAgent(
        name="searcher", description="d", tools=[tool], llm=EVisRAGLLM(generator=server), streaming=streaming
    )
    if many:
        agent = AgentWorkflow(agents=[agent], root_agent="searcher")
    context: Any = Context(agent)
    memory = ChatMemoryBuffer.from_defaults(token_limit=100_000)
    handler = agent.run("How many boxes are there?", ctx=context, memory=memory)
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert str(await handler) == "There are twelve boxes."
    assert [result.tool_name for result in results] == ["search_pages"]
    # The second time the model is shown the tool's text, and the picture behind it.
    first, second = server.requests
    assert shown(first)[-1] == "user text"
    assert shown(second)[-4:] == ["user text", "assistant text", "tool text", "user image_url"]
    assert second["messages"][-3]["tool_calls"][0]["function"]["name"] == "search_pages"
    assert second["messages"][-2]["tool_call_id"] == "c1"
    assert "page 1" in second["messages"][-2]["content"]
    url = second["messages"][-1]["content"][0]["image_url"]["url"]
    assert len(base64.b64decode(url.partition(",")[2])) > 1000
    # What the context and the memory keep is small, is JSON, and goes on elsewhere.
    kept = json.dumps(context.to_dict())
    remembered = [message.model_dump_json() for message in memory.get_all()]
    assert len(kept) + sum(map(len, remembered)) < 20_000
    assert "base64" not in kept
    again: Any = Context.from_dict(agent, json.loads(kept))
    history = [ChatMessage.model_validate_json(message) for message in remembered]
    later = ChatMemoryBuffer.from_defaults(chat_history=history, token_limit=100_000)
    assert str(await agent.run("And how many was that?", ctx=again, memory=later)) == "Twelve, as I said."
    third = shown(server.requests[2])
    assert third[-5:] == ["assistant text", "tool text", "user image_url", "assistant text", "user text"]


async def test_a_tool_that_fails_tells_the_model(retriever: VisRAGRetriever) -> None:
    def broken(a: int) -> int:
        raise ValueError("the scale is broken")

    server = ScriptedServer(call("broken", a=1), "I could not weigh it.")
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(fn=broken)], llm=EVisRAGLLM(generator=server))
    assert str(await agent.run("Weigh it.")) == "I could not weigh it."
    assert "the scale is broken" in server.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_engine_without_tools_is_asked_in_words(retriever: VisRAGRetriever, streaming: bool) -> None:
    generator = ScriptedGenerator(
        'Thought: I need to search.\nAction: search_pages\nAction Input: {"query": "boxes"}',
        "Thought: I can answer without using any more tools.\nAnswer: Twelve.",
    )
    tool = create_visrag_tool(retriever, text_only=True)
    agent = ReActAgent(tools=[tool], llm=EVisRAGLLM(generator=generator), streaming=streaming)
    assert str(await agent.run("How many boxes?")) == "Twelve."
    assert "twelve boxes" in generator.batches[1][0][-1].text
    assert "search_pages" in generator.batches[0][0][0].text


# --- a prompt of one's own ------------------------------------------------------------------------------------------


def test_nodes_as_content_of_a_message(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "red").save(tmp_path / "red.png")
    nodes = [
        NodeWithScore(
            node=ImageNode(image_path=str(tmp_path / "red.png"), metadata={"file_path": "a.pdf", "number": 4})
        ),
        TextNode(text="Words.", metadata={"file_path": "b.txt"}),
    ]
    blocks = nodes_to_content(nodes)
    assert [block.block_type for block in blocks] == ["text", "image", "text", "text"]
    assert [block.text for block in blocks if isinstance(block, TextBlock)] == [
        "[1] a.pdf, page 4:",
        "[2] b.txt, page 1:",
        "Words.",
    ]
    assert isinstance(blocks[1], ImageBlock)
    assert blocks[1].resolve_image().read() == (tmp_path / "red.png").read_bytes()  # as it is
    (small, _) = nodes_to_content(nodes, captions=False, max_pixels=1200)
    assert isinstance(small, ImageBlock)
    assert Image.open(small.resolve_image()).size == (40, 30)
    assert [block.text for block in nodes_to_content(nodes[1:], captions=lambda place, page: page.source)] == [  # type: ignore[union-attr]
        "b.txt",
        "Words.",
    ]
    generator = ScriptedGenerator("Red.")
    asked = ChatMessage(role="user", blocks=[TextBlock(text="Which colour?"), *blocks])
    EVisRAGLLM(generator=generator, prompt="plain").chat([asked])
    assert len(generator.batches[0][0][0].pages) == 1
