"""Any generator from an event loop: through its own `agenerate` and `astream`, else through its sync ones in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator


async def agenerate(
    generator: Generator, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
) -> list[Generation]:
    """`generator.generate`, without blocking the event loop."""
    own = getattr(generator, "agenerate", None)
    if own is not None:
        written: list[Generation] = await own(conversations, settings)
        return written
    return await asyncio.to_thread(generator.generate, conversations, settings)


async def astream(
    generator: Generator, conversation: Conversation, settings: GenerationSettings | None = None
) -> AsyncIterator[Generation]:
    """`generator.stream`, without blocking the event loop; cancelling or closing it stops the generator."""
    own = getattr(generator, "astream", None)
    if own is not None:
        async for piece in own(conversation, settings):
            yield piece
        return
    async for piece in in_thread(generator, conversation, settings):
        yield piece


async def in_thread(
    generator: Generator, conversation: Conversation, settings: GenerationSettings | None = None
) -> AsyncIterator[Generation]:
    """`generator.stream`, each piece awaited in a thread."""
    writing = await asyncio.to_thread(generator.stream, conversation, settings)
    step: asyncio.Future[Generation | None] | None = None
    try:
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(next, writing, None))
            piece = await asyncio.shield(step)
            if piece is None:
                return
            yield piece
    finally:
        if step is not None and not step.done():
            await asyncio.wait({step})  # a generator that runs cannot be closed
        close = getattr(writing, "close", None)
        if close is not None:
            await asyncio.to_thread(close)
