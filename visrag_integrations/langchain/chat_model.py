"""`ChatEVisRAG`: any generator of this library as a LangChain chat model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import run_in_executor
from pydantic import Field, PrivateAttr, SecretStr

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.strategies import Prompt
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.interfaces.generators import chats, with_model
from visrag_integrations.interfaces.opened import OpenedResources
from visrag_integrations.interfaces.threads import in_thread
from visrag_integrations.langchain import completions, structured
from visrag_integrations.langchain.chat_request import (
    SETTINGS,
    ChatRequest,
    agenerate_one,
    calls_together,
    generate_one,
    let_wait_together,
    one_call,
)
from visrag_integrations.langchain.opening import check_fields
from visrag_integrations.types import GenerationSettings

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

    from visrag_integrations.interfaces import Generator


_OF_SERVERS = ("api_key", "timeout", "max_retries")
"""Fields that only a server has a use for."""
_ELSEWHERE = {
    "model_name": "the model is model.",
    "openai_api_key": "the key is api_key.",
    "openai_api_base": "the server's URL is base_url.",
    "request_timeout": "the seconds are timeout.",
    "max_completion_tokens": "the limit is max_tokens.",
    "default_headers": "give OpenAIGenerator(openai_client) as generator.",
    "n": "use batch() for several answers.",
}
"""What chat models of others call it, and what it is called here."""


class ChatEVisRAG(BaseChatModel):
    """Reads questions and page images, writes answers with evidence for each page.

    A message with images is put as EVisRAG was trained on it, and what it writes comes as standard content: reasoning
    blocks for what it observed and thought, and the answer as text whose citations point at the pages. Other messages
    are passed on as they are. With `prompt="plain"` (general models) all are.

    >>> ChatEVisRAG("openbmb/EVisRAG-7B").invoke(messages)  # doctest: +SKIP

    Every setting from `temperature` to `guided`, `stop` and `model` can also be given with one call.
    """

    model: str = "openbmb/EVisRAG-7B"
    """What `load_generator` takes: a name, a checkpoint folder, or the URL of a server; loaded at first use. With
    `base_url`, which of the server's models; the only one it has where none is named."""
    base_url: str | None = None
    """The URL of an OpenAI-compatible server, for example "http://localhost:8000/v1"."""
    api_key: SecretStr | None = Field(default=None, exclude=True)
    """Of the server; the environment's OPENAI_API_KEY when None."""
    generator: Any = Field(default=None, exclude=True, repr=False)
    """A generator you already hold, instead of `model`."""
    prompt: Prompt = "evisrag"
    """"evisrag" for EVisRAG checkpoints, "plain" for general models."""
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    guided: bool | None = None
    """Hold the model to EVisRAG's four tags, where the engine can."""
    timeout: float | None = None
    """Seconds a server's answer may take. Engines in this process have no such limit."""
    max_retries: int | None = None
    """How often a request to a server is tried again."""
    streaming: bool = False
    fetch_urls: FetchUrls = False
    """Whether images and files given as http and https URLs are fetched: True for public addresses, "private" also for
    those of this machine and its network."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More settings of the generator that is loaded."""
    _opened: OpenedResources = PrivateAttr(default_factory=OpenedResources)

    def __init__(self, model: str | None = None, **fields: Any) -> None:
        """A model by name, or `generator=` one you hold. The fields are described above."""
        if model is not None:
            fields["model"] = str(model)
        check_fields(type(self), fields, _ELSEWHERE)
        _take_key(fields)
        if fields.get("generator") is not None:
            fields.setdefault("model", str(fields["generator"].name))
        super().__init__(**fields)
        self._check_server()

    def _check_server(self) -> None:
        if self.base_url is not None and "://" in self.model:
            raise SettingError(
                f"model is {self.model!r} and base_url is {self.base_url!r}: two servers. Give the URL as base_url and "
                "as model which of its models, or leave model out."
            )
        if self.base_url is not None and self.generator is not None:
            raise SettingError("base_url is of a model that is loaded here, and generator= is one that is. Give one.")

    def close(self) -> None:
        """Let go of the models that were loaded by name. Each is freed when no one else uses it.

        Copies of this chat model, such as those a chain makes, share them; the next call loads them again. A generator
        that was given stays open.
        """
        self._opened.close()

    # --- one call ---------------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generator, request = self._request(messages, stop, kwargs)
        if request.to_server is not None:
            return completions.generate(generator, request.to_server)
        return request.result(generator, generate_one(generator, request.conversation, request.settings))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generator, request = await run_in_executor(None, self._request, messages, stop, kwargs)
        if request.to_server is not None:
            return await run_in_executor(None, completions.generate, generator, request.to_server)
        return request.result(generator, await agenerate_one(generator, request.conversation, request.settings))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        generator, request = self._request(messages, stop, kwargs)
        if request.to_server is not None:
            chunks = completions.stream(generator, request.to_server)
        else:
            chunks = request.chunks(generator)
        for chunk in chunks:
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        # In a thread: pictures are opened and become base64, and the model may be loaded.
        generator, request = await run_in_executor(None, self._request, messages, stop, kwargs)
        if request.to_server is not None:
            chunks = in_thread(completions.stream(generator, request.to_server))
        else:
            chunks = request.achunks(generator)
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _request(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> tuple[Generator, ChatRequest]:
        kwargs.pop("stream", None)  # LangChain's own; whether it streams is known already
        if "api_key" in kwargs:  # what stands in a call is written down by tracers
            raise SettingError(
                "api_key is a field of the model, and no argument of a call: ChatEVisRAG(..., api_key=...)."
            )
        model = kwargs.pop("model", None)
        strict = kwargs.pop("strict_schema", None)
        generator = self._generator(model)
        settings = {}
        for name in SETTINGS:
            value = kwargs.get(name)
            if value is not None:
                del kwargs[name]
            else:  # `json_schema` is of one call only, no field
                value = getattr(self, name, None)
            if value is not None:
                settings[name] = value
        stops = tuple(stop or self.stop or ())
        request = ChatRequest(messages, GenerationSettings(stop=stops, **settings), self.fetch_urls, strict)
        # A server may have more models than it was asked for so far.
        if model not in (None, self.model, generator.name):
            kwargs["model"] = model
        if kwargs or request.needs_server(generator):
            request.send_to_server(generator, kwargs)
        elif self.prompt == "evisrag":  # a server gets the messages as they are
            request.ask_for_evidence()
        return generator, request

    # --- many calls -------------------------------------------------------------------------------------------------

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """The answers in order; all questions that are not in a cache go to the engine as one batch."""
        if len(inputs) < 2:
            return super().batch(inputs, config, **kwargs)
        at_once, config = let_wait_together(inputs, config)
        with calls_together(len(inputs), at_once):
            return super().batch(inputs, config, **kwargs)

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """`batch`, without blocking the event loop."""
        if len(inputs) < 2:
            return await super().abatch(inputs, config, **kwargs)
        at_once, config = let_wait_together(inputs, config)
        with calls_together(len(inputs), at_once):
            return await super().abatch(inputs, config, **kwargs)

    def invoke(self, input: LanguageModelInput, config: Any = None, **kwargs: Any) -> AIMessage:
        """The answer to one question."""
        with one_call():
            return super().invoke(input, config, **kwargs)

    async def ainvoke(self, input: LanguageModelInput, config: Any = None, **kwargs: Any) -> AIMessage:
        """`invoke`, without blocking the event loop."""
        with one_call():
            return await super().ainvoke(input, config, **kwargs)

    # --- tools and structured output --------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools it may call; only behind an OpenAI-compatible server.

        Args:
            tools: Functions, pydantic classes, LangChain tools, or OpenAI tool schemas.
            tool_choice: "auto", "none", "any" or True (one must be called), or a tool's name.
            strict: Hold the arguments to their schema, where the server can.
            **kwargs: Of the server's request.

        Raises:
            SettingError: The engine has no tool calling.
        """
        generator = self._generator()
        if not chats(generator):
            raise SettingError(
                f"Generator {generator.name!r} cannot call tools. Serve the model with an OpenAI-compatible server "
                '(vLLM: --enable-auto-tool-choice) and use ChatEVisRAG("http://localhost:8000/v1").'
            )
        bound = completions.tool_settings(tools, tool_choice, strict)
        return self.bind(**bound, **kwargs)

    def with_structured_output(
        self,
        schema: Any,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model, held to a schema by its engine; gives a pydantic object, or a dict for other schemas.

        Args:
            schema: A pydantic class, a TypedDict, a JSON schema, or an OpenAI tool schema.
            include_raw: Give `{"raw", "parsed", "parsing_error"}`.
            method: "json_schema", "json_mode" (any JSON object), or "function_calling" (through a tool, where the
                engine has them; else as "json_schema").
            strict: Whether a server is asked for its strict mode, which takes only some schemas (all properties
                required, no others allowed, no defaults). None asks for it where the schema fits. Engines in this
                process hold their text to any schema.
            **kwargs: Refused; LangChain's own signature has them.

        Raises:
            SettingError: The engine can neither follow a schema nor call tools.
        """
        generator = self._generator()
        if method == "function_calling" and chats(generator):
            # LangChain's own way: a tool whose arguments are the schema.
            if strict is not None:
                kwargs["strict"] = strict
            return structured.with_tool(self, schema, include_raw=include_raw, **kwargs)
        return structured.with_schema(
            self, generator, schema, include_raw=include_raw, method=method, strict=strict, **kwargs
        )

    # --- what LangChain asks ----------------------------------------------------------------------------------------

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Fields that LangChain must not write down, and where it finds them again."""
        return {"api_key": "OPENAI_API_KEY"}

    @property
    def _llm_type(self) -> str:
        return "evisrag"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        # LangChain's caches know an answer by these. All settings but the last, `json_schema`, are fields.
        named = ("model", "base_url", "prompt", "stop", "fetch_urls", *SETTINGS[:-1], "model_kwargs")
        return {name: getattr(self, name) for name in named}

    def _generator(self, model: str | None = None) -> Generator:
        """The generator for this model: one that is given can serve others only if it says so."""
        if model in (None, self.model):
            if self.generator is None:
                return self._loaded(self.model)
            given: Generator = self.generator
            return given
        # A generator that was given, or a server, may have the other model too.
        if self.generator is None and not self._is_server:
            return self._loaded(str(model))
        own = self._generator()
        other = with_model(own, str(model))
        if other is not None:
            return other
        if chats(own):
            return own
        return self._loaded(str(model))

    @property
    def _is_server(self) -> bool:
        return self.base_url is not None or "://" in self.model

    def _loaded(self, model: str) -> Generator:
        from visrag_integrations.generation import load_generator

        settings = dict(self.model_kwargs)
        if self.base_url is not None:
            # The default is EVisRAG's name at Hugging Face, and a server may call it otherwise: not asked for then.
            if "model" in self.model_fields_set:
                settings.setdefault("model", model)
            model = self.base_url
        if "://" in model:
            for name in _OF_SERVERS:
                value = getattr(self, name)
                if isinstance(value, SecretStr):
                    value = value.get_secret_value()
                if value is not None:
                    settings.setdefault(name, value)
        loaded: Generator = self._opened.model(load_generator, model, **settings)
        return loaded


def _take_key(fields: dict[str, Any]) -> None:
    """A key among `model_kwargs`, which are written down wherever the model is, becomes the field that is not."""
    more = dict(fields.get("model_kwargs") or {})
    key = more.pop("api_key", None)
    if key is not None:
        fields["model_kwargs"] = more
        fields.setdefault("api_key", key)
