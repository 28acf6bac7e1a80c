"""EVisRAGLLM and EvidenceOutputParser: LlamaIndex's conventions, every shape of message, structured outputs."""

from __future__ import annotations

import asyncio
import base64
import io
import pickle
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedGenerator
from llama_index.core import PromptTemplate, Settings
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import LLM
from llama_index.core.schema import ImageDocument, ImageNode
from llama_index.core.types import BaseOutputParser
from PIL import Image
from pydantic import BaseModel

from visrag_integrations.errors import GenerationError, PictureError, SettingError
from visrag_integrations.generation.evisrag import build_prompt
from visrag_integrations.images import open_picture
from visrag_integrations.llamaindex import EvidenceOutputParser, EVisRAGLLM
from visrag_integrations.llamaindex.messages import to_chat_messages, to_conversation
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Message, Page, ScoredPage, Usage

RAW = "<observe>Two pages.</observe><evidence>[1]: 12 boxes</evidence><think>Read.</think><answer>12</answer>"
HELLO = [ChatMessage("Hello")]


class SchemaGenerator(ScriptedGenerator):
    """Follows JSON schemas, and remembers its settings."""

    supports = frozenset({"json_schema"})

    def __init__(self, *texts: str | Generation) -> None:
        super().__init__(*texts)
        self.settings: list[GenerationSettings | None] = []

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.settings.append(settings)
        return super().generate(conversations, settings)

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        self.settings.append(settings)
        return super().stream(conversation, settings)


class Song(BaseModel):
    title: str
    length: int = 0


@pytest.fixture
def red(tmp_path: Path) -> Path:
    Image.new("RGB", (28, 28), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def colour_of(page: Any) -> Any:
    return open_picture(page.picture).convert("RGB").getpixel((0, 0))


# --- messages -------------------------------------------------------------------------------------------------------


def test_text_and_images_in_every_shape_and_order(red: Path) -> None:
    data = red.read_bytes()
    encoded = base64.b64encode(data)
    blocks = [
        TextBlock(text="First"),
        ImageBlock(path=red),
        TextBlock(text="then"),
        ImageBlock(image=data),
        ImageBlock(image=encoded),
        ImageBlock(url=f"data:image/png;base64,{encoded.decode()}"),
        ImageBlock(image=io.BytesIO(data)),
        CachePoint(cache_control=CacheControl(type="ephemeral")),
        TextBlock(text=""),
    ]
    (turn,) = to_conversation([ChatMessage(role="user", blocks=blocks)])
    assert [part if isinstance(part, str) else "image" for part in turn.content] == [
        *("First", "image", "then", "image", "image", "image", "image")
    ]
    assert {colour_of(page) for page in turn.pages} == {(255, 0, 0)}
    assert len({page.doc_id for page in turn.pages[1:]}) == 1  # the same bytes are the same page


def test_roles_and_neighbours() -> None:
    roles = ["developer", "system", "user", "tool", "chatbot", "assistant", "user"]
    messages = [ChatMessage(str(place), role=MessageRole(role)) for place, role in enumerate(roles)]
    turns = to_conversation(messages)
    assert [(turn.role, turn.content) for turn in turns] == [
        ("system", ("0", "1")),
        ("user", ("2", "3")),
        ("assistant", ("4", "5")),
        ("user", ("6",)),
    ]


def test_what_no_model_here_reads_is_refused() -> None:
    with pytest.raises(SettingError, match=r"document.*VisRAGReader"):
        to_conversation([ChatMessage(blocks=[DocumentBlock(data=b"%PDF-1.7")])])
    with pytest.raises(SettingError, match="no image"):
        to_conversation([ChatMessage(blocks=[ImageBlock()])])
    with pytest.raises(PictureError, match="fetch_urls=True"):
        to_conversation([ChatMessage(blocks=[ImageBlock(url="https://example.org/a.png")])])
    (turn,) = to_conversation([ChatMessage(blocks=[ImageBlock(url="https://example.org/a.png")])], fetch_urls=True)
    assert callable(turn.pages[0].picture)  # fetched when it is opened


def test_conversations_become_messages_and_come_back(red: Path) -> None:
    drawn = Image.new("RGB", (28, 28), "blue")
    pages = (Page("d", 1, picture=red), Page("d", 2, picture=drawn), Page("d", 3, text="Words."))
    talk = (Message(("Be brief.",), "system"), Message(("How many?", *pages)))
    (system, user) = to_conversation(to_chat_messages(talk))
    assert (system, user.content[0], user.content[3]) == (talk[0], "How many?", "Words.")
    assert [colour_of(page) for page in user.pages] == [(255, 0, 0), (0, 0, 255)]


# --- the eight methods ----------------------------------------------------------------------------------------------


def test_a_question_with_images_is_put_as_the_model_was_trained(red: Path) -> None:
    generator = ScriptedGenerator(RAW, "plain", "plain", "text")
    llm = EVisRAGLLM(generator=generator)
    messages = [ChatMessage(blocks=[ImageBlock(path=red), TextBlock(text="How many?")])]
    assert llm.chat(messages).message.content == RAW
    assert generator.batches[0][0][0].content[0] == build_prompt("How many?")
    assert len(generator.batches[0][0][0].pages) == 1
    llm.chat(messages, prompt="plain")
    EVisRAGLLM(generator=generator, prompt="plain").chat(messages)
    assert [batch[0][0].content[1] for batch in generator.batches[1:]] == ["How many?", "How many?"]
    llm.chat(HELLO)
    assert generator.batches[3] == [(Message(("Hello",)),)]


async def test_all_eight_methods_say_the_same(red: Path) -> None:
    said = Generation("One two three.", usage=Usage(3, 4))
    llm = EVisRAGLLM(generator=ScriptedGenerator(*[said] * 8))
    whole = [llm.chat(HELLO).message.content, llm.complete("Hello").text]
    whole += [(await llm.achat(HELLO)).message.content, (await llm.acomplete("Hello")).text]
    chats, texts = list(llm.stream_chat(HELLO)), list(llm.stream_complete("Hello"))
    achats = [response async for response in await llm.astream_chat(HELLO)]
    atexts = [response async for response in await llm.astream_complete("Hello")]
    assert whole == ["One two three."] * 4
    for pieces in (chats, texts, achats, atexts):
        assert len(pieces) > 2
        assert "".join(piece.delta or "" for piece in pieces) == "One two three."
        assert pieces[-1].raw["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert (chats[-1].message.content, atexts[-1].text) == ("One two three.", "One two three.")
    assert chats[-1].raw["finish_reason"] == "stop"


def test_completions_show_image_documents(red: Path) -> None:
    generator = ScriptedGenerator("a", "b")
    documents = [ImageDocument(image_path=str(red)), ImageNode(image_path=str(red))]
    EVisRAGLLM(generator=generator).complete("How many?", image_documents=documents)
    assert len(generator.batches[0][0][0].pages) == 2


def test_closing_a_stream_stops_the_engine() -> None:
    generator = ScriptedGenerator("One two three four five six.")
    stream = EVisRAGLLM(generator=generator).stream_chat(HELLO)
    next(stream)
    assert not generator.closed
    stream.close()
    assert generator.closed


async def test_closing_an_async_stream_stops_the_engine() -> None:
    generator = ScriptedGenerator("One two three four five six.")
    stream = await EVisRAGLLM(generator=generator).astream_chat(HELLO)
    assert (await anext(stream)).delta
    await stream.aclose()
    for _ in range(100):  # LlamaIndex's decorator leaves the rest to the event loop
        if generator.closed:
            break
        await asyncio.sleep(0.01)
    assert generator.closed


async def test_the_loop_goes_on_meanwhile() -> None:
    class Slow(ScriptedGenerator):
        def generate(self, conversations: Any, settings: Any = None) -> list[Generation]:
            time.sleep(0.2)
            return [Generation(talk[-1].text) for talk in conversations]

    llm = EVisRAGLLM(generator=Slow())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    answers = await asyncio.gather(*(llm.achat([ChatMessage(str(n))]) for n in range(4)))
    ticking.cancel()
    assert [answer.message.content for answer in answers] == ["0", "1", "2", "3"]
    assert ticks > 5


async def test_an_engine_with_an_async_way_is_asked_that_way() -> None:
    class Async(ScriptedGenerator):
        async def agenerate(self, conversations: Any, settings: Any = None) -> list[Generation]:
            return [Generation("async") for _ in conversations]

        async def astream(self, conversation: Any, settings: Any = None) -> Any:
            for piece in ("as", "ync"):
                yield Generation(piece)

    llm = EVisRAGLLM(generator=Async())
    assert (await llm.achat(HELLO)).message.content == "async"
    assert [piece.message.content async for piece in await llm.astream_chat(HELLO)] == ["as", "async"]


async def test_batches_reach_the_engine_as_one() -> None:
    generator = ScriptedGenerator(*"abcd")
    llm = EVisRAGLLM(generator=generator)
    assert [answer.message.content for answer in llm.chat_batch([HELLO, HELLO])] == ["a", "b"]
    assert [answer.message.content for answer in await llm.achat_batch([HELLO, HELLO])] == ["c", "d"]
    assert [len(batch) for batch in generator.batches] == [2, 2]
    assert llm.chat_batch([]) == []


def test_settings_of_the_model_and_of_a_call() -> None:
    generator = SchemaGenerator("a", "b")
    llm = EVisRAGLLM(generator=generator, temperature=0.0, max_tokens=7, stop=["END"])
    llm.chat(HELLO)
    llm.chat(HELLO, max_tokens=9, stop="NOW", seed=1)
    assert generator.settings == [
        GenerationSettings(max_tokens=7, temperature=0.0, stop=("END",)),
        GenerationSettings(max_tokens=9, temperature=0.0, stop=("NOW",), seed=1),
    ]
    with pytest.raises(SettingError, match=r"top_q.*top_p"):
        llm.chat(HELLO, top_q=1)


def test_a_generator_that_loses_an_answer() -> None:
    class Lossy(ScriptedGenerator):
        def generate(self, conversations: Any, settings: Any = None) -> list[Generation]:
            return []

    with pytest.raises(GenerationError, match="0 texts for 1"):
        EVisRAGLLM(generator=Lossy()).chat(HELLO)


# --- conventions ----------------------------------------------------------------------------------------------------


def test_host_conventions() -> None:
    assert {base.__name__ for base in EVisRAGLLM.__mro__} >= {LLM.__name__, BaseLLM.__name__}
    assert EVisRAGLLM.class_name() == "EVisRAGLLM"
    llm = EVisRAGLLM(max_tokens=64)  # nothing is loaded
    assert (llm.model, llm.metadata.model_name) == ("openbmb/EVisRAG-7B", "openbmb/EVisRAG-7B")
    assert (llm.metadata.is_chat_model, llm.metadata.num_output) == (True, 64)
    assert llm.metadata.context_window == 128_000
    again = EVisRAGLLM.from_dict(llm.to_dict())
    assert again.to_dict() == llm.to_dict()
    assert EVisRAGLLM.from_json(EVisRAGLLM(prompt="plain").model_dump_json()).prompt == "plain"
    assert pickle.loads(pickle.dumps(llm)).max_tokens == 64


def test_the_engines_context_window() -> None:
    class Small(ScriptedGenerator):
        context_length = 4096

    assert EVisRAGLLM(generator=Small()).metadata.context_window == 4096
    assert EVisRAGLLM(generator=Small(), context_window=99).metadata.context_window == 99


def test_in_the_settings_with_callbacks_and_counted_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    debug, counter = LlamaDebugHandler(print_trace_on_end=False), TokenCountingHandler(tokenizer=str.split)
    llm = EVisRAGLLM(
        generator=ScriptedGenerator(Generation("Hi", usage=Usage(30, 4))),
        callback_manager=CallbackManager([debug, counter]),
    )
    monkeypatch.setattr(Settings, "_llm", llm)
    monkeypatch.setattr(Settings, "_callback_manager", llm.callback_manager)
    assert Settings.llm.predict(PromptTemplate("Greet {who}."), who="me") == "Hi"
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 1
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (30, 4)


def test_instrumentation_events() -> None:
    seen: list[str] = []

    class Handler(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            seen.append(type(event).__name__)

    dispatcher, handler = get_dispatcher(), Handler()
    dispatcher.add_event_handler(handler)
    try:
        list(EVisRAGLLM(generator=ScriptedGenerator("Hi")).stream_chat(HELLO))
    finally:
        dispatcher.event_handlers.remove(handler)
    assert seen[0] == "LLMChatStartEvent"
    assert seen[-1] == "LLMChatEndEvent"


# --- structured outputs ---------------------------------------------------------------------------------------------

PROMPT = PromptTemplate("A song about {topic}.")
SONG = '{"title": "Blue", "length": 3}'


async def test_engines_with_schemas_are_given_the_schema() -> None:
    generator = SchemaGenerator(*[SONG] * 6)
    llm = EVisRAGLLM(generator=generator, system_prompt="Be brief.")
    blue = Song(title="Blue", length=3)
    assert llm.structured_predict(Song, PROMPT, topic="sea") == blue
    assert await llm.astructured_predict(Song, PROMPT, topic="sea") == blue
    assert llm.as_structured_llm(Song).chat(HELLO).raw == blue
    assert (await llm.as_structured_llm(Song).achat(HELLO)).raw == blue
    assert list(llm.stream_structured_predict(Song, PROMPT, topic="sea"))[-1] == blue
    assert [one async for one in await llm.astream_structured_predict(Song, PROMPT, topic="sea")][-1] == blue
    assert all(used is not None and used.json_schema == Song.model_json_schema() for used in generator.settings)
    assert generator.batches[0][0][0] == Message(("Be brief.",), "system")
    assert generator.batches[0][0][1].text == "A song about sea."


def test_objects_grow_while_they_are_written() -> None:
    llm = EVisRAGLLM(generator=SchemaGenerator('{"title": "A long one", "length": 3}'))
    titles = [song.title for song in llm.stream_structured_predict(Song, PROMPT, topic="sea")]
    assert len(titles) > 2
    assert all("A long one".startswith(title) for title in titles)


def test_images_with_a_schema_are_asked_about_plainly(red: Path) -> None:
    generator = SchemaGenerator(SONG)
    messages = [ChatMessage(blocks=[ImageBlock(path=red), TextBlock(text="Which song?")])]
    EVisRAGLLM(generator=generator).as_structured_llm(Song).chat(messages)
    assert generator.batches[0][0][0].text == "Which song?"


async def test_other_engines_are_asked_in_words() -> None:
    generator = ScriptedGenerator(*[SONG] * 3)
    llm = EVisRAGLLM(generator=generator)
    assert llm.structured_predict(Song, PROMPT, topic="sea").title == "Blue"
    assert (await llm.astructured_predict(Song, PROMPT, topic="sea")).title == "Blue"
    assert "title" in generator.batches[0][0][0].text  # the schema is part of the question
    assert [song.length for song in llm.stream_structured_predict(Song, PROMPT, topic="sea")] == [3]


def test_an_object_that_was_cut_off() -> None:
    llm = EVisRAGLLM(generator=SchemaGenerator('{"title": "Bl'))
    with pytest.raises(GenerationError, match=r"Song.*max_tokens"):
        llm.structured_predict(Song, PROMPT, topic="sea")


# --- the parser -----------------------------------------------------------------------------------------------------


def test_parser_knows_the_pages(red: Path) -> None:
    node = ImageNode(image_path=str(red), text="Boxes", metadata={"file_path": "a.pdf", "number": 4})
    page = Page("d", 4, source="a.pdf")
    for shown in (node, page, ScoredPage(page, 1.0)):
        answer = EvidenceOutputParser([shown]).parse(RAW)
        (entry,) = answer.evidence
        assert entry.page is not None
        assert (answer.text, entry.text, entry.page.number, entry.page.source) == ("12", "12 boxes", 4, "a.pdf")
    assert isinstance(EvidenceOutputParser(), BaseOutputParser)
    assert EvidenceOutputParser().parse("no tags").problems


def test_llamaindexs_own_engines_get_the_plain_answer() -> None:
    llm = EVisRAGLLM(generator=ScriptedGenerator(RAW, "Just words."), output_parser=EvidenceOutputParser())
    assert [llm.predict(PROMPT, topic="sea") for _ in range(2)] == ["12", "Just words."]
