"""LangChain's own standard chat model suites, down to a real vLLM server (its CPU build) with a tiny random model.

The model understands nothing, so what asks for sense is switched off, by the suite's own switches; what asks for form
(texts, streams, schemas, forced tool calls, tool histories, pictures, usage) is on.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from PIL import Image
from test_vllm_server import Server
from tiny_models import build_qwen2_5_vl

from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.langchain import ChatEVisRAG

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*is in beta"),
    pytest.mark.filterwarnings("ignore:.*[Bb]enchmark"),
]
OPTIONS = (
    *("--served-model-name", "tiny", "other"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--tool-strict-level", "parameter"),
    # With white space allowed a random model writes little else between two fields.
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
)
SHORT, WHOLE = 24, 2500
"""Tokens of a text that may break off anywhere, and of JSON that has to be closed."""
JSON_TESTS = ("structured_output", "test_tool_choice", "test_bind_runnables_as_tools", "structured_few_shot")
NEED_SENSE = (
    "test_tool_calling",  # the argument has to be the 3 of the question; so in its asynchronous twin
    "test_agent_loop",  # the model has to call the tool of its own accord
    "test_unicode_tool_call_integration",  # the argument has to be the question's Chinese name
)


@pytest.fixture(autouse=True)
def local_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite downloads a picture; it is handed one that is here."""
    buffer = io.BytesIO()
    Image.new("RGB", (60, 60), "red").save(buffer, "PNG")
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, content=buffer.getvalue()))


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("server")
    running = Server(build_qwen2_5_vl(folder / "checkpoint"), folder / "log.txt", *OPTIONS)
    try:
        running.wait()
        with contextlib.closing(OpenAIGenerator(running.url)) as _Served.generator:
            yield
    finally:
        running.kill()


class _Served:
    generator: OpenAIGenerator
    test = ""

    @pytest.fixture(autouse=True)
    def this_test(self, request: pytest.FixtureRequest) -> None:
        self.test = request.node.name

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatEVisRAG

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"generator": self.generator}

    @property
    def has_tool_calling(self) -> bool:
        return not self.test.startswith(NEED_SENSE)

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def has_structured_output(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return False  # any object will do for the server; the test wants two keys that only its question names

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return False  # remote pictures are fetched only when asked

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return False  # the model reads text and pictures

    @property
    def supports_audio_inputs(self) -> bool:
        return False  # the model reads text and pictures

    @property
    def enable_vcr_tests(self) -> bool:
        return False  # recorded requests are of no use beside a server

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "other"


class TestUnit(_Served, ChatModelUnitTests):
    pass


class TestIntegration(_Served, ChatModelIntegrationTests):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        tokens = WHOLE if any(name in self.test for name in JSON_TESTS) else SHORT
        # Drawn, as the most probable text of a random model runs in circles and closes no string.
        return {**super().chat_model_params, "temperature": 1.0, "seed": 1, "max_tokens": tokens}
