"""LLMs of LlamaIndex as generators of the core, with LlamaIndex's events around every call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.llms import LLM

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.generators import agenerate, context_length_of, generate, max_images_of
from visrag_integrations.llamaindex.events import model_payload
from visrag_integrations.llamaindex.llm import EVisRAGLLM
from visrag_integrations.llamaindex.messages import to_chat_messages, to_event_messages, to_response
from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

dispatcher = get_dispatcher(__name__)


class EVisRAGGenerator:
    """The generator of an `EVisRAGLLM`, called directly: pages stay pages. Callbacks and events are those of a chat."""

    def __init__(self, llm: EVisRAGLLM) -> None:
        self.llm = llm
        self.name = llm.model

    @property
    def max_images(self) -> int | None:
        """How many pictures one conversation may hold; the engine is loaded for it."""
        return max_images_of(self.llm.generator)

    @property
    def context_length(self) -> int | None:
        """How many tokens one conversation may hold; the engine is loaded for it."""
        return context_length_of(self.llm.generator)

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One batch, answers in the order of the conversations."""
        with self._events(conversations) as written:
            written += generate(self.llm.generator, conversations, settings)
        return written

    async def agenerate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """`generate`, without blocking the event loop."""
        generator = await asyncio.to_thread(lambda: self.llm.generator)  # it may have to be loaded
        with self._events(conversations) as written:
            written += await agenerate(generator, conversations, settings)
        return written

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """Pieces as they are written."""
        writing = self.llm.generator.stream(conversation, settings)
        text = ""
        last = Generation("")
        with self._events([conversation]) as written:
            try:
                for piece in writing:
                    text += piece.text
                    last = piece
                    yield piece
            finally:
                # Also where the reader stopped early: what was written so far is reported.
                close(writing)
                written.append(replace(last, text=text))

    @contextmanager
    def _events(self, conversations: Sequence[Conversation]) -> Iterator[list[Generation]]:
        """The events before, and, for what is put into the list, those after."""
        described = model_payload(self.llm)
        # Without the pictures: handlers keep what they are given, and pages are large.
        chats = list(map(to_event_messages, conversations))
        started = [self._start(messages, described) for messages in chats]
        written: list[Generation] = []
        try:
            yield written
        except BaseException as err:
            for event_id in started:
                self._end(event_id, {EventPayload.EXCEPTION: err})
            raise
        # Not strict: a stream that was closed before its first piece has written nothing.
        for event_id, messages, generation in zip(started, chats, written, strict=False):
            response = to_response(generation, self.llm.model)
            self._end(event_id, {EventPayload.MESSAGES: messages, EventPayload.RESPONSE: response})
            dispatcher.event(LLMChatEndEvent(messages=messages, response=response))

    def _start(self, messages: list[ChatMessage], described: dict[str, Any]) -> str:
        dispatcher.event(LLMChatStartEvent(messages=messages, additional_kwargs={}, model_dict=described))
        payload: dict[str, Any] = {EventPayload.MESSAGES: messages, EventPayload.SERIALIZED: described}
        return self.llm.callback_manager.on_event_start(CBEventType.LLM, payload=payload)

    def _end(self, event_id: str, payload: dict[Any, Any]) -> None:
        self.llm.callback_manager.on_event_end(CBEventType.LLM, payload=payload, event_id=event_id)


class HostGenerator:
    """Any multi-modal LLM of LlamaIndex as a generator; it uses its own settings."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.name = f"llamaindex:{llm.class_name()}"

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One answer per conversation, in order."""
        written = []
        for conversation in conversations:
            response = self.llm.chat(to_chat_messages(conversation))
            written.append(Generation(response.message.content or "", finish_reason="stop"))
        return written

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """Pieces as they are written."""
        for response in self.llm.stream_chat(to_chat_messages(conversation)):
            yield Generation(response.delta or "")
        yield Generation("", finish_reason="stop")


def resolve_llm(llm: Any) -> LLM:
    """The LLM itself; one around a core generator; one by its name; of None that of `Settings`, else EVisRAG.

    Raises:
        SettingError: It is none of these.
    """
    if llm is None:
        chosen = getattr(Settings, "_llm", None)  # Settings.llm would choose OpenAI where nothing was set
        if isinstance(chosen, LLM):
            return chosen
        return EVisRAGLLM()
    if isinstance(llm, LLM):
        return llm
    if isinstance(llm, str):
        return EVisRAGLLM(llm)
    if hasattr(llm, "generate") and hasattr(llm, "stream"):
        return EVisRAGLLM(generator=llm)
    raise SettingError(
        f"llm is {type(llm).__name__}; give EVisRAGLLM(), another multi-modal LLM of LlamaIndex, a generator such as "
        'load_generator("extractive"), or its name.'
    )


def generator_of(llm: LLM) -> Generator:
    """What the core asks when this LLM is to answer."""
    if isinstance(llm, EVisRAGLLM):
        return EVisRAGGenerator(llm)
    return HostGenerator(llm)
