"""Calls of a chat model on their way to a generator, and what it wrote on the way back.

`ChatRequest` is one call. `ChatBatch` brings the calls of one `batch` together, so that they reach the engine as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.evisrag import parse_evidence, wrap_question
from visrag_integrations.generation.shown_pages import without_captions
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.generators import agenerate, astream, chats, generate, supports
from visrag_integrations.langchain import completions
from visrag_integrations.langchain.evidence import RAW, EvidenceBlocks, answer_blocks
from visrag_integrations.langchain.messages import to_conversation
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

SETTINGS = ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed", "guided", "json_schema")
"""Settings of a generation that a call may name."""

MAX_CALLS_AT_ONCE = 256
"""Calls of one batch that may wait at once. Each holds a thread meanwhile; fewer would make smaller batches."""
SECONDS_WITHOUT_A_CALL = 1.0
"""After so long without a new call, those that wait go to the engine, however many are still to come: another may be
stuck in its own retries. Shorter would split a batch whose messages take long to convert."""


class ChatRequest:
    """One call on its way to a generator, and its answer on the way back."""

    def __init__(
        self,
        messages: Sequence[BaseMessage],
        settings: GenerationSettings,
        fetch_urls: FetchUrls = False,
        strict: bool | None = None,
    ) -> None:
        self.messages, self.settings, self.fetch_urls, self.strict = messages, settings, fetch_urls, strict
        self.conversation = to_conversation(messages, fetch_urls=fetch_urls)
        self.to_server: dict[str, Any] | None = None  # the request, where it goes to a server as it is
        self.pages: list[Page] | None = None  # those of a question that is put in EVisRAG's words

    def ask_for_evidence(self) -> None:
        """Put a question about images as EVisRAG was trained on it."""
        if self.settings.json_schema is None:
            turns = []
            for turn in self.conversation:
                turns.append(dataclasses.replace(turn, content=without_captions(turn.content)))
            self.conversation, self.pages = wrap_question(tuple(turns))
        if self.pages is None:  # the four sections are for questions about pages
            self.settings = dataclasses.replace(self.settings, guided=False)

    def needs_server(self, generator: Generator) -> bool:
        """Whether only a chat completions request says it all, and the generator takes those."""
        if not chats(generator):
            return False
        # Settings of the core hold neither tools nor "any JSON object".
        schema = self.settings.json_schema
        if schema is not None and (schema == completions.ANY_OBJECT or not supports(generator, "json_schema")):
            return True
        if schema is not None and self.strict is not None:
            return True
        return completions.has_tool_messages(self.messages)

    def send_to_server(self, generator: Generator, kwargs: Mapping[str, Any]) -> None:
        """Make it a chat completions request: with tools and other settings that only a server has."""
        if not chats(generator):
            raise SettingError(
                f"Generator {generator.name!r} does not know {', '.join(sorted(kwargs))}. Known: model, stop, "
                f"{', '.join(SETTINGS)}; OpenAI-compatible servers take more."
            )
        self.to_server = completions.to_request(
            self.messages, self.settings, kwargs, fetch_urls=self.fetch_urls, strict=self.strict
        )

    def result(self, generator: Generator, written: Generation) -> ChatResult:
        """The answer as LangChain takes it."""
        content: Any = written.text
        extra: dict[str, Any] = {}
        if self.pages is not None:
            cut_off = written.finish_reason == "length"
            content = answer_blocks(parse_evidence(written.text, self.pages, cut_off=cut_off))
            extra = {RAW: written.text}  # the blocks have no tags; parsers read this
        message = AIMessage(
            content=content,
            additional_kwargs=extra,
            response_metadata=completions.metadata_of(generator, written),
            usage_metadata=completions.usage_of(written),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def chunks(self, generator: Generator) -> Iterator[ChatGenerationChunk]:
        """The answer piece by piece; closing the iterator stops the generator."""
        pieces = generator.stream(self.conversation, self.settings)
        chunks = _Chunks(generator, self.pages)
        try:
            for piece in pieces:
                yield from chunks.feed(piece)
        finally:
            close(pieces)
        yield chunks.last()  # not where the stream was left or failed

    async def achunks(self, generator: Generator) -> AsyncGenerator[ChatGenerationChunk, None]:
        """`chunks`, without blocking the event loop."""
        chunks = _Chunks(generator, self.pages)
        async with contextlib.aclosing(astream(generator, self.conversation, self.settings)) as pieces:
            async for piece in pieces:
                for chunk in chunks.feed(piece):
                    yield chunk
        # In a thread: the citations are looked for on their pages.
        yield await asyncio.to_thread(chunks.last)


class _Chunks:
    """Pieces of a generation as message chunks; of an answer with evidence the raw text travels beside the content."""

    def __init__(self, generator: Generator, pages: list[Page] | None) -> None:
        self._generator = generator
        self._blocks = EvidenceBlocks(pages) if pages is not None else None
        self._last = Generation("")

    def feed(self, piece: Generation) -> Iterator[ChatGenerationChunk]:
        self._last = piece
        if not piece.text:
            return
        if self._blocks is None:
            message = AIMessageChunk(content=piece.text)
        else:
            content: Any = self._blocks.feed(piece.text)
            message = AIMessageChunk(content=content, additional_kwargs={RAW: piece.text})
        yield ChatGenerationChunk(message=message)

    def last(self) -> ChatGenerationChunk:
        """What is known at the end: citations, usage, how it ended."""
        content: Any = ""
        extra: dict[str, Any] = {}
        if self._blocks is not None:
            content = self._blocks.finish()
            extra = {RAW: ""}  # is added to the raw text of the chunks before
        message = AIMessageChunk(
            content=content,
            additional_kwargs=extra,
            response_metadata=completions.metadata_of(self._generator, self._last),
            usage_metadata=completions.usage_of(self._last),
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)


class _WaitingCall(NamedTuple):
    generator: Generator
    settings: GenerationSettings
    conversation: Conversation
    written: Future[Generation]

    def goes_with(self, other: _WaitingCall) -> bool:
        """Whether one `generate` can answer both."""
        return self.generator is other.generator and self.settings == other.settings


class ChatBatch:
    """Collects the calls of one `batch`, and generates for all that wait when no other can join them.

    Args:
        calls: How many there are in all; some may never come here (answered from a cache, failed before).
        at_once: At most so many are under way at a time.
    """

    def __init__(self, calls: int, at_once: int) -> None:
        self._open_calls, self._at_once = calls, at_once
        self._waiting: list[_WaitingCall] = []
        self._changed = threading.Condition()
        self._running = False

    def submit(
        self, generator: Generator, conversation: Conversation, settings: GenerationSettings
    ) -> Future[Generation]:
        """What will be generated, together with the other calls."""
        call = _WaitingCall(generator, settings, conversation, Future())
        with self._changed:
            self._waiting.append(call)
            self._changed.notify()
            if not self._running:  # a thread of its own: none of those that wait must do it for the others
                self._running = True
                threading.Thread(target=self._run, name="visrag-batch", daemon=True).start()
        return call.written

    def call_ended(self) -> None:
        """One of the calls is over, however it ended: the others need not wait for it."""
        with self._changed:
            self._open_calls -= 1
            self._changed.notify()

    def _run(self) -> None:
        """Generate for those that wait until none do."""
        while True:
            with self._changed:
                while len(self._waiting) < min(self._at_once, self._open_calls):
                    if not self._changed.wait(SECONDS_WITHOUT_A_CALL):
                        break
                waiting, self._waiting = self._waiting, []
                if not waiting:
                    self._running = False  # under the lock: the next call starts another thread
                    return
            # Calls with other settings or another model make a batch of their own.
            while waiting:
                together = [call for call in waiting if call.goes_with(waiting[0])]
                waiting = [call for call in waiting if not call.goes_with(waiting[0])]
                _generate(together)


# Threads and tasks that LangChain starts for a batch have a copy of the context, and so find it.
_batch: ContextVar[ChatBatch | None] = ContextVar("visrag_chat_batch", default=None)


@contextlib.contextmanager
def calls_together(calls: int, at_once: int) -> Iterator[None]:
    """Calls made inside, also in threads and tasks started there, reach the engine together."""
    token = _batch.set(ChatBatch(calls, at_once))
    try:
        yield
    finally:
        _batch.reset(token)


@contextlib.contextmanager
def one_call() -> Iterator[None]:
    """Stands around each call; tells its batch, where it belongs to one, when it is over."""
    try:
        yield
    finally:
        batch = _batch.get()
        if batch is not None:
            batch.call_ended()


def let_wait_together(inputs: Sequence[Any], config: Any) -> tuple[int, Any]:
    """How many calls will wait together, and the config that lets them: a thread for each.

    >>> let_wait_together(["a", "b", "c"], {"max_concurrency": 2})
    (2, {'max_concurrency': 2})
    """
    if isinstance(config, Sequence):  # one for each input
        limits = [one["max_concurrency"] for one in config if one.get("max_concurrency")]
        calls = min([len(inputs), MAX_CALLS_AT_ONCE, *limits])
        return calls, [{**one, "max_concurrency": calls} for one in config]
    config = config or {}
    limit = config.get("max_concurrency") or MAX_CALLS_AT_ONCE
    calls = min(len(inputs), MAX_CALLS_AT_ONCE, limit)
    return calls, {**config, "max_concurrency": calls}


def generate_one(generator: Generator, conversation: Conversation, settings: GenerationSettings) -> Generation:
    """What the generator writes; inside `calls_together`, together with the rest of the batch."""
    batch = _batch.get()
    if batch is not None:
        return batch.submit(generator, conversation, settings).result()
    return generate(generator, [conversation], settings)[0]


async def agenerate_one(generator: Generator, conversation: Conversation, settings: GenerationSettings) -> Generation:
    """`generate_one`, without blocking the event loop; cancelling the task stops an engine that can be stopped."""
    batch = _batch.get()
    if batch is not None:
        return await asyncio.wrap_future(batch.submit(generator, conversation, settings))
    written = await agenerate(generator, [conversation], settings)
    return written[0]


def _generate(calls: Sequence[_WaitingCall]) -> None:
    """One `generate` for calls that go together; each gets its text, or the error."""
    conversations = [call.conversation for call in calls]
    try:
        written = generate(calls[0].generator, conversations, calls[0].settings)
    except BaseException as err:  # noqa: BLE001 (every waiting call raises it)
        for call in calls:
            call.written.set_exception(err)
        return
    for call, generation in zip(calls, written, strict=True):
        call.written.set_result(generation)
