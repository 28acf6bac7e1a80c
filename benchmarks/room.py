"""Room on the disk for what a benchmark writes: asked before it begins, and looked at while it runs.

room = Room(folder, keep_free=5)
room.check(11_000 * pages, "100000 pages")       # ends the script with a sentence where the disk has less
while room.is_enough(): ...
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


class Room:
    """The disk of a folder, of which some gigabytes are never taken.

    Args:
        folder: Where it is written; None: the temporary folder.
        keep_free: Gigabytes that are left in any case, for everybody else on the machine.
    """

    def __init__(self, folder: Path | None, keep_free: float = 5) -> None:
        self.folder, self.keep_free = Path(folder or tempfile.gettempdir()), keep_free

    def free(self) -> float:
        """Gigabytes that are free."""
        return shutil.disk_usage(self.folder).free / 1e9

    def is_enough(self) -> bool:
        return self.free() > self.keep_free

    def check(self, needed: float, what: str) -> None:
        """End the script, before it has written anything, where so many bytes are too many."""
        free = self.free()
        if free - needed / 1e9 >= self.keep_free:
            return
        raise SystemExit(
            f"{what} take up to {needed / 1e9:.1f} GB in {self.folder}, where {free:.1f} GB are free and "
            f"{self.keep_free:g} GB are to stay free. Make room, or take another disk (--folder, or the variable "
            "TMPDIR) or fewer pages."
        )
