"""A Python process that has been started to read, before anybody tells it how: it imports meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from visrag_integrations.files import ScratchFolder
from visrag_integrations.readers import child_process, messages

# Seconds. A start takes half of one; a very busy machine takes far longer, and giving up would end the whole run.
START_TIMEOUT = 120.0
# The program is given as text, so that the caller's own script is never run again, whatever it looks like.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from visrag_integrations.readers.worker import main; main(sys.argv[2])"
)
# Seconds for an idle process to answer; longer, and it is not worth waiting for.
_ANSWER_TIMEOUT = 10.0


@dataclass(frozen=True)
class Surroundings:
    """What a process takes over from the one that starts it: another start, in others, could read otherwise."""

    folder: str
    environment: Mapping[str, str]
    path: tuple[str, ...]

    @classmethod
    def now(cls) -> Surroundings:
        folder = ""
        with contextlib.suppress(OSError):  # it was removed
            folder = os.getcwd()
        return cls(folder, dict(os.environ), tuple(sys.path))


@dataclass
class StartedProcess:
    """A reading process and the way to it.

    Attributes:
        process: Leads a group of its own where there are groups.
        connection: See `worker`.
        folder: For its temporary files: a process that is killed cannot remove what it made.
        surroundings: In which it was started.
        setup: The settings with which it has read; None where it has read nothing yet.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    folder: ScratchFolder
    surroundings: Surroundings
    setup: bytes | None = field(default=None, repr=False)  # it holds the password

    @classmethod
    def start(cls) -> StartedProcess:
        """A new one; on Linux and macOS this does not wait for it.

        Raises:
            child_process.ChildDied: It ended at once.
        """
        surroundings = Surroundings.now()
        folder = ScratchFolder("reading")
        os.chmod(folder.path, 0o711)  # a browser that runs as another user has a folder of its own in there
        command = [sys.executable, "-c", _PROGRAM, json.dumps(list(surroundings.path))]
        own_folder = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder.path))
        try:
            environment = {**surroundings.environment, **own_folder}
            process, connection = child_process.start(command, environment, START_TIMEOUT)
        except BaseException:
            folder.close()
            raise
        return cls(process, connection, folder, surroundings)

    def fits(self, setup: bytes) -> bool:
        """Whether it is alive and reads as a new one with this setup would."""
        if self.process.poll() is not None or self.surroundings != Surroundings.now():
            return False
        return self.setup in (None, setup)

    def rests(self) -> bool:
        """Let it forget the documents it has read; whether it may then read those of another call."""
        try:
            self.connection.send(("rest", None, None))
            if not self.connection.poll(_ANSWER_TIMEOUT) or messages.receive(self.connection) != ("resting", True):
                return False
            # What it left in its folder is of a document, and nothing of one document may reach another.
            return self.folder.is_empty
        except (EOFError, OSError):  # it is gone, or its folder is: some systems remove temporary files by their age
            return False

    def end(self, grace: float = 0.0) -> int:
        """End it, with what it started, after so many seconds in which it may end by itself; gives its exit code."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        child_process.end(self.process)
        code = self.process.wait()
        self.folder.close()
        return code

    def forget(self) -> None:
        """After a fork, in the new process, whose parent alone has it: leave it alone."""
        # An open end here would hide from the reading process that its parent is gone.
        self.connection.close()
        self.process.returncode = 0  # or Python warns that nobody waited for it
