"""One call of a chat model on its way to a generator, and what it wrote on the way back."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.evisrag import parse_evidence, wrap_question
from visrag_integrations.langchain import completions
from visrag_integrations.langchain.asynchronous import astream
from visrag_integrations.langchain.evidence import RAW, EvidenceBlocks, answer_blocks
from visrag_integrations.langchain.messages import to_conversation
from visrag_integrations.types import Generation, GenerationSettings, Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

SETTINGS = ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed", "guided", "json_schema")
"""Settings of a generation that a call may name."""


class Request:
    """One call on its way to a generator, and its answer on the way back."""

    def __init__(self, messages: Sequence[BaseMessage], settings: GenerationSettings, fetch_urls: bool) -> None:
        self.messages, self.settings, self.fetch_urls = messages, settings, fetch_urls
        self.conversation = to_conversation(messages, fetch_urls=fetch_urls)
        self.passed_on: dict[str, Any] | None = None
        self.pages: list[Page] | None = None

    def ask_for_evidence(self) -> None:
        """Put a question about images as EVisRAG was trained on it."""
        if self.settings.json_schema is None:
            self.conversation, self.pages = wrap_question(self.conversation)
        if self.pages is None:  # the four sections are for questions about pages
            self.settings = dataclasses.replace(self.settings, guided=False)

    def needs_server(self, generator: Generator) -> bool:
        """Whether only a chat completions request says it all, and the generator takes those."""
        schema = self.settings.json_schema
        unknown = schema is not None and "json_schema" not in getattr(generator, "supports", ())
        special = unknown or schema == completions.ANY_OBJECT
        return completions.offered(generator) and (special or completions.needs_passing_on(self.messages))

    def pass_on(self, generator: Generator, kwargs: Mapping[str, Any]) -> None:
        """Send it as a chat completions request: tools and other settings of a server."""
        if not completions.offered(generator):
            raise SettingError(
                f"Generator {generator.name!r} does not know {', '.join(sorted(kwargs))}. Known: model, stop, "
                f"{', '.join(SETTINGS)}; OpenAI-compatible servers take more."
            )
        self.passed_on = completions.to_request(self.messages, self.settings, kwargs, fetch_urls=self.fetch_urls)

    def result(self, generator: Generator, written: Generation) -> ChatResult:
        """The answer as LangChain takes it."""
        content: Any = written.text
        extra: dict[str, Any] = {}
        if self.pages is not None:
            content = answer_blocks(parse_evidence(written.text, self.pages, cut_off=written.finish_reason == "length"))
            extra = {RAW: written.text}
        message = AIMessage(
            content=content,
            additional_kwargs=extra,
            response_metadata=completions.metadata_of(generator, written),
            usage_metadata=completions.usage_of(written),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def chunks(self, generator: Generator) -> Iterator[ChatGenerationChunk]:
        """The answer piece by piece; closing the iterator stops the generator."""
        chunks = _Chunks(generator, self.pages)
        writing = generator.stream(self.conversation, self.settings)
        try:
            for piece in writing:
                yield from chunks.feed(piece)
        finally:
            close = getattr(writing, "close", None)
            if close is not None:
                close()
        yield chunks.last()

    async def achunks(self, generator: Generator) -> AsyncGenerator[ChatGenerationChunk, None]:
        """`chunks`, without blocking the event loop."""
        chunks = _Chunks(generator, self.pages)
        async with contextlib.aclosing(astream(generator, self.conversation, self.settings)) as writing:
            async for piece in writing:
                for chunk in chunks.feed(piece):
                    yield chunk
        yield chunks.last()


class _Chunks:
    """Pieces of a generation as message chunks."""

    def __init__(self, generator: Generator, pages: list[Page] | None) -> None:
        self._generator = generator
        self._blocks = EvidenceBlocks(pages) if pages is not None else None
        self._last = Generation("")

    def feed(self, piece: Generation) -> Iterator[ChatGenerationChunk]:
        self._last = piece
        if not piece.text:
            return
        content: Any = piece.text if self._blocks is None else self._blocks.feed(piece.text)
        extra = {} if self._blocks is None else {RAW: piece.text}
        yield ChatGenerationChunk(message=AIMessageChunk(content=content, additional_kwargs=extra))

    def last(self) -> ChatGenerationChunk:
        """What is known at the end: citations, usage, how it ended."""
        content: Any = "" if self._blocks is None else self._blocks.finish()
        message = AIMessageChunk(
            content=content,
            additional_kwargs={} if self._blocks is None else {RAW: ""},
            response_metadata=completions.metadata_of(self._generator, self._last),
            usage_metadata=completions.usage_of(self._last),
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)
