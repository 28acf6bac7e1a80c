"""LangChain's own standard chat model suites, whole.

Twice: behind a scripted OpenAI-compatible server (tools, schemas, overrides), and with a generator in this process.
What a property switches off, and why: pictures by URL (remote pictures are fetched only when asked), audio (the model
reads text, pictures and PDF files), cassettes (there is no network), and, in this process, tools and schemas (the
extractive generator has neither).
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
from scripted_server import serving

from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.langchain import ChatEVisRAG

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is in beta"),
    pytest.mark.filterwarnings("ignore:.*[Bb]enchmark"),
]


@pytest.fixture(autouse=True)
def local_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite downloads a picture and a PDF; it is handed some that are here."""
    picture, pdf = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(picture, "PNG")
    Image.new("RGB", (20, 20), "red").save(pdf, "PDF")

    def get(url: str, **_: object) -> httpx.Response:
        found = pdf if url.endswith(".pdf") else picture
        return httpx.Response(200, content=found.getvalue())

    monkeypatch.setattr(httpx, "get", get)


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with serving() as (url, _), contextlib.closing(OpenAIGenerator(url)) as generator:
        _Served.generator = generator
        yield


class _Served:
    generator: OpenAIGenerator

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatEVisRAG

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"generator": self.generator}

    @property
    def has_tool_calling(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def has_structured_output(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "another-model"


class _InProcess:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatEVisRAG

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "extractive"}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def returns_usage_metadata(self) -> bool:
        return False  # no tokens: it runs no model

    @property
    def supports_model_override(self) -> bool:
        return False  # there is no second generator without a model


class TestServedUnit(_Served, ChatModelUnitTests):
    pass


class TestServedIntegration(_Served, ChatModelIntegrationTests):
    pass


class TestInProcessUnit(_InProcess, ChatModelUnitTests):
    pass


class TestInProcessIntegration(_InProcess, ChatModelIntegrationTests):
    pass
