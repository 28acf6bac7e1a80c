"""One call of a chat model on its way to a generator, and what it wrote on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.evisrag import parse_evidence
from visrag_integrations.langchain import completions
from visrag_integrations.langchain.evidence import RAW, EvidenceBlocks, answer_blocks
from visrag_integrations.langchain.messages import to_conversation
from visrag_integrations.langchain.prompting import wrap_question
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

    def needs_server(self, generator: Generator) -> bool:
        """Whether only a chat completions request says it all, and the generator takes those."""
        schema = self.settings.json_schema is not None and "json_schema" not in getattr(generator, "supports", ())
        return completions.offered(generator) and (schema or completions.needs_passing_on(self.messages))

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
            content = answer_blocks(parse_evidence(written.text, self.pages))
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
        blocks = EvidenceBlocks(self.pages) if self.pages is not None else None
        writing = generator.stream(self.conversation, self.settings)
        last = Generation("")
        try:
            for piece in writing:
                last = piece
                if piece.text:
                    yield self._chunk(piece.text, blocks)
        finally:
            close = getattr(writing, "close", None)
            if close is not None:
                close()
        message = AIMessageChunk(
            content=blocks.finish() if blocks is not None else "",  # type: ignore[arg-type]
            additional_kwargs={RAW: ""} if blocks is not None else {},
            response_metadata=completions.metadata_of(generator, last),
            usage_metadata=completions.usage_of(last),
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=message)

    @staticmethod
    def _chunk(text: str, blocks: EvidenceBlocks | None) -> ChatGenerationChunk:
        if blocks is None:
            return ChatGenerationChunk(message=AIMessageChunk(content=text))
        content: Any = blocks.feed(text)
        return ChatGenerationChunk(message=AIMessageChunk(content=content, additional_kwargs={RAW: text}))
