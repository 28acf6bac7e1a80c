"""One reading process, seen from outside: requests in, replies out, and a clear reason when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.files import ScratchFolder
from visrag_integrations.readers import child_process
from visrag_integrations.readers.reader import PageReader

PictureFormat = tuple[str, int]
"""Format and quality of picture files."""

# Seconds. A start takes about one; a very busy machine takes far longer, and giving up would end the whole run.
_START_TIMEOUT = 120.0
# The program is given as text, so that the caller's own script is never run again, whatever it looks like.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from visrag_integrations.readers.worker import main; main(sys.argv[2])"
)


class WorkerDied(Exception):
    """The process crashed or took too long; it is gone. The message says which."""


class WorkerProcess:
    """A Python process that reads pages; started when it is first asked, and again after it died."""

    def __init__(self, reader: PageReader, threads: int, timeout: float, keep: PictureFormat | None = None) -> None:
        self._setup = (reader, threads, timeout, keep)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._closed = False
        self._folder: ScratchFolder | None = None

    def send(self, *request: Any) -> None:
        """Ask; the replies are fetched by `receive`."""
        connection = self._connection or self._start()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` says why it died
            connection.send(request)

    def receive(self, timeout: float) -> tuple[Any, ...]:
        """The next reply.

        Raises:
            WorkerDied: None came in time, or the process ended; it has been cleaned up.
        """
        assert self._connection is not None
        try:
            if self._connection.poll(timeout):
                reply: tuple[Any, ...] = self._connection.recv()
                return reply
        except (EOFError, OSError):  # it closed its end: it is dead or dying, and its exit code says why
            raise WorkerDied(_describe_death(self._end())) from None
        self._end()
        raise WorkerDied(f"took longer than {timeout:g} seconds")

    def kill(self) -> None:
        """End the process now and for good; any thread may, also while another waits in `receive`."""
        self._closed = True
        process = self._process
        if process is not None:
            child_process.end(process)

    def close(self) -> None:
        """End the process and free what it held."""
        self._closed = True
        if self._process is not None:
            self._end(grace=0.0)

    def _start(self) -> Connection:
        self._refuse_when_closed()
        # Its temporary files lie in a folder of its own: a process that is killed cannot remove what it made.
        self._folder = ScratchFolder("reading")
        os.chmod(self._folder.path, 0o711)  # a browser that runs as another user has a folder of its own in there
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
        own_folder = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._folder.path))
        try:
            self._process, self._connection = child_process.start(command, {**os.environ, **own_folder}, _START_TIMEOUT)
        except child_process.ChildDied as err:
            self._folder.close()
            raise SettingError("No reading process can be started: it ended at once. Is Python in order?") from err
        self._refuse_when_closed()
        try:
            self._connection.send_bytes(pickle.dumps(self._setup))
        except (AttributeError, TypeError, pickle.PicklingError) as err:
            self._end()
            raise SettingError(f"The reader cannot be sent to another process: {err}. Define it in a module.") from err
        try:
            answer = self.receive(_START_TIMEOUT)
        except WorkerDied as err:
            if self._closed:
                raise
            raise SettingError(f"No reading process can be started: it {err}. Is Python itself in order?") from err
        if answer[0] != "ready":
            self._end()
            raise SettingError(f"Reading in processes failed: {answer[1]}. Define the reader's class in a module.")
        return self._connection

    def _refuse_when_closed(self) -> None:
        if self._closed:  # another thread may close it at any time, also between two lines of `_start`
            if self._process is not None:
                self._end(grace=0.0)
            raise WorkerDied("was ended")

    def _end(self, grace: float = 0.2) -> int:
        """End the process, which gets `grace` seconds to end by itself; gives its exit code."""
        assert self._process is not None
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)  # one that crashed needs a moment until its exit code says how
        child_process.end(process)
        code = process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()
        return code


def _describe_death(code: int) -> str:
    """Why a process ended, in words.

    >>> _describe_death(-11), _describe_death(3)
    ('crashed the reading process (SIGSEGV)', 'ended the reading process (exit code 3)')
    """
    if code >= 0:
        return f"ended the reading process (exit code {code})"
    try:
        return f"crashed the reading process ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed the reading process (signal {-code})"
