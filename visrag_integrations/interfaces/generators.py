"""What a generator may have beside the members of `Generator`, and what is done where it has not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from visrag_integrations.errors import GenerationError
from visrag_integrations.interfaces.threads import in_thread
from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator


class SaysWhatItSupports(Protocol):
    """What else it can: "json_schema" holds the text to a JSON schema."""

    @property
    def supports(self) -> Collection[str]: ...


class HasLimits(Protocol):
    """How many pictures and how many tokens (pictures included) one conversation may hold; None where unknown."""

    @property
    def max_images(self) -> int | None: ...
    @property
    def context_length(self) -> int | None: ...


class WritesAsync(Protocol):
    """Writes from an event loop, many conversations at once."""

    async def agenerate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]: ...


class StreamsAsync(Protocol):
    """Streams from an event loop; closing the iterator cancels the text."""

    def astream(
        self, conversation: Conversation, settings: GenerationSettings | None = None
    ) -> AsyncGenerator[Generation, None]: ...


class Chats(Protocol):
    """Of OpenAI-compatible servers: a chat completions request as a dict in, the answer (its chunks) as dicts out."""

    def chat(self, request: Mapping[str, Any]) -> dict[str, Any]: ...
    def stream_chat(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]: ...


class ServesOtherModels(Protocol):
    """The same engine with another model."""

    def with_model(self, model: str) -> Generator: ...


class OnlyQuotes(Protocol):
    """Says that it writes nothing of its own: it takes passages from pages as they are."""

    @property
    def only_quotes(self) -> bool: ...


def only_quotes(generator: Generator) -> bool:
    """Whether it says that it writes nothing of its own (`OnlyQuotes`): such a one cannot reword, and is no agent."""
    return bool(getattr(generator, "only_quotes", False))


def supports(generator: Generator, ability: str) -> bool:
    """Whether it says that it can do this, for example "json_schema" (`SaysWhatItSupports`)."""
    return ability in getattr(generator, "supports", ())


def max_images_of(generator: Generator) -> int | None:
    """How many pictures one conversation may hold; None where it does not say (`HasLimits`)."""
    return getattr(generator, "max_images", None)


def context_length_of(generator: Generator) -> int | None:
    """How many tokens one conversation may hold; None where it does not say (`HasLimits`)."""
    return getattr(generator, "context_length", None)


def writes_async(generator: Generator) -> bool:
    """Whether it writes from an event loop by itself (`WritesAsync`)."""
    return getattr(generator, "agenerate", None) is not None


def streams_async(generator: Generator) -> bool:
    """Whether it streams from an event loop by itself (`StreamsAsync`)."""
    return getattr(generator, "astream", None) is not None


def chats(generator: Generator) -> bool:
    """Whether it takes chat completions requests (`Chats`)."""
    return callable(getattr(generator, "chat", None)) and callable(getattr(generator, "stream_chat", None))


def with_model(generator: Generator, model: str) -> Generator | None:
    """The same engine with another model; None where it has one model only (`ServesOtherModels`)."""
    change = getattr(generator, "with_model", None)
    if change is None:
        return None
    changed: Generator = change(model)
    return changed


def generate(
    generator: Generator, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
) -> list[Generation]:
    """What it writes, one text for each conversation, in order.

    Raises:
        GenerationError: It gave another number of texts.
    """
    return check_one_each(generator, generator.generate(conversations, settings), conversations)


async def agenerate(
    generator: Generator, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
) -> list[Generation]:
    """`generate`, without blocking the event loop: by its own `agenerate`, else in a thread (`WritesAsync`)."""
    own = getattr(generator, "agenerate", None)
    if own is None:
        written = await asyncio.to_thread(generator.generate, conversations, settings)
    else:
        written = await own(conversations, settings)
    return check_one_each(generator, written, conversations)


async def astream(
    generator: Generator, conversation: Conversation, settings: GenerationSettings | None = None
) -> AsyncGenerator[Generation, None]:
    """`generator.stream`, without blocking the event loop; closing it stops the generator (`StreamsAsync`)."""
    own = getattr(generator, "astream", None)
    if own is None:
        pieces = in_thread(generator.stream(conversation, settings))
    else:
        pieces = own(conversation, settings)
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield piece


def check_one_each(
    generator: Generator, written: Sequence[Generation], conversations: Sequence[Conversation]
) -> list[Generation]:
    """What was written, if it is one text for each conversation.

    Raises:
        GenerationError: It is not.
    """
    if len(written) != len(conversations):
        raise GenerationError(
            f"Generator {generator.name!r} gave {len(written)} texts for {len(conversations)} conversations; "
            "generate() must give one for each, in order."
        )
    return list(written)
