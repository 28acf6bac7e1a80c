"""Every engine against the plug: the optional members by name, argument and type, and the published settings."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import AsyncGenerator, Collection, Iterator
from importlib.util import find_spec
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from scripted_server import serving
from tiny_models import shared_qwen2_5_vl

from visrag_integrations.generation import load_generator
from visrag_integrations.generation.chat import WrittenPrompt
from visrag_integrations.generation.defaults import MAX_CONTEXT, PUBLISHED
from visrag_integrations.generation.evisrag import plain_messages
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.generation.vllm import VLLMGenerator
from visrag_integrations.interfaces import Generator
from visrag_integrations.interfaces.closing import Closes
from visrag_integrations.interfaces.generators import (
    Chats,
    HasLimits,
    OnlyQuotes,
    SaysWhatItSupports,
    ServesOtherModels,
    StreamsAsync,
    WritesAsync,
    agenerate,
    astream,
    chats,
    context_length_of,
    generate,
    max_images_of,
    streams_async,
    supports,
    with_model,
    writes_async,
)
from visrag_integrations.types import GenerationSettings

OPTIONAL = {
    "supports": SaysWhatItSupports,
    "only_quotes": OnlyQuotes,
    "max_images": HasLimits,
    "context_length": HasLimits,
    "agenerate": WritesAsync,
    "astream": StreamsAsync,
    "chat": Chats,
    "stream_chat": Chats,
    "with_model": ServesOtherModels,
    "close": Closes,
}
EVERYWHERE = {"name", "generate", "stream"}
LOCAL = {"supports", "max_images", "context_length", "agenerate", "astream"}
HAVE: dict[str, set[str]] = {
    "extractive": {"only_quotes"},
    "transformers": LOCAL,
    "vllm": LOCAL | {"close"},
    "openai": LOCAL | {"close", "chat", "stream_chat", "with_model"},
}
OWN = {"extractive": {"threshold"}, "transformers": {"around"}, "openai": {"check_model"}}
SHORT = GenerationSettings(max_tokens=4, temperature=0.0)
QUESTION = plain_messages("Why?", [])


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Any]]:
    with serving() as (url, _):
        made = {
            "extractive": load_generator("extractive"),
            "transformers": load_generator(shared_qwen2_5_vl(), engine="transformers"),
            "vllm": load_generator(shared_qwen2_5_vl(), engine="vllm"),  # loads nothing until it is asked
            "openai": load_generator(url),
        }
        yield made
        for name in ("vllm", "openai"):
            made[name].close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HAVE)
def test_an_engine_has_exactly_these_members(engines: dict[str, Any], name: str) -> None:
    """A member by another name (`context_window`, `max_pictures`) would be read by nobody."""
    engine = engines[name]
    assert isinstance(engine, Generator)
    public = {member for member in dir(engine) if not member.startswith("_")}
    assert public == EVERYWHERE | HAVE[name] | OWN.get(name, set())


@pytest.mark.parametrize(("name", "member"), [(name, member) for name in HAVE for member in sorted(HAVE[name])])
def test_a_member_is_called_as_its_protocol_says(engines: dict[str, Any], name: str, member: str) -> None:
    wanted = inspect.getattr_static(OPTIONAL[member], member)
    if isinstance(wanted, property):
        value = getattr(engines[name], member)
        if member == "supports":
            assert isinstance(value, Collection)
            assert not isinstance(value, str)  # "json" in "json_schema" is true as well
        elif member == "only_quotes":
            assert value is True
        else:
            assert value is None or (isinstance(value, int) and value > 0)
        return
    own = inspect.getattr_static(type(engines[name]), member)
    assert parameters(own) == parameters(wanted)
    assert is_async(own) == is_async(wanted)
    if member != "with_model":  # gives a whole generator, which is looked at below
        assert_gives_at_least(returned(own), returned(wanted))


def parameters(function: Any) -> list[tuple[str, Any, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default, one.annotation) for one in found]


def is_async(function: Any) -> bool:
    """Whether calling it gives something to await; an async generator is iterated instead."""
    return inspect.iscoroutinefunction(function)


def returned(function: Any) -> Any:
    return get_type_hints(function)["return"]


def assert_gives_at_least(own: Any, wanted: Any) -> None:
    """The same type, or a narrower one with the same items: a `Generator[dict, None, None]` is an `Iterator[dict]`."""
    if get_origin(wanted) is None:
        assert own is wanted
        return
    assert issubclass(get_origin(own), get_origin(wanted))
    assert get_args(own)[0] == get_args(wanted)[0]


@pytest.mark.parametrize("name", HAVE)
def test_the_plug_reads_what_an_engine_has(engines: dict[str, Any], name: str) -> None:
    engine = engines[name]
    assert writes_async(engine) == ("agenerate" in HAVE[name])
    assert streams_async(engine) == ("astream" in HAVE[name])
    assert chats(engine) == ("chat" in HAVE[name])
    other = with_model(engine, "another")
    assert (other is not None) == ("with_model" in HAVE[name])
    assert other is None or (isinstance(other, Generator) and other.name == "another")
    assert supports(engine, "json_schema") == (name in {"vllm", "openai"})
    assert not supports(engine, "json")
    assert max_images_of(engine) == {"transformers": 5, "vllm": 5}.get(name)


def test_the_context_is_the_checkpoints_own_once_it_is_loaded(engines: dict[str, Any]) -> None:
    engine = load_generator(shared_qwen2_5_vl(), engine="transformers")
    assert context_length_of(engine) == MAX_CONTEXT
    engine.generate([QUESTION], SHORT)
    assert context_length_of(engine) == 8192
    assert context_length_of(engines["extractive"]) is None


@pytest.mark.parametrize("name", ["extractive", "transformers", "openai"])
async def test_all_four_ways_to_write_give_the_same_text(engines: dict[str, Any], name: str) -> None:
    engine = engines[name]
    (whole,) = generate(engine, [QUESTION], SHORT)
    assert whole.text
    assert [one.text for one in await agenerate(engine, [QUESTION], SHORT)] == [whole.text]
    assert "".join(piece.text for piece in engine.stream(QUESTION, SHORT)) == whole.text
    assert "".join([piece.text async for piece in astream(engine, QUESTION, SHORT)]) == whole.text


# --- the published settings ---------------------------------------------------------------------------------------


class SamplingParams(types.SimpleNamespace):
    """In place of vLLM's where it is not installed: keeps what it is given."""


class NotingEngine:
    """In place of vLLM's engine: writes one word, and keeps how it was asked to."""

    dead = False

    def __init__(self, *_: Any, **__: Any) -> None:
        self.asked_with: list[Any] = []
        self.writer = self

    def write(self, conversation: Any, settings: GenerationSettings) -> WrittenPrompt:
        return WrittenPrompt("Why?", (), settings.max_tokens or 0)

    async def generate(self, request: Any, sampling: Any) -> AsyncGenerator[Any, None]:
        self.asked_with.append(sampling)
        done = types.SimpleNamespace(text="so", token_ids=[1], cumulative_logprob=-1.0, finish_reason="stop")
        yield types.SimpleNamespace(outputs=[done], prompt_token_ids=[1, 2], finished=True)

    def close(self) -> None:
        pass


def sent_to_openai(monkeypatch: pytest.MonkeyPatch) -> tuple[float, int, float]:
    with serving() as (url, requests):
        engine = OpenAIGenerator(url, kind="vllm")
        engine.generate([QUESTION])
        engine.close()
    (request,) = requests
    return request["temperature"], request["max_tokens"], request["repetition_penalty"]


def sent_to_transformers(monkeypatch: pytest.MonkeyPatch) -> tuple[float, int, float]:
    engine = TransformersGenerator(str(shared_qwen2_5_vl()))
    seen: list[Any] = []
    model = engine._loaded().model
    monkeypatch.setattr(model, "generate", lambda **asked: seen.append(asked["generation_config"]))
    engine.generate([QUESTION])
    (config,) = seen
    assert config.do_sample is True  # else transformers ignores the temperature
    return config.temperature, config.max_new_tokens, config.repetition_penalty


def sent_to_vllm(monkeypatch: pytest.MonkeyPatch) -> tuple[float, int, float]:
    if find_spec("vllm") is None:
        parts: Any = types.ModuleType("vllm.sampling_params")
        parts.SamplingParams = parts.StructuredOutputsParams = SamplingParams
        parts.RequestOutputKind = types.SimpleNamespace(DELTA=1, FINAL_ONLY=2)
        monkeypatch.setitem(sys.modules, "vllm.sampling_params", parts)
        monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    monkeypatch.setattr("visrag_integrations.generation.vllm.VLLMEngine", NotingEngine)
    engine = VLLMGenerator("a checkpoint")
    assert [one.text for one in engine.generate([QUESTION])] == ["so"]
    noting: Any = engine._engine
    engine.close()
    (sampling,) = noting.asked_with
    return sampling.temperature, sampling.max_tokens, sampling.repetition_penalty


@pytest.mark.parametrize("sent", [sent_to_openai, sent_to_transformers, sent_to_vllm])
def test_every_engine_writes_as_published_where_a_call_leaves_it_open(
    sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temperature 0.1, 2048 new tokens, repetition penalty 1.05: what EVisRAG's authors sample with."""
    assert sent(monkeypatch) == (0.1, 2048, 1.05)
    assert (PUBLISHED.temperature, PUBLISHED.max_tokens, PUBLISHED.repetition_penalty) == (0.1, 2048, 1.05)
