"""What to do where a document cannot be opened because of the machine: no copy of the document would change that."""

from __future__ import annotations

import errno
import os

_MEMORY = "Raise max_memory where it is set, close other programs, or split the document into several files."
_SPACE = "Free some space, or set TMPDIR to a folder on a disk that has some."
_TEMPORARY = "Free some space, close other files, or set TMPDIR to a folder that can be written to."
_FILES = "Close other files and programs, or allow more open files (ulimit -n)."
_RIGHTS = "Check the permissions of the file, and of the folder for temporary files (TMPDIR)."
_ADVICE = {
    errno.ENOMEM: _MEMORY,
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
}


def advice_for(err: BaseException | None) -> str:
    """What to do about an error whose cause is the machine; "" where the document itself is at fault.

    >>> advice_for(OSError(errno.ENOSPC, "No space left on device"))
    'Free some space, or set TMPDIR to a folder on a disk that has some.'
    >>> advice_for(OSError("cannot identify image file"))
    ''
    """
    while err is not None:
        if isinstance(err, MemoryError):
            return _MEMORY
        if "temporary directory" in str(err):  # tempfile tried to write into each, and does not say what hindered it
            return _TEMPORARY
        number = getattr(err, "errno", None)
        if number not in _ADVICE:
            number = _number_said(str(err))
        if number is not None:
            return _ADVICE[number]
        err = err.__cause__
    return ""


def _number_said(text: str) -> int | None:
    """The number of the system's error that a text ends with, as MuPDF's "cannot open a.pdf: Too many open files".

    Only its end counts, because a file may be named "Permission denied.pdf".
    """
    for number in _ADVICE:
        if text.rstrip(" .").endswith(f": {os.strerror(number)}"):
            return number
    return None


def reason_of(err: BaseException) -> str:
    """What an error says, without the number and the path that the system's own have, and never nothing.

    >>> reason_of(OSError(errno.ENOSPC, "No space left on device", "/tmp/x")), reason_of(MemoryError())
    ('No space left on device', 'there is not enough memory')
    """
    said = str(getattr(err, "strerror", None) or err).strip(" .")
    if said:
        return said
    return "there is not enough memory" if isinstance(err, MemoryError) else type(err).__name__
