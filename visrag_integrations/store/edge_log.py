"""The write-ahead log of the embedded engine, and when it has to be cut.

The engine writes each change into its log and forgets it there only when all files are written through ("flushed"),
which it does by itself on closing. Until then the log grows with all that is added: 13 KB a page of 2304 numbers,
more than the page itself takes; and after a kill all of it is played again before the index opens.
"""

from __future__ import annotations

from pathlib import Path

LONGEST = 8
"""Files of 32 MB that the log may grow by. A flush of as much takes about half a second, and a kill costs the next
opening five seconds of the processor; fewer cost adding more waits for the disk, more only room and that opening."""


class UpdateLog:
    """The log of one shard on the disk."""

    def __init__(self) -> None:
        self._kept = 0

    def is_long(self, shard: Path) -> bool:
        """Whether it grew by so much since it was cut."""
        return _full_files(shard) >= self._kept + LONGEST

    def was_cut(self, shard: Path) -> None:
        """Note what the engine left of it: it keeps the last files, whatever is in them."""
        self._kept = _full_files(shard)


def _full_files(shard: Path) -> int:
    """Files of the log that the engine has filled; the one it writes to now is called otherwise."""
    return sum(1 for _ in (shard / "wal").glob("closed-*"))
