"""Stand-ins that wait instead of working: they show what a pipeline itself costs, whatever the machine is busy with."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from visrag_integrations import Page, PageReader
from visrag_integrations.images import Pixels
from visrag_integrations.readers import OpenDocument


class WaitingEmbedder:
    """Takes so many milliseconds a page, as a model on a device does: without the processor."""

    name, kind, dimension = "waiting", "single", 2304

    def __init__(self, milliseconds: float, reads: str = "text") -> None:
        self.seconds, self.reads = milliseconds / 1000, reads

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        numbers = [page.number for page in pages]
        time.sleep(self.seconds * len(numbers))
        return [np.random.default_rng(number).standard_normal(self.dimension, dtype=np.float32) for number in numbers]

    def embed_queries(self, queries: Iterable[Any]) -> list[np.ndarray]:
        return [np.ones(self.dimension, np.float32) for _ in queries]


@dataclass(frozen=True)
class WaitingReader(PageReader):
    """Waits so many milliseconds a page and gives blank pixels of the usual size, which travel like real ones."""

    milliseconds: float = 0.0

    def open(self, source: Any, *, name: str | None = None) -> OpenDocument:
        document = super().open(source)
        pixels = bytes(1344 * 1344 * 3)

        def page(number: int) -> Page:
            time.sleep(self.milliseconds / 1000)
            own = f"{document.doc_id}{number:8}".encode()  # no two pages are equal
            picture = Pixels(1344, 1344, own + pixels[len(own) :])
            metadata = {"total_pages": document.total_pages}
            return Page(document.doc_id, number, f"page {number}", document.source, metadata, picture=picture)

        document.page = page  # type: ignore[method-assign]
        return document
