"""Closing what may have a `close`: embedders, generators, and the iterators they stream by."""

from __future__ import annotations

from typing import Protocol


class Closes(Protocol):
    """Frees what it holds: a model, a thread, a connection."""

    def close(self) -> None: ...


def close(value: object) -> None:
    """Close it where it can be closed (`Closes`); nothing otherwise."""
    own = getattr(value, "close", None)
    if own is not None:
        own()
