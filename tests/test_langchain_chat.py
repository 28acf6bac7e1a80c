"""ChatEVisRAG: evidence as content, streams, settings, batches, refusals, and the host's wrappers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fakes import ScriptedGenerator
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from PIL import Image
from pydantic import BaseModel
from scripted_server import serving

from visrag_integrations import Page
from visrag_integrations.errors import GenerationError, SettingError, UnknownNameError
from visrag_integrations.generation.evisrag import build_prompt, parse_evidence
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.interfaces.opened import model_behind
from visrag_integrations.langchain import ChatEVisRAG, EvidenceOutputParser
from visrag_integrations.langchain.messages import page_to_block
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Usage

WRITTEN = (
    "<observe> two tables </observe>\n<evidence>\n[1]: 12 units sold\n[2]: no relevant information\n</evidence>\n"
    "<think>so it is 12</think>\n<answer>\n12 units \n</answer>"
)
PAGES = [Page("d1", n, f"page {n}", "sales.pdf", picture=Image.new("RGB", (4, 4), "red")) for n in (7, 8)]
CHECKED = {"verdict": "not found on the page", "support": 0.0, "boxes": [], "missing": ["12 units sold"]}
QUESTION = [HumanMessage([{"type": "text", "text": "How many?"}, *(page_to_block(page) for page in PAGES)])]


class Echo:
    """Writes back the last turn's text; counts its batches and keeps its settings."""

    name = "echo"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.settings: list[GenerationSettings | None] = []

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.batches.append(len(conversations))
        self.settings.append(settings)
        return [Generation(c[-1].text, usage=Usage(2, 1), finish_reason="stop") for c in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        self.settings.append(settings)
        yield from self.generate([conversation], settings)


def chat(*texts: str | Generation, **fields: Any) -> ChatEVisRAG:
    return ChatEVisRAG(generator=ScriptedGenerator(*texts), **fields)


def blocks_of(message: AIMessage) -> list[dict[str, Any]]:
    """The content blocks without what only streams have."""
    assert isinstance(message.content, list)
    return [{k: v for k, v in block.items() if k != "index"} for block in message.content if isinstance(block, dict)]


# --- evidence


def test_evidence_travels_as_standard_content() -> None:
    model = chat(Generation(WRITTEN, -0.5, Usage(100, 20), "stop"))
    message = model.invoke(QUESTION)
    observed, thought, answered = blocks_of(message)
    assert observed == {"type": "reasoning", "reasoning": "two tables"}
    assert thought == {"type": "reasoning", "reasoning": "so it is 12"}
    assert answered["text"] == "12 units"
    (citation,) = answered["annotations"]
    assert citation == {
        "type": "citation",
        "start_index": 0,
        "end_index": 8,
        "cited_text": "12 units sold",
        "title": "sales.pdf, page 7",
        "url": "sales.pdf#page=7",
        "extras": {"page_index": 1, "doc_id": "d1", "number": 7, "source": "sales.pdf", **CHECKED},
    }
    assert message.text == "12 units"
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "reasoning", "text"]
    assert message.usage_metadata == {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    assert message.response_metadata["model_name"] == "scripted"
    assert (message.response_metadata["finish_reason"], message.response_metadata["logprob"]) == ("stop", -0.5)
    (conversation,) = model.generator.batches[0]
    assert conversation[-1].content == (build_prompt("How many?"), *PAGES)
    assert conversation[-1].pages[0].source == "sales.pdf"


def test_a_stream_adds_up_to_the_whole() -> None:
    whole = chat(WRITTEN).invoke(QUESTION)
    chunks = list(chat(Generation(WRITTEN, None, Usage(5, 6))).stream(QUESTION))
    full = chunks[0]
    for chunk in chunks[1:]:
        full += chunk
    assert blocks_of(full) == blocks_of(whole)
    assert full.usage_metadata == {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}
    assert chunks[-1].chunk_position == "last"
    assert sum(bool(chunk.text) for chunk in chunks) > 1
    parser = EvidenceOutputParser(pages=PAGES)
    assert parser.invoke(full) == parser.invoke(whole) == parse_evidence(WRITTEN, PAGES)


@pytest.mark.parametrize("written", ["no tags at all", "<answer>a</answer><answer>b</answer>", "", "<think>cut"])
def test_odd_answers_lose_no_text(written: str) -> None:
    whole = chat(written).invoke(QUESTION)
    full = AIMessageChunk("")
    for chunk in chat(written).stream(QUESTION):
        full = chunk if not full.content else full + chunk
    assert (whole.text in full.text) or not whole.text
    assert EvidenceOutputParser().invoke(whole) == parse_evidence(written)
    if "answer" not in written and "think" not in written:
        assert whole.text == full.text == written


def test_only_questions_with_images_are_put_in_evisrags_words() -> None:
    model = chat("Hi", WRITTEN, WRITTEN)
    assert model.invoke("Hello").content == "Hi"
    assert model.generator.batches[0][0][-1].content == ("Hello",)
    wrapped = [HumanMessage([build_prompt("How many?"), page_to_block(PAGES[0])])]
    model.invoke(wrapped)
    assert model.generator.batches[1][0][-1].text == build_prompt("How many?")
    plain = chat(WRITTEN, prompt="plain")
    assert plain.invoke(QUESTION).content == WRITTEN
    assert plain.generator.batches[0][0][-1].text == "How many?"


async def test_async_gives_the_same() -> None:
    whole = chat(WRITTEN).invoke(QUESTION)
    assert (await chat(WRITTEN).ainvoke(QUESTION)).content == whole.content
    full: Any = None
    async for chunk in chat(WRITTEN).astream(QUESTION):
        full = chunk if full is None else full + chunk
    assert blocks_of(full) == blocks_of(whole)


def test_leaving_a_stream_stops_the_generator() -> None:
    model = chat(WRITTEN)
    stream = model.stream(QUESTION)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.generator.closed


async def test_leaving_an_async_stream_stops_the_generator() -> None:
    model = chat(WRITTEN)
    stream = model.astream(QUESTION)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    for _ in range(200):  # the host leaves the inner iterator to the event loop, which closes it soon after
        if model.generator.closed:
            break
        await asyncio.sleep(0.01)
    assert model.generator.closed


async def test_cancelling_stops_the_generator_between_two_pieces() -> None:
    class Slow(ScriptedGenerator):
        told = 0

        def stream(self, *args: Any) -> Iterator[Generation]:
            for piece in super().stream(*args):
                time.sleep(0.05)
                self.told += 1
                yield piece

    model = ChatEVisRAG(generator=Slow(WRITTEN))

    async def read() -> None:
        async for _ in model.astream(QUESTION):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.12)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    told = model.generator.told
    await asyncio.sleep(0.15)
    assert model.generator.told == told < 10  # of 25 pieces: nothing more is written


def test_tokens_reach_callbacks() -> None:
    seen: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            seen.append(token)

    list(chat("0123456789").stream("Hello", {"callbacks": [Handler()]}))
    assert "".join(seen) == "0123456789"
    assert len(seen) == 3


# --- settings


def test_settings_of_the_model_and_of_one_call() -> None:
    echo = Echo()
    model = ChatEVisRAG(generator=echo, temperature=0.5, max_tokens=9, stop=["x"])
    model.invoke("a")
    model.invoke("a", temperature=0, stop=["y"], seed=3)
    list(model.bind(max_tokens=1).stream("a"))
    first, second, third = echo.settings[0], echo.settings[1], echo.settings[2]
    assert first == GenerationSettings(max_tokens=9, temperature=0.5, stop=("x",))
    assert second == GenerationSettings(max_tokens=9, temperature=0, stop=("y",), seed=3)
    assert third is not None
    assert third.max_tokens == 1
    with pytest.raises(SettingError, match=r"'echo' does not know logit_bias.*temperature"):
        model.invoke("a", logit_bias={})


def test_guidance_is_for_questions_about_pages() -> None:
    echo = Echo()
    model = ChatEVisRAG(generator=echo, guided=True)
    model.invoke("a")
    model.invoke(QUESTION)
    assert [settings.guided for settings in echo.settings if settings] == [False, True]


def test_another_model_for_one_call() -> None:
    model = ChatEVisRAG(generator=Echo())
    assert "insufficient" in model.invoke("a", model="extractive").text
    with pytest.raises(UnknownNameError, match="no-such-model"):
        model.invoke("a", model="no-such-model")
    assert ChatEVisRAG("extractive").invoke("Hello").response_metadata["model_name"] == "extractive"


def test_models_are_loaded_late_and_once_and_pickle() -> None:
    model = ChatEVisRAG("extractive", temperature=0)
    assert ChatEVisRAG().model == "openbmb/EVisRAG-7B"
    assert model_behind(model._generator()) is model_behind(ChatEVisRAG("extractive")._generator())
    assert pickle.loads(pickle.dumps(model)) == model
    assert model._get_ls_params()["ls_model_name"] == "extractive"
    assert model._get_ls_params()["ls_provider"] == "evisrag"


def test_configurable_model() -> None:
    model = ChatEVisRAG(generator=Echo()).configurable_fields(max_tokens=ConfigurableField(id="length"))
    model.invoke("a", config={"configurable": {"length": 3}})
    assert model.default.generator.settings[0].max_tokens == 3  # type: ignore[attr-defined]


# --- many calls


def test_a_batch_reaches_the_engine_as_one() -> None:
    echo = Echo()
    questions = [f"q{n}" for n in range(40)]
    assert [m.text for m in ChatEVisRAG(generator=echo).batch(questions)] == questions
    assert echo.batches == [40]
    limited = Echo()
    ChatEVisRAG(generator=limited).batch(questions[:6], {"max_concurrency": 2})
    assert max(limited.batches) == 2
    assert sum(limited.batches) == 6


async def test_an_async_batch_reaches_the_engine_as_one() -> None:
    echo = Echo()
    questions = [f"q{n}" for n in range(40)]
    assert [m.text for m in await ChatEVisRAG(generator=echo).abatch(questions)] == questions
    assert echo.batches == [40]


def test_failures_in_a_batch() -> None:
    class Failing(Echo):
        def generate(self, conversations: Any, settings: Any = None) -> list[Generation]:
            raise GenerationError("the engine died")

    found = ChatEVisRAG(generator=Failing()).batch(["a", "b"], return_exceptions=True)
    assert [type(one) for one in found] == [GenerationError, GenerationError]
    bad = [HumanMessage([{"type": "audio", "base64": "aaaa"}])]
    echo = Echo()
    first, second = ChatEVisRAG(generator=echo).batch(["a", bad], return_exceptions=True)
    assert (first.text, type(second)) == ("a", SettingError)


async def test_64_concurrent_calls_block_no_loop_and_mix_nothing_up() -> None:
    class Slow(Echo):
        def generate(self, conversations: Any, settings: Any = None) -> list[Generation]:
            time.sleep(0.01)
            return super().generate(conversations, settings)

    model = ChatEVisRAG(generator=Slow())
    gaps: list[float] = []

    async def heartbeat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    pulse = asyncio.create_task(heartbeat())
    found = await asyncio.gather(*(model.ainvoke(f"q{n}") for n in range(64)))
    pulse.cancel()
    assert [message.text for message in found] == [f"q{n}" for n in range(64)]
    assert len(gaps) > 5
    assert sorted(gaps)[len(gaps) // 2] < 0.1


# --- tools and schemas


class Total(BaseModel):
    """What the table says."""

    units: int
    where: str


class Schematic(Echo):
    """Writes JSON when it is held to a schema."""

    supports = frozenset({"json_schema"})

    def generate(self, conversations: Any, settings: GenerationSettings | None = None) -> list[Generation]:
        super().generate(conversations, settings)
        return [Generation(json.dumps({"units": 12, "where": "Paris"})) for _ in conversations]


def test_structured_output_is_held_by_the_engine() -> None:
    engine = Schematic()
    model = ChatEVisRAG(generator=engine)
    assert model.with_structured_output(Total).invoke(QUESTION) == Total(units=12, where="Paris")
    settings = engine.settings[0]
    assert settings is not None
    assert settings.json_schema == Total.model_json_schema()
    as_dict = model.with_structured_output(Total.model_json_schema()).invoke("a")
    assert as_dict == {"units": 12, "where": "Paris"}
    raw: Any = model.with_structured_output(Total, include_raw=True).invoke("a")
    assert (raw["parsed"], raw["parsing_error"], type(raw["raw"])) == (Total(units=12, where="Paris"), None, AIMessage)
    model.with_structured_output(Total, method="json_mode").invoke("a")
    assert engine.settings[-1].json_schema == {"type": "object"}  # type: ignore[union-attr]
    with pytest.raises(SettingError, match="json_schema, json_mode, function_calling"):
        model.with_structured_output(Total, method="yaml")


def test_engines_without_tools_and_schemas_say_so() -> None:
    model = ChatEVisRAG(generator=Echo())
    with pytest.raises(SettingError, match="'echo' cannot call tools"):
        model.bind_tools([Total])
    with pytest.raises(SettingError, match="'echo' cannot hold its text to a schema"):
        model.with_structured_output(Total)


def test_tools_and_settings_reach_the_server() -> None:
    with serving() as (url, seen), contextlib.closing(OpenAIGenerator(url)) as generator:
        model = ChatEVisRAG(generator=generator, temperature=0.2, stop=["x"])
        message = model.bind_tools([Total], tool_choice="Total").invoke(QUESTION)
        (call,) = message.tool_calls
        assert (call["name"], call["args"]["units"]) == ("Total", 3)
        assert message.usage_metadata == {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
        request = seen[0]
        assert (request["temperature"], request["stop"]) == (0.2, ["x"])
        assert request["tool_choice"] == {"type": "function", "function": {"name": "Total"}}
        assert [part["type"] for part in request["messages"][0]["content"]] == ["text", "image_url", "image_url"]
        schema = model.with_structured_output(Total).invoke("a")
        assert schema.units == 3  # type: ignore[union-attr]
        assert seen[1]["response_format"]["json_schema"]["schema"] == Total.model_json_schema()


# --- the host's wrappers


def test_rate_limits_retries_and_fallbacks() -> None:
    threads_before = threading.active_count()
    limiter = InMemoryRateLimiter(requests_per_second=20, check_every_n_seconds=0.01, max_bucket_size=1)
    before = time.monotonic()
    ChatEVisRAG(generator=Echo(), rate_limiter=limiter).batch(["a", "b", "c"])
    assert time.monotonic() - before > 0.09

    class Flaky(Echo):
        failures = 1

        def generate(self, conversations: Any, settings: Any = None) -> list[Generation]:
            if self.failures:
                self.failures -= 1
                raise GenerationError("down")
            return super().generate(conversations, settings)

    again = ChatEVisRAG(generator=Flaky()).with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    assert again.invoke("a").text == "a"
    other = ChatEVisRAG(generator=Flaky()).with_fallbacks([ChatEVisRAG(generator=Echo())])
    assert (other | StrOutputParser()).invoke("a") == "a"
    assert threading.active_count() < threads_before + 10
