"""How long a page takes here, measured on the first one, and how long the rest will take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli.noting import note

if TYPE_CHECKING:
    from visrag_integrations.ingestion import IndexProgress
    from visrag_integrations.interfaces import Embedding
    from visrag_integrations.types import Page

# Seconds between two lines: where a terminal shows a bar there are none, and a log with one a minute can be read.
EVERY = 60.0
WORTH_SAYING = 0.5
"""Seconds a page from which its time is said."""


class Paced:
    """An embedder that says how long the first page took; all else is the embedder's own.

    Args:
        embedder: What embeds.
    """

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self._measured = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """The embedder's, with the first page by itself."""
        coming = iter(pages)
        made: list[Embedding] = []
        if not self._measured:
            for first in itertools.islice(coming, 1):
                began = time.perf_counter()
                made += self._embedder.embed_pages([first])
                self._measured = True
                say_seconds(time.perf_counter() - began)
        return [*made, *self._embedder.embed_pages(coming)]


def say_seconds(seconds: float) -> None:
    """Say how long a page takes, where that is worth saying."""
    if seconds >= WORTH_SAYING:
        note(f"a page takes about {seconds:.1f} s on this machine ({in_time(100 * seconds)} for a hundred).")


class Estimate:
    """Called with a run's progress; says now and then how long it will still take."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: IndexProgress) -> None:
        """Say it, where a minute has passed since the last time."""
        now = time.monotonic()
        if now - self._last < EVERY or progress.seconds_left is None:
            return
        self._last = now
        note(f"{progress.pages} pages are indexed; about {in_time(progress.seconds_left)} to go.")


def in_time(seconds: float) -> str:
    """Seconds as people say them.

    >>> in_time(42), in_time(310), in_time(9000)
    ('42 s', '5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
