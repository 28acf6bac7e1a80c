"""An embedder for workers that are processes of their own: tells by files where it ran and what it embedded."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fakes import PixelEmbedder

from visrag_integrations.types import Page


class NotingEmbedder(PixelEmbedder):
    """Leaves an empty file `<pid>-<page id>` for each page, before it embeds it.

    Pages whose text says "poison" kill the process, those that say "broken" raise.
    """

    def __init__(self, notes: Path, seconds: float = 0.0) -> None:
        super().__init__()
        self.notes, self.seconds = notes, seconds

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        pages = list(pages)
        for page in pages:
            (self.notes / f"{os.getpid()}-{page.id}").touch()
            if "poison" in page.text:
                os.kill(os.getpid(), signal.SIGKILL)
            if "broken" in page.text:
                raise ConnectionResetError("the device is gone")
        time.sleep(self.seconds * len(pages))
        return super().embed_pages(pages)


def noted(notes: Path) -> list[tuple[int, str]]:
    """(process, page id) of every page that was embedded."""
    return [(int(pid), page_id) for pid, _, page_id in (path.name.partition("-") for path in notes.iterdir())]
