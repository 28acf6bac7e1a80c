"""What embedders with a `close` share: async calls in a thread of their own, and `with`."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from typing_extensions import Self

    from visrag_integrations.interfaces import Embedding


class AsyncEmbedder:
    """Adds `aembed_pages`, `aembed_queries` and `with` to an embedder that has `embed_pages` and `embed_queries`."""

    def __init__(self) -> None:
        # One thread: the device takes one batch at a time, and calls are answered in their order.
        self._queue = ThreadPoolExecutor(1, thread_name_prefix="embedder")

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """Float32 unit vectors of each page, in order."""
        raise NotImplementedError

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """Float32 unit vectors of each query, in order."""
        raise NotImplementedError

    def check_open(self) -> None:
        """Nothing, unless this was closed.

        Raises:
            EmbedderError: It was.
        """
        raise NotImplementedError

    async def aembed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """`embed_pages` in this embedder's own thread, so that the event loop goes on."""
        self.check_open()
        import asyncio  # whoever awaits this has it; a search on the command line does without

        return await asyncio.get_running_loop().run_in_executor(self._queue, partial(self.embed_pages, pages))

    async def aembed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """`embed_queries` in this embedder's own thread, so that the event loop goes on."""
        self.check_open()
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(self._queue, partial(self.embed_queries, queries))

    def close(self) -> None:
        """End what was started; the embedder cannot be used after."""
        self._queue.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
