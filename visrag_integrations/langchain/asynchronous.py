"""Any generator from an event loop: by its own `agenerate` and `astream` where it has them, else in threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables.config import run_in_executor

from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

Piece = TypeVar("Piece")


async def agenerate(generator: Generator, conversation: Conversation, settings: GenerationSettings) -> list[Generation]:
    """`generator.generate` of one conversation, without blocking the event loop."""
    own: Any = getattr(generator, "agenerate", None)
    if own is None:
        return await run_in_executor(None, generator.generate, [conversation], settings)
    written: list[Generation] = await own([conversation], settings)
    return written


async def astream(
    generator: Generator, conversation: Conversation, settings: GenerationSettings
) -> AsyncGenerator[Generation, None]:
    """`generator.stream`, without blocking the event loop; closing it stops the generator."""
    own: Any = getattr(generator, "astream", None)
    pieces = own(conversation, settings) if own is not None else in_threads(generator.stream(conversation, settings))
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield piece


async def in_threads(pieces: Iterator[Piece]) -> AsyncGenerator[Piece, None]:
    """The pieces, each awaited in a thread."""
    nothing = object()
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = asyncio.ensure_future(run_in_executor(None, next, pieces, nothing))
            piece = await asyncio.shield(step)
            if piece is nothing:
                return
            yield piece
    finally:
        if step is not None and not step.done():  # cancelled meanwhile; an iterator that runs cannot be closed
            await asyncio.wait({step})
        close = getattr(pieces, "close", None)
        if close is not None:
            await run_in_executor(None, close)
