"""How a command ends before its time: Ctrl-C, or the signal by which a service manager or `kill` ends programs."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

# Exit codes by which a shell says that a signal ended a program: 128 and the signal's number.
INTERRUPTED, TERMINATED = 130, 143

NOTHING_CHANGED = "Nothing was changed."
KEPT = "What was indexed is kept; run the same command again to go on."


class Terminated(KeyboardInterrupt):
    """SIGTERM came. What ends in order at Ctrl-C does so at this too."""


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """Meanwhile SIGTERM raises `Terminated`, once; what a server does with it is its own affair."""
    # Only the main thread may say what a signal does, and who has said so before (a program that calls this) means it.
    # Windows has the name SIGTERM, but ends programs without it.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def at_once(close: Callable[[], object]) -> Iterator[None]:
    """Meanwhile SIGTERM and Ctrl-C close what is open and end the process, without going back to what it does.

    For a server on standard input: its loop waits for a thread that waits for a line, and nothing can wake that.
    """
    from visrag_integrations.servers.web.signals import ending_signals_call

    def end(number: int, frame: FrameType | None) -> None:
        error = KeyboardInterrupt()
        if number == signal.SIGTERM:
            error = Terminated()
        close()
        print(f"visrag: {message(error, argparse.Namespace())}", file=sys.stderr, flush=True)
        os._exit(code(error))

    with ending_signals_call(end):
        yield


def _terminate(number: int, frame: FrameType | None) -> None:
    # A second one must not cut off what the first one closes; whoever cannot wait sends SIGKILL.
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise Terminated


def message(error: KeyboardInterrupt, arguments: argparse.Namespace) -> str:
    """What is said: that it ended, and what became of its work."""
    kept = getattr(arguments, "when_ended", NOTHING_CHANGED)
    if kept is KEPT and not getattr(arguments, "paths", True):  # `visrag ask` without paths indexes nothing
        kept = NOTHING_CHANGED
    if isinstance(error, Terminated):
        return f"ended by SIGTERM. {kept}"
    return f"interrupted. {kept}"


def code(error: KeyboardInterrupt) -> int:
    """The exit code."""
    if isinstance(error, Terminated):
        return TERMINATED
    return INTERRUPTED
