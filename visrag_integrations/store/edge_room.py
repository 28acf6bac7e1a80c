"""Room on the disk for the embedded engine, looked at before it writes.

The engine maps its files into memory and writes into parts of them that have no place on the disk yet. Where the disk
has none to give, the system ends the process by a signal (SIGBUS), and no error can be raised any more. So what an
operation may take is reckoned from above, and refused where the disk has less.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from visrag_integrations.errors import DiskFullError, printable
from visrag_integrations.store.engine import Point, SparseVector

KEPT_FREE = 32 << 20
"""Bytes that stay free beside what an operation takes: for what other programs write in the moment between the look and
the end of the operation, and for the engine's own notes. A program writes less than that in a twentieth of a second;
more would refuse small disks that have room."""
# Bytes of a new collection on a memory file system (21 MB, measured); on others it takes 0.2 MB.
_OF_A_COLLECTION = 24 << 20
# The same where pages are removed, which is how people make room: the engine writes a few bytes for each.
_KEPT_FREE_TO_REMOVE = 2 << 20
# Measured with 50 pages: 2.3 bytes for each byte of float32 vectors (the log has them too, in a longer form); text is
# in the log and in the store.
_OF_VECTORS = 3
_OF_PAYLOAD = 6
# A word's number and weight, in the log, in the store and in its index.
_OF_WORD = 48
# Indexes and the places of each page in every file: the engine takes room by blocks of some 100 bytes.
_OF_PAGE = 4 << 10
_OF_REMOVED = 1 << 10
# To change a page's payload writes it anew, and its size is not known here: text and words seldom have more.
_OF_CHANGED = 64 << 10
_OF_INDEXED = 1 << 10
# The engine is loaded and closed in another process, which may end by the signal in place of this one.
_TRIAL = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import qdrant_edge; "
    "qdrant_edge.EdgeShard.load(sys.argv[2]).close()"
)


class DiskRoom:
    """The room on the disk of one collection. Each method raises `DiskFullError` where there is too little.

    Args:
        home: The folder of the collection, there or not yet.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._in_memory: bool | None = None

    def check_new(self) -> None:
        """For a new collection."""
        self._check(_OF_A_COLLECTION, "making a collection")

    def check_adding(self, points: Sequence[Point]) -> None:
        """For these points."""
        needed = 0
        for point in points:
            needed += _OF_PAGE + _OF_PAYLOAD * len(json.dumps(point.payload, ensure_ascii=False, default=str))
            for vector in point.vectors.values():
                if isinstance(vector, SparseVector):
                    needed += _OF_WORD * len(vector.indices)
                else:
                    needed += _OF_VECTORS * vector.nbytes
        self._check(needed, "adding pages")

    def check_removing(self, count: int) -> None:
        """To remove so many points."""
        self._check(_OF_REMOVED * count, "removing pages", _KEPT_FREE_TO_REMOVE)

    def check_changing(self, count: int) -> None:
        """To change the payload of so many points."""
        self._check(_OF_CHANGED * count, "changing pages")

    def check_indexing(self, count: int) -> None:
        """For an index of one field of so many points."""
        self._check(_OF_INDEXED * count, "indexing metadata")

    def check_reading(self) -> None:
        """For searches: on a memory file system they take room too, on a disk none."""
        if self._in_memory is None:
            self._in_memory = _is_in_memory(self._home)
        if self._in_memory:
            self._check(0, "reading from a memory file system (tmpfs)")

    def check_opening(self, shard: Path) -> None:
        """To load the engine. Where there may be too little room this is tried in another process first."""
        unwritten = _unwritten(shard)
        if _free(self._home) >= unwritten + KEPT_FREE:
            return
        command = [sys.executable, "-c", _TRIAL, json.dumps(sys.path), str(shard)]
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        # An error that it says is raised again where the engine is loaded in this process; a signal says nothing.
        if tried.returncode < 0:
            raise self._full("opening the index", unwritten + KEPT_FREE)
        self.check_reading()

    def _check(self, needed: int, doing: str, kept_free: int = KEPT_FREE) -> None:
        if _free(self._home) < needed + kept_free:
            raise self._full(doing, needed + kept_free)

    def _full(self, doing: str, needed: int) -> DiskFullError:
        index = f"{printable(str(self._home.parent))} (collection {self._home.name!r})"
        return DiskFullError(
            f"{index}: {doing} needs up to {_mb(needed)} MB of free space on the disk, and "
            f"{_mb(_free(self._home))} MB are free. Make room there and do the same again; what was added before is "
            "kept."
        )


def _free(home: Path) -> int:
    """Bytes that this user may still write where the folder is, or will be."""
    place = Path(os.path.abspath(home))
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def _unwritten(folder: Path) -> int:
    """Bytes of the files in a folder that have no place on the disk: at most so many can still be taken for them."""
    unwritten = 0
    for path in folder.rglob("*"):
        found = path.lstat()
        # Windows knows no blocks here, and gives its files their room when they are made.
        unwritten += max(0, found.st_size - getattr(found, "st_blocks", found.st_size) * 512)
    return unwritten


def _is_in_memory(home: Path) -> bool:
    """Whether the folder is on a memory file system, which takes room for parts of files that are only read."""
    try:
        device = os.stat(home).st_dev
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields = line.split()
        # 36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw
        if fields[2] == number and "-" in fields:
            return fields[fields.index("-") + 1] in ("tmpfs", "ramfs")
    return False


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f}"
