"""What a query engine asks: the core's generator behind an LLM, with LlamaIndex's events around every call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.llms import LLM

from visrag_integrations.errors import SettingError
from visrag_integrations.llamaindex.llm import EVisRAGLLM
from visrag_integrations.llamaindex.messages import spoken, to_chat_messages, to_response
from visrag_integrations.llamaindex.payload import payload_of
from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

dispatcher = get_dispatcher(__name__)

_LIMITS = ("max_images", "context_length")


class WatchedGenerator:
    """The generator of an `EVisRAGLLM`, called directly: pages stay pages. Callbacks and events are those of a chat."""

    def __init__(self, llm: EVisRAGLLM) -> None:
        self.llm, self.name = llm, llm.model

    def __getattr__(self, name: str) -> Any:
        """What the engine says it takes; `agenerate`, where it has it, so that many questions are under way at once."""
        own = getattr(self.llm.generator, name, None) if name in ("agenerate", *_LIMITS) else None
        if own is None:
            raise AttributeError(f"{type(self).__name__!r} has no {name!r}")
        if name in _LIMITS:
            return own

        async def agenerate(
            conversations: Sequence[Conversation], settings: GenerationSettings | None = None
        ) -> list[Generation]:
            with self._watched(conversations) as done:
                written: list[Generation] = await own(conversations, settings)
                done.extend(written)
            return written

        return agenerate

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One batch, answers in the order of the conversations."""
        with self._watched(conversations) as done:
            written = self.llm.generator.generate(conversations, settings)
            done.extend(written)
        return written

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """Pieces as they are written."""
        writing = self.llm.generator.stream(conversation, settings)
        text, last = "", Generation("")
        with self._watched([conversation]) as done:
            try:
                for piece in writing:
                    text, last = text + piece.text, piece
                    yield piece
            finally:
                close = getattr(writing, "close", None)
                if close is not None:
                    close()
                done.append(replace(last, text=text))

    @contextmanager
    def _watched(self, conversations: Sequence[Conversation]) -> Iterator[list[Generation]]:
        """Events before, and, for what is put into the list, after."""
        described = payload_of(self.llm)
        chats = [spoken(conversation) for conversation in conversations]
        started = [self._start(messages, described) for messages in chats]
        done: list[Generation] = []
        try:
            yield done
        except BaseException as err:
            for event_id in started:
                self._end(event_id, {EventPayload.EXCEPTION: err})
            raise
        for event_id, messages, written in zip(started, chats, done, strict=False):
            response = to_response(written, self.llm.model)
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
        self.llm, self.name = llm, f"llamaindex:{llm.class_name()}"

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One answer per conversation, in order."""
        return [_generation(self.llm.chat(to_chat_messages(conversation))) for conversation in conversations]

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
        return chosen if isinstance(chosen, LLM) else EVisRAGLLM()
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
    return WatchedGenerator(llm) if isinstance(llm, EVisRAGLLM) else HostGenerator(llm)


def _generation(response: ChatResponse) -> Generation:
    return Generation(response.message.content or "", finish_reason="stop")
