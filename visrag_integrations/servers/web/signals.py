"""SIGINT and SIGTERM, by which people and service managers end a program: who is told of them for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ending_signals_call(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Meanwhile both signals call the handler; after that they do what they did before. In the main thread only."""
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)
