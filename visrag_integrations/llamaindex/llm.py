"""`EVisRAGLLM`: any generator of this library as a LlamaIndex LLM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import (
    astream_chat_response_to_completion_response,
    chat_response_to_completion_response,
    stream_chat_response_to_completion_response,
)
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr, SecretStr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from visrag_integrations.errors import SettingError
from visrag_integrations.generation import load_generator
from visrag_integrations.generation.evisrag import wrap_question
from visrag_integrations.generation.strategies import Prompt
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.generators import agenerate, astream, chats, context_length_of, generate
from visrag_integrations.interfaces.threads import in_thread
from visrag_integrations.llamaindex.completions import (
    TOOL_SETTINGS,
    has_tool_messages,
    read_answer,
    read_pieces,
    to_request,
)
from visrag_integrations.llamaindex.function_calling import FunctionCalls, check_takes_tools
from visrag_integrations.llamaindex.messages import to_conversation, to_response, with_images
from visrag_integrations.llamaindex.node_pictures import UrlRules
from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator as PageGenerator

_SETTINGS = tuple(field.name for field in fields(GenerationSettings))
_CONTEXT_WINDOW = 128_000
"""Where neither the user nor the engine says: what Qwen2.5-VL, which EVisRAG was trained from, can read."""
_NUM_OUTPUT = 2048
"""What EVisRAG's authors let it write."""


_ELSEWHERE = {
    "api_base": "the server's URL is base_url.",
    "model_name": "it is model.",
    "request_timeout": "it is timeout.",
    "url": "the server's URL is base_url.",
    "model_kwargs": "they are engine_settings.",
    "additional_kwargs": "settings of the engine are engine_settings.",
}
"""What LlamaIndex's other LLMs call an argument of this one."""
_OF_SERVERS = ("api_key", "timeout", "max_retries")


@dataclass(frozen=True)
class LLMCall:
    """One call on its way to the engine.

    Attributes:
        conversation: What the model is shown.
        settings: How it writes.
        request: The same as a chat completions request, where there are tools: then it is what counts.
    """

    conversation: Conversation
    settings: GenerationSettings
    request: dict[str, Any] | None = None


class EVisRAGLLM(FunctionCalls):
    """Reads questions and page images, writes what the model writes, tags and all; the engine is loaded at first use.

    A message with images is put as EVisRAG was trained on it; what it then writes is read by `EvidenceOutputParser`, or
    by `VisRAGQueryEngine`. Other messages are passed on as they are. With `prompt="plain"` (general models) all are.

    >>> EVisRAGLLM("openbmb/EVisRAG-7B").chat(messages)  # doctest: +SKIP

    Every setting from `max_tokens` to `guided`, and `prompt`, can also be given with one call. Behind a server it calls
    tools; other engines do not, and `metadata.is_function_calling_model` says so.

    Args:
        model: What `load_generator` takes: a name, a checkpoint folder, or the URL of a server. With `base_url` the
            name of one of that server's models.
        generator: A generator you already hold, instead of `model`.
        **fields: The fields below, and those of LlamaIndex's `LLM`, for example `system_prompt`.
    """

    model: str = Field(default="openbmb/EVisRAG-7B", description="Name, checkpoint folder, or URL of a server.")
    prompt: Prompt = Field(default="evisrag", description="'evisrag' for EVisRAG, 'plain' for general models.")
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    guided: bool | None = Field(default=None, description="Hold the model to EVisRAG's tags, where the engine can.")
    context_window: int | None = Field(
        default=None, description="Tokens in and out together; what the engine says, or that of EVisRAG, when None."
    )
    base_url: str | None = Field(default=None, description="URL of an OpenAI-compatible server.")
    api_key: SecretStr | None = Field(
        default=None, exclude=True, repr=False, description="Of a server; never shown, and never part of what is kept."
    )
    timeout: float | None = Field(default=None, gt=0, description="Seconds a server's answer may take.")
    max_retries: int | None = Field(default=None, ge=0, description="How often a request to a server is tried again.")
    fetch_urls: FetchUrls = Field(default=False, description="Whether images behind http and https URLs are fetched.")
    file_urls: bool = Field(default=False, description="Whether images behind file: URLs are read.")
    engine_settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the engine that is loaded.")
    _given: Any = PrivateAttr(default=None)
    _loaded: Any = PrivateAttr(default=None)

    def __init__(self, model: str | None = None, *, generator: PageGenerator | None = None, **fields: Any) -> None:
        fields.pop("class_name", None)  # LlamaIndex puts it into what it serializes
        known = {*type(self).model_fields, "generator"}
        check_arguments("EVisRAGLLM", fields, known, elsewhere=_ELSEWHERE)
        if model is None and generator is not None:
            model = str(generator.name)
        if model is None:
            model = fields.get("base_url")  # the server says which models it has
        if model is not None:
            fields["model"] = str(model)
        # A key among the engine's settings would be shown with them.
        engine_settings = dict(fields.get("engine_settings") or {})
        for name in _OF_SERVERS:
            if name in engine_settings:
                fields.setdefault(name, engine_settings.pop(name))
        fields["engine_settings"] = engine_settings
        super().__init__(**fields)
        self._given = generator
        self._check_server()

    def _check_server(self) -> None:
        """Nothing, unless something is said of a server and there is none."""
        if self.base_url is not None and "://" in self.model and self.model != self.base_url:
            raise SettingError(
                f"model is {self.model!r} and base_url is {self.base_url!r}: two servers. Give the server as base_url, "
                "and as model the name of its model."
            )
        given = [name for name in (*_OF_SERVERS, "base_url") if getattr(self, name) is not None]
        if not given:
            return
        if self._given is not None:
            raise SettingError(
                f"{', '.join(given)}: for a server that is named; a generator that you give has its own."
            )
        if self.base_url is None and "://" not in self.model:
            raise SettingError(
                f"{', '.join(given)}: of a server, and {self.model!r} runs on this machine. Name the server: "
                'base_url="http://localhost:8000/v1".'
            )

    @classmethod
    def class_name(cls) -> str:
        return "EVisRAGLLM"

    def __setstate__(self, state: Any) -> None:
        BaseModel.__setstate__(self, state)  # as it was; LlamaIndex would make a new one, without what was given
        for name in ("_given", "_loaded"):
            (self.__pydantic_private__ or {}).setdefault(name, None)  # what cannot be pickled was left behind

    @property
    def generator(self) -> PageGenerator:
        """The core generator, loaded now if it was not."""
        if self._given is None and self._loaded is None:
            self._loaded = load_generator(self.base_url or self.model, shared=True, **self._load_settings())
        found: PageGenerator = self._engine
        return found

    def _load_settings(self) -> dict[str, Any]:
        """The settings of the engine, with those of its server."""
        settings = dict(self.engine_settings)
        if self.base_url is not None and self.model != self.base_url:
            settings["model"] = self.model
        if self.api_key is not None:
            settings["api_key"] = self.api_key.get_secret_value()
        if self.timeout is not None:
            settings["timeout"] = self.timeout
        if self.max_retries is not None:
            settings["max_retries"] = self.max_retries
        return settings

    @property
    def _server(self) -> Any:
        """The generator, where it takes chat completions requests as they are (`interfaces.generators.Chats`)."""
        return self.generator

    @property
    def urls(self) -> UrlRules:
        """Which pictures behind URLs are opened."""
        return UrlRules(self.fetch_urls, self.file_urls)

    @property
    def _engine(self) -> Any:
        """The generator as far as there is one yet."""
        return self._given if self._given is not None else self._loaded

    def close(self) -> None:
        """Free the engine that was loaded, unless others use it; a generator you gave stays open."""
        close(self._loaded)
        self._loaded = None

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex plans with; nothing is loaded for it."""
        window = self.context_window
        if window is None and self._engine is not None:
            window = context_length_of(self._engine)
        return LLMMetadata(
            context_window=window or _CONTEXT_WINDOW,
            num_output=self.max_tokens or _NUM_OUTPUT,
            is_chat_model=True,
            is_function_calling_model=self._takes_tools(),
            model_name=self.model,
        )

    def _takes_tools(self) -> bool:
        """Whether the engine takes tools; one that is not loaded yet does where it is a server."""
        if self._engine is not None:
            return chats(self._engine)
        return "://" in (self.base_url or self.model)

    def settings(self, **given: Any) -> GenerationSettings:
        """This model's settings, with those of one call in their place.

        Raises:
            SettingError: A setting that no generator has.
        """
        unknown = sorted(given.keys() - set(_SETTINGS))
        if unknown:
            raise SettingError(f"Unknown settings: {', '.join(unknown)}. There are: {', '.join(_SETTINGS)}, prompt.")
        chosen = {}
        for name in _SETTINGS:
            value = given.get(name)
            if value is None:
                value = getattr(self, name, None)
            if value is not None:
                chosen[name] = value
        stop = chosen.get("stop", ())
        chosen["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
        return GenerationSettings(**chosen)

    # --- chat -------------------------------------------------------------------------------------------------------

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """What the model answers."""
        return self._chat(messages, **kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, without blocking the event loop."""
        return await self._achat(messages, **kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """What the model answers, as it writes: `delta` is new, `message` is all so far; the last one has `raw`."""
        return self._stream(messages, **kwargs)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """`stream_chat`, without blocking the event loop."""
        return self._astream(messages, **kwargs)

    def chat_batch(self, many: Sequence[Sequence[ChatMessage]], **kwargs: Any) -> list[ChatResponse]:
        """The answers to many chats, in order; the engine gets them as one batch."""
        calls = [self._call(messages, dict(kwargs)) for messages in many]
        if not calls:
            return []
        if any(call.request is not None for call in calls):
            return [self._answer(call) for call in calls]  # requests with tools are made one by one
        # The settings are the same for all: they come from one call.
        written = generate(self.generator, [call.conversation for call in calls], calls[0].settings)
        return [to_response(generation, self.model) for generation in written]

    async def achat_batch(self, many: Sequence[Sequence[ChatMessage]], **kwargs: Any) -> list[ChatResponse]:
        """`chat_batch` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.chat_batch, many, **kwargs)

    # --- complete ---------------------------------------------------------------------------------------------------

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """What the model answers to one user message; `image_documents` are shown with it."""
        messages = self._messages(prompt, formatted, kwargs)
        return chat_response_to_completion_response(self._chat(messages, **kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete`, without blocking the event loop."""
        messages = self._messages(prompt, formatted, kwargs)
        return chat_response_to_completion_response(await self._achat(messages, **kwargs))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """`complete`, as it is written."""
        messages = self._messages(prompt, formatted, kwargs)
        return stream_chat_response_to_completion_response(self._stream(messages, **kwargs))

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """`stream_complete`, without blocking the event loop."""
        messages = self._messages(prompt, formatted, kwargs)
        return astream_chat_response_to_completion_response(self._astream(messages, **kwargs))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _messages(self, prompt: str, formatted: bool, kwargs: dict[str, Any]) -> list[ChatMessage]:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return [with_images(prompt, kwargs.pop("image_documents", None) or (), self.urls)]

    def _call(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> LLMCall:
        prompt = kwargs.pop("prompt", None) or self.prompt
        tools = {name: kwargs.pop(name) for name in TOOL_SETTINGS if name in kwargs}
        settings = self.settings(**kwargs)
        if tools:
            check_takes_tools(self.generator)
        if tools or (has_tool_messages(messages) and chats(self.generator)):
            return LLMCall((), settings, to_request(messages, settings, tools, self.urls))
        conversation = to_conversation(messages, fetch_urls=self.fetch_urls, file_urls=self.file_urls)
        if prompt != "evisrag":
            return LLMCall(conversation, settings)
        pages = None
        # EVisRAG's prompt asks for its tags, which no JSON schema has.
        if settings.json_schema is None:
            conversation, pages = wrap_question(conversation)
        if pages is None:
            settings = replace(settings, guided=False)  # the four sections are for questions about pages
        return LLMCall(conversation, settings)

    def _answer(self, call: LLMCall) -> ChatResponse:
        if call.request is not None:
            return read_answer(self._server.chat(call.request), self.model)
        (written,) = generate(self.generator, [call.conversation], call.settings)
        return to_response(written, self.model)

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._answer(self._call(messages, kwargs))

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        # Threads for what may take long: loading the engine, reading and encoding pictures.
        generator = await asyncio.to_thread(lambda: self.generator)
        call = await asyncio.to_thread(self._call, messages, kwargs)
        if call.request is not None:
            return await asyncio.to_thread(self._answer, call)
        (written,) = await agenerate(generator, [call.conversation], call.settings)
        return to_response(written, self.model)

    async def _astream(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        generator = await asyncio.to_thread(lambda: self.generator)
        call = await asyncio.to_thread(self._call, messages, kwargs)
        if call.request is not None:
            async with contextlib.aclosing(in_thread(self._request_pieces(call.request))) as responses:
                async for response in responses:
                    yield response
            return
        text = ""
        async with contextlib.aclosing(astream(generator, call.conversation, call.settings)) as writing:
            async for piece in writing:
                text += piece.text
                yield to_response(replace(piece, text=text), self.model, delta=piece.text)

    def _stream(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        call = self._call(messages, kwargs)
        if call.request is not None:
            return self._request_pieces(call.request)
        return _responses(self.generator.stream(call.conversation, call.settings), self.model)

    def _request_pieces(self, request: dict[str, Any]) -> Generator[ChatResponse, None, None]:
        """A server's answer as it is written; closing this stops it."""
        pieces = self._server.stream_chat(request)
        try:
            yield from read_pieces(pieces, self.model)
        finally:
            close(pieces)


def _responses(writing: Iterator[Generation], model: str) -> Generator[ChatResponse, None, None]:
    """Ever longer responses; closing this stops the engine."""
    text = ""
    try:
        for piece in writing:
            text += piece.text
            yield to_response(replace(piece, text=text), model, delta=piece.text)
    finally:
        close(writing)
