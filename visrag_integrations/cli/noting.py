"""What the command line says beside its results, and asks: on standard error."""

from __future__ import annotations

import sys


def note(message: str) -> None:
    """Say something beside the results, on standard error."""
    print(f"visrag: {message}", file=sys.stderr)


def somebody_is_there() -> bool:
    """Whether a question can be asked: somebody types, and sees what is asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def yes_to(question: str) -> bool:
    """Whether whoever types says yes; anything else, the end of the input too, is no."""
    print(f"visrag: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
