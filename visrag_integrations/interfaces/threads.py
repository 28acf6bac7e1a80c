"""A blocking iterator read from an event loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Iterator
from typing import TypeVar

from visrag_integrations.interfaces.closing import close

Item = TypeVar("Item")
_END = object()


async def in_thread(items: Iterator[Item]) -> AsyncGenerator[Item, None]:
    """The items, each awaited in a thread; closing this closes them, after a step that is under way."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    step: asyncio.Future[object] | None = None
    try:
        while True:
            step = loop.run_in_executor(None, lambda: context.run(lambda: next(items, _END)))
            item = await asyncio.shield(step)
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        if step is not None and not step.done():
            step.add_done_callback(lambda _: close(items))
        else:
            close(items)
