"""One reading process, seen from outside: requests in, replies out, and a clear reason when it dies or hangs."""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
from multiprocessing.connection import Connection
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.readers import child_process, messages
from visrag_integrations.readers.kept import KeptProcess
from visrag_integrations.readers.reader import PageReader
from visrag_integrations.readers.started import START_TIMEOUT, StartedProcess

PictureFormat = tuple[str, int]
"""Format and quality of picture files."""


class WorkerDied(Exception):
    """The process crashed or took too long; it is gone. The message says which."""


class WorkerProcess:
    """A Python process that reads pages; started when it is first asked, and again after it died."""

    def __init__(
        self,
        reader: PageReader,
        threads: int,
        timeout: float,
        keep: PictureFormat | None = None,
        kept: KeptProcess | None = None,
    ) -> None:
        self._setup = (reader, threads, timeout, keep)
        self._kept = kept
        self._started: StartedProcess | None = None
        self._closed = False

    @property
    def _process(self) -> subprocess.Popen[bytes] | None:
        return None if self._started is None else self._started.process

    @property
    def _connection(self) -> Connection | None:
        return None if self._started is None else self._started.connection

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
                reply: tuple[Any, ...] = messages.receive(self._connection)
                return reply
        except (
            EOFError,
            OSError,
        ):  # it closed its end: it is dead or dying, and needs a moment until its exit code says how
            raise WorkerDied(_describe_death(self._end(grace=0.2))) from None
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
        self._end()

    def give_back(self) -> None:
        """Keep the process for the next call, where nothing speaks against it; else end it."""
        self._closed = True
        started, self._started = self._started, None
        if started is None:
            return
        # A class of the user's own may have changed by the next call, and its process would not know.
        if self._kept is not None and type(self._setup[0]) is PageReader and started.rests():
            self._kept.put(started)
        else:
            started.end()

    def _start(self) -> Connection:
        self._refuse_when_closed()
        setup = self._pickled_setup()
        if self._kept is not None:
            self._started = self._kept.take(setup)
            if self._started is not None:
                with contextlib.suppress(WorkerDied):  # one that died while it was idle: nobody waits for it
                    return self._set_up(setup)
                self._refuse_when_closed()
        try:
            self._started = StartedProcess.start()
        except child_process.ChildDied as err:
            raise SettingError("No reading process can be started: it ended at once. Is Python in order?") from err
        self._refuse_when_closed()
        try:
            return self._set_up(setup)
        except WorkerDied as err:
            if self._closed:
                raise
            raise SettingError(f"No reading process can be started: it {err}. Is Python itself in order?") from err

    def _pickled_setup(self) -> bytes:
        try:
            return pickle.dumps(self._setup)
        except (AttributeError, TypeError, pickle.PicklingError) as err:
            raise SettingError(f"The reader cannot be sent to another process: {err}. Define it in a module.") from err

    def _set_up(self, setup: bytes) -> Connection:
        """Tell the process how to read; waits until it has imported what it needs.

        Raises:
            WorkerDied: It is gone.
            SettingError: It does not understand the settings.
        """
        started = self._started
        assert started is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` says why it died
            started.connection.send_bytes(setup)
        answer = self.receive(START_TIMEOUT)
        if answer[0] != "ready":
            self._end()
            raise SettingError(f"Reading in processes failed: {answer[1]}. Define the reader's class in a module.")
        started.setup = setup
        return started.connection

    def _refuse_when_closed(self) -> None:
        if self._closed:  # another thread may close it at any time, also between two lines of `_start`
            self._end()
            raise WorkerDied("was ended")

    def _end(self, grace: float = 0.0) -> int:
        """End the process, which gets `grace` seconds to end by itself; gives its exit code."""
        started, self._started = self._started, None
        return 0 if started is None else started.end(grace)


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
