"""An embedder that counts letters, and a Qdrant client that does something else at a call of one's choice."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from qdrant_client import QdrantClient

from visrag_integrations import Page, QdrantPageStore

TEXTS = ("a violin has strings", "taxes are due in april", "the moon is far", "zebras graze at dawn")


class Letters:
    """Vectors from a text's letters; `turn` makes another embedder of the same size."""

    fingerprint = instruction = None

    def __init__(self, name: str = "letters-a", kind: str = "single", dimension: int = 26, turn: int = 0) -> None:
        self.name, self.kind, self.dimension, self.turn = name, kind, dimension, turn
        self.embedded = 0

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        texts = [page.text for page in pages]
        self.embedded += len(texts)
        return [self._vector(text) for text in texts]

    def embed_queries(self, queries: Iterable[Any]) -> list[np.ndarray]:
        return [self._vector(getattr(query, "text", query)) for query in queries]

    def _vector(self, text: str) -> np.ndarray:
        counts = np.array([text.lower().count(chr(97 + place)) + 0.01 for place in range(26)], np.float32)
        vector = np.resize(np.roll(counts, self.turn), self.dimension)
        return vector if self.kind == "single" else np.tile(vector, (4, 1))


OLD, NEW = Letters("letters-a"), Letters("letters-b", turn=9)


def written(texts: Iterable[str] = TEXTS, doc_id: str = "book") -> list[Page]:
    """Page n has the n-th text."""
    return [Page(doc_id, number, text=text, source=f"{doc_id}.pdf") for number, text in enumerate(texts, 1)]


def filled(location: Any, embedder: Any = OLD, pages: list[Page] | None = None, **settings: Any) -> QdrantPageStore:
    """A store with pages that this embedder filled."""
    store = QdrantPageStore(location, **{"pictures": False, **settings})
    store.prepare(embedder)
    pages = written() if pages is None else pages
    store.add_pages(pages, embedder.embed_pages(pages))
    return store


class HookedClient(QdrantClient):
    """Calls `hook` right before its n-th request, once; a negative n never. `hook_after` comes after its answer."""

    def __init__(self, at: int, hook: Callable[[], object], *arguments: Any, **settings: Any) -> None:
        self._calls, self._at, self._hook = 0, -1, hook
        self._hook_after: Callable[[], object] = lambda: None
        super().__init__(*arguments, **{"check_compatibility": False, **settings})
        self._calls, self._at = 0, at

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found) or name in ("http", "close", "init_options"):
            return found

        @functools.wraps(found)
        def request(*arguments: Any, **settings: Any) -> Any:
            self._calls += 1
            is_it = self._calls == self._at
            if is_it:
                self._hook()
            answer = found(*arguments, **settings)
            if is_it:
                self._hook_after()
            return answer

        return request

    @property
    def calls(self) -> int:
        """How many requests there were."""
        return self._calls


class SharedMemory(HookedClient):
    """A hooked client of the collections that another client has in memory, which stays open."""

    def __init__(self, shared: QdrantClient, at: int = -1, hook: Callable[[], object] = lambda: None) -> None:
        super().__init__(at, hook, ":memory:")
        self._shared = shared  # else it could be collected, and close what both use
        self._client = shared._client

    def close(self, *_: Any, **__: Any) -> None:
        pass


@contextlib.contextmanager
def client_of(server: Any) -> Iterator[QdrantClient]:
    """A client of a fake server."""
    client = QdrantClient(server.url, check_compatibility=False)
    try:
        yield client
    finally:
        client.close()
