"""Scripted stand-ins for what is slow or random; everything else in the tests is real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visrag_integrations.interfaces import Filter
from visrag_integrations.types import Conversation, Generation, GenerationSettings, ScoredPage


class ScriptedGenerator:
    """Writes what was queued, in order, and remembers what it was asked and whether its stream was closed."""

    name = "scripted"

    def __init__(self, *texts: str | Generation) -> None:
        self.queue = [text if isinstance(text, Generation) else Generation(text) for text in texts]
        self.batches: list[list[Conversation]] = []
        self.closed = False

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        self.batches.append(list(conversations))
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
