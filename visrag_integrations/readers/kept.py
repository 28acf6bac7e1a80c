"""One reading process that is kept from one call to the next, so that the next need not wait for its start.

A start takes half a second of processor time. `index_documents` and `visrag ask` read in the process that is kept here
or begin one early; a `ReaderPool` of one's own has its own processes.

Documents are hostile, so a process is kept only where nothing of what it read can reach the next call:

- It read PDFs and pictures only. Office files and web pages start other programs, which may leave anything behind.
- Nothing failed: no page, no document, no limit, no crash. A document that made an engine fail may have harmed it.
- It closed its documents, emptied the engine's memory of them, and left no file in its folder.
- Its settings are those of the next call, with the same password; so are the folder, the environment and `sys.path`.
- The reader is the library's own class. A class of the user's may have changed since.

The documents of one call share a process, with or without this. None of it guards against a document that takes a
process over: that has the rights of its user either way (see docs/security.md).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading

from visrag_integrations.readers import child_process
from visrag_integrations.readers.started import StartedProcess

# Seconds. Someone who asks, reads the answer and gives another file comes back within a minute. A shorter time would
# start a process for each; a longer one holds its memory, 80 MB to 1 GB with OCR, for a call that may never come.
_IDLE_SECONDS = 60.0


class KeptProcess:
    """At most one idle process; any thread may take it or bring one."""

    def __init__(self, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._idle: StartedProcess | None = None
        self._timer: threading.Timer | None = None

    def start_early(self) -> None:
        """Start one now, whose imports go on while the caller does something else; it is for the next that takes one.

        What can go wrong with that is told when a process is needed.
        """
        if not child_process.has_groups():  # on Windows a start waits until the process has connected
            return
        with self._lock:
            if self._idle is not None:
                return
        with contextlib.suppress(OSError, child_process.ChildDied):
            self.put(StartedProcess.start())

    def take(self, setup: bytes) -> StartedProcess | None:
        """The idle one, where it fits; one that does not is ended."""
        found = self._take()
        if found is None or found.fits(setup):
            return found
        found.end()
        return None

    def put(self, started: StartedProcess) -> None:
        """Keep it until it is taken, for a while; another that is here is ended."""
        timer = threading.Timer(self._idle_seconds, self._end_idle, (started,))
        timer.daemon = True
        with self._lock:
            before, self._idle = self._idle, started
            before_timer, self._timer = self._timer, timer
        timer.start()
        if before_timer is not None:
            before_timer.cancel()
        if before is not None:
            before.end()

    def close(self) -> None:
        """End the idle one."""
        found = self._take()
        if found is not None:
            found.end()

    def _take(self) -> StartedProcess | None:
        with self._lock:
            found, self._idle = self._idle, None
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return found

    def _end_idle(self, started: StartedProcess) -> None:
        with self._lock:
            if self._idle is not started:
                return
            self._idle = self._timer = None
        started.end()

    def forget(self) -> None:
        """In a fork: what is kept belongs to the parent."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        found, self._idle, self._timer = self._idle, None, None
        if found is not None:
            found.forget()


KEPT = KeptProcess()
"""That of this program."""

atexit.register(KEPT.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=KEPT.forget)
