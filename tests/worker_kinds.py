"""What workers of the tests do, each in a process of its own."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from visrag_integrations.errors import SettingError
from visrag_integrations.servers.web.running import run
from visrag_integrations.servers.web.worker_process import WorkerLine


def dies_when_asked(listening: socket.socket, line: WorkerLine) -> int:
    line.ready()
    _accept(listening)
    os._exit(7)


def never_gets_ready(listening: socket.socket, line: WorkerLine) -> int:
    os._exit(7)


def is_refused(listening: socket.socket, line: WorkerLine) -> int:
    raise SettingError("top_k is 0; it must be above 0.")


def cannot_start_again(listening: socket.socket, line: WorkerLine, folder: str) -> int:
    """The first process of all answers and then dies; those that come after it cannot start."""
    try:
        (Path(folder) / "first").mkdir()
    except FileExistsError:
        raise SettingError("what it needs is away.") from None
    line.ready()
    _accept(listening)
    os._exit(7)


def answers_once_replaced(listening: socket.socket, line: WorkerLine, folder: str) -> int:
    """The first process dies when it is asked; the one that takes its place answers with its id."""
    try:
        (Path(folder) / "first").mkdir()
        first = True
    except FileExistsError:
        first = False

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] != "http":
            return
        if first:
            os._exit(7)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    return run(app, listening, begun=lambda server: (line.ends(server), line.ready()))


def _accept(listening: socket.socket) -> None:
    listening.setblocking(True)
    listening.accept()


def is_told(listening: socket.socket, line: WorkerLine) -> int:
    """Waits for ever, whatever it is told."""
    line.ready()
    threading.Event().wait()
    return 0
