"""Starting a Python process that one talks to, and ending it with all that it started, by what the system has.

Where a process can be given an open socket (Linux, macOS), it is. Windows cannot: there the process connects to a port
of this machine, and says a word that it gets on its standard input, so that nobody else is let in.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

_KILL = 9  # SIGKILL; Windows, which has no signals, ends the process with this exit code
_WORD_BYTES = 32
# Seconds that whoever connects may take to say the word; the process says it at once.
_WORD_TIMEOUT = 10.0
_LOOPBACK = "127.0.0.1"


class ChildDied(Exception):
    """The process ended, or did not connect in time."""


def start(
    command: Sequence[str], environment: Mapping[str, str], timeout: float
) -> tuple[subprocess.Popen[bytes], Connection]:
    """The process, which gets one more argument (for `connect_to_parent`), and the connection to it.

    Raises:
        ChildDied: It did not connect; it is ended.
    """
    if has_groups():
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [*command, f"fd:{theirs.fileno()}"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        return process, Connection(ours.detach())

    word = secrets.token_bytes(_WORD_BYTES)
    with socket.create_server((_LOOPBACK, 0)) as server:
        address = f"port:{server.getsockname()[1]}"
        process = subprocess.Popen([*command, address], stdin=subprocess.PIPE, env=environment)
        try:
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # it died: that shows below
                process.stdin.write(word)
                process.stdin.close()
            return process, _accepted(server, word, process, timeout)
        except BaseException:
            end(process)
            process.wait()
            raise


def _accepted(server: socket.socket, word: bytes, process: subprocess.Popen[bytes], timeout: float) -> Connection:
    """The connection of the process; whoever else connects is turned away."""
    until = time.monotonic() + timeout
    server.settimeout(0.2)  # so that its death is seen
    while time.monotonic() < until and process.poll() is None:
        try:
            connected, _ = server.accept()
        except TimeoutError:
            continue
        connected.settimeout(_WORD_TIMEOUT)
        if _says(connected, word):
            connected.settimeout(None)
            return Connection(connected.detach())
        connected.close()
    raise ChildDied


def _says(connected: socket.socket, word: bytes) -> bool:
    said = b""
    try:
        while len(said) < len(word):
            piece = connected.recv(len(word) - len(said))
            if not piece:
                return False
            said += piece
    except OSError:  # too slow, or gone
        return False
    return hmac.compare_digest(said, word)


def connect_to_parent(address: str) -> Connection:
    """The connection to the process that started this one, from the argument that it was given."""
    kind, _, number = address.partition(":")
    if kind == "fd":
        return Connection(int(number))
    word = sys.stdin.buffer.read(_WORD_BYTES)
    connected = socket.create_connection((_LOOPBACK, int(number)))
    connected.sendall(word)
    return Connection(connected.detach())


def has_groups() -> bool:
    """Whether processes form groups that can be ended together: not on Windows."""
    return hasattr(os, "killpg")


def leads_group() -> bool:
    """Whether this process leads a group, so that what it starts is ended with it."""
    return has_groups() and os.getpgrp() == os.getpid()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and whatever it started (an office program)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if has_groups():
            os.killpg(process.pid, signal.SIGKILL)
            return
    if os.name == "nt":  # a tree, as far as its processes are still those of their parents
        with contextlib.suppress(OSError):
            tree = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(tree, capture_output=True, check=False)
    _kill(process)


def end_with_group(process: subprocess.Popen[bytes], *, own_group: bool) -> None:
    """End a process: with its group where it leads one, else alone, for its group is that of this process."""
    if own_group or not has_groups():
        end(process)
        return
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:  # else its number may be another's by now
            os.kill(process.pid, _KILL)
