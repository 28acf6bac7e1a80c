"""`EVisRAGLLM`: any generator of this library as a LlamaIndex LLM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import (
    astream_chat_response_to_completion_response,
    chat_response_to_completion_response,
    stream_chat_response_to_completion_response,
)
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from visrag_integrations.errors import SettingError
from visrag_integrations.generation import load_generator
from visrag_integrations.generation.evisrag import wrap_question
from visrag_integrations.generation.strategies import Prompt
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.generators import agenerate, astream, context_length_of, generate
from visrag_integrations.llamaindex.messages import to_conversation, to_response, with_images
from visrag_integrations.llamaindex.structured import StructuredOutputs
from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator as PageGenerator

_SETTINGS = tuple(field.name for field in fields(GenerationSettings))
_CONTEXT_WINDOW = 128_000
"""Where neither the user nor the engine says: what Qwen2.5-VL, which EVisRAG was trained from, can read."""
_NUM_OUTPUT = 2048
"""What EVisRAG's authors let it write."""


class EVisRAGLLM(StructuredOutputs):
    """Reads questions and page images, writes what the model writes, tags and all; the engine is loaded at first use.

    A message with images is put as EVisRAG was trained on it; what it then writes is read by `EvidenceOutputParser`, or
    by `VisRAGQueryEngine`. Other messages are passed on as they are. With `prompt="plain"` (general models) all are.

    >>> EVisRAGLLM("openbmb/EVisRAG-7B").chat(messages)  # doctest: +SKIP

    Every setting from `max_tokens` to `guided`, and `prompt`, can also be given with one call.

    Args:
        model: What `load_generator` takes: a name, a checkpoint folder, or the URL of a server.
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
    fetch_urls: bool = Field(default=False, description="Whether images behind http and https URLs are fetched.")
    engine_settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the engine that is loaded.")
    _given: Any = PrivateAttr(default=None)
    _loaded: Any = PrivateAttr(default=None)

    def __init__(self, model: str | None = None, *, generator: PageGenerator | None = None, **fields: Any) -> None:
        fields.pop("class_name", None)  # LlamaIndex puts it into what it serializes
        if model is None and generator is not None:
            model = str(generator.name)
        if model is not None:
            fields["model"] = str(model)
        super().__init__(**fields)
        self._given = generator

    @classmethod
    def class_name(cls) -> str:
        return "EVisRAGLLM"

    @property
    def generator(self) -> PageGenerator:
        """The core generator, loaded now if it was not."""
        if self._given is None and self._loaded is None:
            self._loaded = load_generator(self.model, shared=True, **self.engine_settings)
        found: PageGenerator = self._engine
        return found

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
            model_name=self.model,
        )

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

    def chat_batch(self, chats: Sequence[Sequence[ChatMessage]], **kwargs: Any) -> list[ChatResponse]:
        """The answers to many chats, in order; the engine gets them as one batch."""
        requests = [self._request(messages, dict(kwargs)) for messages in chats]
        if not requests:
            return []
        conversations = [conversation for conversation, _ in requests]
        settings = requests[0][1]  # the same for all: they come from one call
        written = generate(self.generator, conversations, settings)
        return [to_response(generation, self.model) for generation in written]

    async def achat_batch(self, chats: Sequence[Sequence[ChatMessage]], **kwargs: Any) -> list[ChatResponse]:
        """`chat_batch` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.chat_batch, chats, **kwargs)

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
        return [with_images(prompt, kwargs.pop("image_documents", None) or ())]

    def _request(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> tuple[Conversation, GenerationSettings]:
        prompt = kwargs.pop("prompt", None) or self.prompt
        settings = self.settings(**kwargs)
        conversation = to_conversation(messages, fetch_urls=self.fetch_urls)
        # EVisRAG's prompt asks for its tags, which no JSON schema has.
        if prompt == "evisrag" and settings.json_schema is None:
            conversation, _ = wrap_question(conversation)
        return conversation, settings

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        conversation, settings = self._request(messages, kwargs)
        (written,) = generate(self.generator, [conversation], settings)
        return to_response(written, self.model)

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        # Threads for what may take long: loading the engine, reading and encoding pictures.
        generator = await asyncio.to_thread(lambda: self.generator)
        conversation, settings = await asyncio.to_thread(self._request, messages, kwargs)
        (written,) = await agenerate(generator, [conversation], settings)
        return to_response(written, self.model)

    async def _astream(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        generator = await asyncio.to_thread(lambda: self.generator)
        conversation, settings = await asyncio.to_thread(self._request, messages, kwargs)
        text = ""
        async with contextlib.aclosing(astream(generator, conversation, settings)) as writing:
            async for piece in writing:
                text += piece.text
                yield to_response(replace(piece, text=text), self.model, delta=piece.text)

    def _stream(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        conversation, settings = self._request(messages, kwargs)
        return _responses(self.generator.stream(conversation, settings), self.model)


def _responses(writing: Iterator[Generation], model: str) -> Generator[ChatResponse, None, None]:
    """Ever longer responses; closing this stops the engine."""
    text = ""
    try:
        for piece in writing:
            text += piece.text
            yield to_response(replace(piece, text=text), model, delta=piece.text)
    finally:
        close(writing)
