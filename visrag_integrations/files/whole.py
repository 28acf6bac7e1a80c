"""A file that is replaced from one moment to the next: who reads it sees the old one or the new one, never a part.

report.html                  the old one, until the new one is whole
.report.html.unfinished      what is being written; a run that was killed leaves it, the next one writes over it
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

if os.name != "nt":
    import fcntl

# Bytes of a name; what file systems allow nearly everywhere.
_LONGEST_NAME = 255


def write_whole(path: str | Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all; see `whole_file`."""
    with whole_file(path, durable=durable) as scratch:
        scratch.write_bytes(data)


@contextlib.contextmanager
def whole_file(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to; at the end of the block it becomes `path`.

    When the block raises, or the process is killed in it, the file that was there is as it was. A file that exists
    keeps its permissions. What is no file (a pipe, `/dev/stdout`) is written to as it is.

    Args:
        path: The file; a link is followed.
        durable: Wait until the bytes are on the disk, so that a power cut leaves the old file or the new one too.

    Raises:
        OSError: It cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield target
        return
    # The folder's permissions would let a new file take the place of one that must not be written to.
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    scratch = unfinished(target)
    with _alone(scratch):
        try:
            if target.exists():
                shutil.copymode(target, scratch)
            yield scratch
            if durable:
                _to_disk(scratch)
            os.replace(scratch, target)
        except BaseException as err:
            with contextlib.suppress(OSError):
                scratch.unlink()
            if isinstance(err, OSError) and err.filename is None:  # a full disk does not say whose bytes it refused
                err.filename = str(target)
            raise


def unfinished(target: Path) -> Path:
    """Where a file is written before it has its name: always the same place, so that kills leave one at most."""
    name = f".{target.name}.unfinished"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()}.unfinished"
    return target.with_name(name)


@contextlib.contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    """Make the empty file and hold it, so that two who write the same file do so one after the other."""
    while True:
        with scratch.open("ab") as file:
            # Windows renames no file that is open: there the last one to write wins, or is refused.
            if os.name == "nt":
                file.truncate(0)
                break
            with contextlib.suppress(OSError):  # some network disks know no locks
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            # The one who held it before has renamed it meanwhile: this is the finished file, not to be touched.
            if not _is_at(file.fileno(), scratch):
                continue
            file.truncate(0)
            yield
            return
    yield


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is the one that has this path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
