"""Temporary folders that say whether somebody still has them.

    /tmp/visrag-reading-x1y2z3/
        .visrag-owner        locked by the process that made the folder, for as long as that process lives
        ...                  what it put there

The system frees a lock when its process ends, however it ends. So a folder whose lock is free is nobody's, and the next
one that makes a folder removes it. No process number is compared: those are used again, and a container has its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

if os.name != "nt":
    import fcntl

PREFIX = "visrag-"
_OWNER = ".visrag-owner"


class ScratchFolder:
    """A temporary folder; what processes that were killed left beside it is removed first.

    Args:
        what: What it is for, as part of its name.

    Attributes:
        path: Where it is.
    """

    def __init__(self, what: str) -> None:
        beside = Path(tempfile.gettempdir())
        remove_left(beside)
        lock: IO[bytes] | None = None
        while lock is None:
            self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{what}-", dir=beside))
            lock = _own(self.path)
        # Runs once: by `close`, or when a folder that nobody closed is collected, or when the process ends.
        self._finalizer = weakref.finalize(self, _close, self.path, lock, os.getpid())

    def close(self) -> None:
        """Remove it with everything in it."""
        self._finalizer()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put there, or all of it is gone."""
        return os.listdir(self.path) == [_OWNER]

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(folder: Path, lock: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:  # a fork of the process that has it
        return
    with contextlib.suppress(OSError):  # somebody else removed it: some systems do, by age
        _remove(folder)
    lock.close()
    shutil.rmtree(folder, ignore_errors=True)  # on Windows the lock could not be removed while it was open


def remove_left(folder: Path) -> None:
    """Remove the scratch folders of processes that are gone."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.startswith(PREFIX):
            with contextlib.suppress(OSError):
                _remove_if_left(folder / name)


def _own(folder: Path) -> IO[bytes] | None:
    """The lock of a new folder; None where another process took the folder for a left one before it was locked."""
    lock = (folder / _OWNER).open("xb")
    if os.name == "nt":  # an open file cannot be removed there, which says as much
        return lock
    with contextlib.suppress(OSError):  # a disk without locks: then nobody removes the folder, but its owner
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
    if (folder / _OWNER).exists():
        return lock
    lock.close()
    return None


def _remove_if_left(folder: Path) -> None:
    # Anybody may put names into a folder for temporary files: links are not followed, and what has no lock of this
    # user's is not this library's.
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    if folder.is_symlink():
        return
    handle = os.open(folder / _OWNER, flags)
    try:
        found: Any = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or (os.name != "nt" and found.st_uid != os.geteuid()):
            return
        if os.name != "nt":
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an OSError: somebody has it
            _remove(folder)
    finally:
        os.close(handle)
    if os.name == "nt":
        (folder / _OWNER).unlink()  # an OSError: somebody has it open
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove the folder, its lock last: what cannot be removed now is still known for a left one then."""
    complete = True
    for entry in os.scandir(folder):
        if entry.name == _OWNER:
            continue
        with contextlib.suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        complete = complete and not os.path.lexists(entry.path)
    if complete:
        with contextlib.suppress(OSError):
            os.unlink(folder / _OWNER)
            os.rmdir(folder)
