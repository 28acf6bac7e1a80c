"""A reader that fails the way engines do, as its document's file name says: `crash-2.pdf`, `hang-open.pdf`."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visrag_integrations.readers import OpenDocument, PageReader
from visrag_integrations.types import Page


@dataclass(frozen=True)
class CrashingReader(PageReader):
    """Crashes or hangs where the file's name says so; with `only`, in that engine alone. Leaves a file a page read.

    With `hangs`, a folder, a process that begins to hang leaves its id there: a test need not guess by the clock.
    """

    only: str | None = None
    notes: Path | None = None
    hangs: Path | None = None

    def open(self, source: Any, *, name: str | None = None) -> OpenDocument:
        what, _, where = Path(source.name).stem.partition("-")
        self._fail(what, where, "open")
        document = super().open(source)
        read = document.page

        def page(number: int) -> Page:
            self._fail(what, where, str(number))
            if self.notes is not None:
                (self.notes / f"{what}-{number}-{os.getpid()}").touch()
            return read(number)

        document.page = page
        return document

    def _fail(self, what: str, where: str, place: str) -> None:
        if where not in (place, "all" if place != "open" else place) or self.only not in (None, self.backend):
            return
        if what == "crash":
            os.abort()
        elif what == "exit":
            os._exit(3)
        elif what == "hang":
            if self.hangs is not None:
                (self.hangs / str(os.getpid())).touch()
            threading.Event().wait()
