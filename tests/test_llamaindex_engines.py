"""What LlamaIndex is told about the real engines: how much they read, and that nothing is loaded for asking."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import openai  # noqa: F401 (this file is left out where it is missing)
import pytest
from llama_index.core.llms import ChatMessage
from scripted_server import serving
from tiny_models import build_qwen2_5_vl

from visrag_integrations import load_generator
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.interfaces import Generator
from visrag_integrations.llamaindex import EVisRAGLLM
from visrag_integrations.llamaindex.llm_generators import generator_of

HELLO = [ChatMessage("Hello")]


def assert_context(generator: Generator, tokens: int | None) -> None:
    llm = EVisRAGLLM(generator=generator)
    assert llm.metadata.context_window == (tokens or 128_000)
    assert getattr(generator_of(llm), "context_length") == tokens  # noqa: B009 (not a member of the plug)
    assert EVisRAGLLM(generator=generator, context_window=99).metadata.context_window == 99


def test_a_server() -> None:
    with serving() as (url, seen):
        with closing(OpenAIGenerator(url, "scripted", kind="other", context_length=4096)) as generator:
            assert_context(generator, 4096)
            assert seen == []  # only known, not asked
            assert EVisRAGLLM(generator=generator).chat(HELLO).message.content
        with closing(OpenAIGenerator(url, "scripted", kind="other")) as unknown:
            assert_context(unknown, None)


def test_a_server_by_its_address() -> None:
    with serving() as (url, _):
        llm = EVisRAGLLM(url, engine_settings={"model": "scripted", "kind": "other", "context_length": 4096})
        assert llm.metadata.context_window == 128_000  # nothing is loaded for it
        assert llm.chat(HELLO).message.content
        assert llm.metadata.context_window == 4096
        llm.close()
        assert llm.metadata.context_window == 128_000


def test_a_checkpoint(tmp_path: Path) -> None:
    folder = build_qwen2_5_vl(tmp_path / "tiny")
    generator = TransformersGenerator(str(folder), device="cpu", context_length=4096, max_images=3)
    assert_context(generator, 4096)
    assert EVisRAGLLM(generator=generator, max_tokens=2).chat(HELLO).raw["usage"]["completion_tokens"] == 2
    assert_context(generator, 4096)
    assert getattr(generator_of(EVisRAGLLM(generator=generator)), "max_images") == 3  # noqa: B009


def test_no_model_at_all() -> None:
    assert_context(load_generator("extractive"), None)


@pytest.mark.parametrize("name", ["context_length", "max_images"])
def test_engines_that_say_nothing(name: str) -> None:
    assert getattr(generator_of(EVisRAGLLM("extractive")), name) is None
