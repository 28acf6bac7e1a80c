"""Which pictures of an embedded collection go unless a page shows them: noted before the step that a kill may cut off.

    <folder>/<collection>/due_pictures      a reference a line

    saving     note the picture, save it, store its page, strike it
    removing   note the picture, remove its page, remove it, strike it

So after a kill the list names all pictures that may have no page, and no others need to be looked at.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Collection
from pathlib import Path

from visrag_integrations.errors import DiskFullError, StoreError, printable

NAME = "due_pictures"
# Bytes of a reference; what is longer was not written by this library.
_LONGEST = 1024


class DuePictures:
    """The list of one collection, shared by all stores of this process on it; others are kept out by the folder's lock.

    Args:
        path: Where it is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._noted: set[str] = set()
        self._left: set[str] | None = None

    def note(self, references: Collection[str]) -> None:
        """These go unless a page shows them; when it returns, the list survives a kill.

        Raises:
            StoreError: It cannot be written, and so the step that was to follow must not be made.
        """
        if not references:
            return
        with self._guard:
            self._load()
            try:
                with self._path.open("ab") as file:
                    file.write("".join(f"{reference}\n" for reference in references).encode("utf-8"))
            except OSError as err:
                raise self._unwritable(err) from err
            self._noted.update(references)

    def strike(self, references: Collection[str]) -> None:
        """These are shown, or gone."""
        with self._guard:
            left = self._load()
            left.difference_update(references)
            self._noted.difference_update(references)
            # What is struck stays in the file until all is: to look at it once more after a kill costs little.
            if not left and not self._noted:
                self._path.unlink(missing_ok=True)

    def left(self) -> set[str]:
        """What an earlier process noted and did not come to strike."""
        with self._guard:
            return set(self._load())

    def all(self) -> set[str]:
        """What is noted, by this process or an earlier one."""
        with self._guard:
            return self._load() | self._noted

    def _unwritable(self, err: OSError) -> StoreError:
        path = printable(str(self._path))
        if err.errno == errno.ENOSPC:
            return DiskFullError(f"{path} cannot be written: {err.strerror}. Make room, and do the same again.")
        return StoreError(
            f"{path} cannot be written: {err.strerror}. Is the index folder still there, and may it be written to?"
        )

    def _load(self) -> set[str]:
        if self._left is None:
            self._left = set()
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return self._left
            # A kill may cut off the last line; its step was not begun.
            for line in data[: data.rfind(b"\n") + 1].splitlines():
                if len(line) <= _LONGEST:
                    self._left.add(line.decode("utf-8", "replace"))
        return self._left
