"""Any generator from an event loop: by its own `agenerate` and `astream` where it has them, else in threads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import run_in_executor

from visrag_integrations.interfaces.threads import in_thread
from visrag_integrations.types import Conversation, Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator


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
    pieces = own(conversation, settings) if own is not None else in_thread(generator.stream(conversation, settings))
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield piece
