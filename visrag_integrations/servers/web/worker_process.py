"""A worker as it is inside of its own process: its line to the process that started it."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import VisRAGError

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

END, NOW = "end", "now"
"""What a worker is told: finish what is under way, or cut it off."""
READY, ENDED, REFUSED = "ready", "ended", "refused"
"""What a worker says: it answers; it has ended, with so many requests cut off; it cannot start, for this reason."""


class WorkerLine:
    """What a worker is told and what it says. A line that breaks tells it to end: who started it is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._guard = threading.Lock()
        self._server: uvicorn.Server | None = None
        self._told: list[str] = []
        threading.Thread(target=self._listen, name="visrag-worker-line", daemon=True).start()

    def ready(self) -> None:
        """From now on this worker answers."""
        self.say(READY)

    def ends(self, server: uvicorn.Server) -> None:
        """This server ends when the worker is told to."""
        with self._guard:
            self._server = server
            self._obey()

    def say(self, kind: str, value: Any = None) -> None:
        """Tell the process that started this one."""
        try:
            self._connection.send((kind, value))
        except OSError:  # it is gone, and this one ends too
            logger.debug("nobody hears that this worker is %s", kind)

    def _listen(self) -> None:
        gone = False
        while not gone:
            try:
                heard = self._connection.recv()
            except (EOFError, OSError):
                heard, gone = END, True
            with self._guard:
                self._told.append(heard)
                self._obey()

    def _obey(self) -> None:
        if self._server is None or not self._told:
            return
        self._server.should_exit = True
        if NOW in self._told:
            self._server.force_exit = True


def worker_process(
    connection: Connection, work: Callable[..., int], listening: socket.socket, arguments: Sequence[Any]
) -> None:
    """All of a worker: its work, and what became of it."""
    if hasattr(os, "setpgrp"):
        # Ctrl+C in a terminal goes to every process of a group. The one that started this one hears it and tells all;
        # heard twice, it would cut off what is under way.
        os.setpgrp()
    line = WorkerLine(connection)
    try:
        line.say(ENDED, work(listening, line, *arguments))
    except VisRAGError as err:
        line.say(REFUSED, str(err))
        sys.exit(2)
    except KeyboardInterrupt:  # told to end while it was loading
        sys.exit(1)
