"""Work for threads, ahead of whoever waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def prefetch(
    items: Iterable[In], prepare: Callable[[In], Out], pool: Executor, ahead: int
) -> Generator[Out, None, None]:
    """`prepare` of every item, in order, while the pool works on the next `ahead` ones.

    Whoever stops in the middle closes it, and the pool begins no more of them.
    """
    waiting: deque[Future[Out]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(prepare, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
