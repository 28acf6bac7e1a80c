"""Scripted stand-ins for what is slow or random; everything else in the tests is real."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from visrag_integrations.errors import PictureError
from visrag_integrations.images import open_picture
from visrag_integrations.interfaces import Filter
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page, Query, ScoredPage


class ScriptedGenerator:
    """Writes what was queued, in order, and remembers what it was asked, how, and whether its stream was closed."""

    name = "scripted"

    def __init__(self, *texts: str | Generation) -> None:
        self.queue = [text if isinstance(text, Generation) else Generation(text) for text in texts]
        self.batches: list[list[Conversation]] = []
        self.asked_with: GenerationSettings | None = None
        self.closed = False

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.batches.append(list(conversations))
        self.asked_with = settings
        return [self.queue.pop(0) for _ in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        self.batches.append([conversation])
        whole = self.queue.pop(0)
        try:
            for start in range(0, len(whole.text), 7):
                yield Generation(whole.text[start : start + 7])
            yield Generation("", whole.logprob, whole.usage, "stop")
        finally:
            self.closed = True


class ScriptedRetriever:
    """Gives the same pages to every question, and remembers the calls."""

    def __init__(self, *hits: ScoredPage) -> None:
        self.hits = hits
        self.calls: list[tuple[str, int, Filter | None]] = []

    def retrieve(self, query: str, top_k: int = 5, *, filter: Filter | None = None) -> Sequence[ScoredPage]:
        self.calls.append((query, top_k, filter))
        return self.hits[:top_k]


class PixelEmbedder:
    """One vector of coarse pixels and letter counts: what looks or is spelt alike is near. Milliseconds a page."""

    name, kind, dimension = "pixels", "single", 48 + 26

    def __init__(self) -> None:
        self.embedded = 0

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        vectors = [self._vector(page.text, page.open_image() if page.picture is not None else None) for page in pages]
        self.embedded += len(vectors)
        return vectors

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        asked = [Query(query) if isinstance(query, str) else query for query in queries]
        return [self._vector(q.text, None if q.image is None else open_picture(q.image)) for q in asked]

    def _vector(self, text: str, image: Any) -> Any:
        pixels = np.zeros(48) if image is None else np.asarray(image.convert("RGB").resize((4, 4))).ravel() / 255 - 0.5
        letters = np.array([text.casefold().count(chr(97 + i)) for i in range(26)]) / max(1, len(text))
        return np.concatenate([pixels, letters + 1e-3]).astype(np.float32)


class CountingEmbedder:
    """Embeds the words "alpha", "beta", ... of a page as axes, and counts what it was asked for."""

    name, kind, dimension = "counting", "single", 4
    fingerprint = "1"
    words = ("alpha", "beta", "gamma", "delta")

    def __init__(self, refuse: str = "") -> None:
        self.embedded: list[tuple[str, int]] = []
        self.refuse = refuse

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        pages = list(pages)
        if self.refuse and any(self.refuse in page.text for page in pages):
            raise PictureError("this page cannot be embedded")
        self.embedded += [(page.source, page.number) for page in pages]
        return [self._vector(page.text) for page in pages]

    def embed_queries(self, queries: Iterable[object]) -> list[np.ndarray]:
        return [self._vector(str(query)) for query in queries]

    def _vector(self, text: str) -> np.ndarray:
        return np.array([text.count(word) + 0.01 for word in self.words], dtype=np.float32)
