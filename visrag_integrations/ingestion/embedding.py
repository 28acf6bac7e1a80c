"""Batches of pages into vectors: equal pages once, and a page that cannot be embedded never takes others with it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from visrag_integrations.errors import EmbedderError, VisRAGError
from visrag_integrations.ingestion.together import EmbedsPages
from visrag_integrations.store import content_key
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

_MAX_CRASHES = 5
"""After so many pages in a row on which the embedder itself broke, it is the embedder, not the pages."""


class Equals(Protocol):
    """Knows the vectors of stored pages that are equal to some of these, by `content_key`."""

    def embeddings_of_equals(self, pages: Sequence[Page]) -> Mapping[str, Any]: ...


class Embedding:
    """Embeds batches. Vectors of pages with the same picture and text are taken from the store, or made once.

    Attributes:
        flying: content key -> vector of pages that are on their way into the store.
        embedded: How many pages the embedder made vectors for.
    """

    def __init__(
        self,
        embedder: EmbedsPages,
        store: Equals,
        on_failure: Callable[[Page, Exception], None],
    ) -> None:
        self._embedder, self._store, self._fail = embedder, store, on_failure
        self._largest = sys.maxsize
        self._crashes = 0
        self.flying: dict[str, Any] = {}
        self.embedded = 0

    def embed(self, pages: Sequence[Page]) -> tuple[list[Page], list[Any], list[str]]:
        """The pages that could be embedded, a vector for each, and their content keys."""
        if not pages:
            return [], [], []
        keys = [content_key(page) or page.id for page in pages]
        vectors: dict[str, Any] = {key: self.flying[key] for key in keys if key in self.flying}
        unknown = [page for key, page in zip(keys, pages, strict=True) if key not in vectors]
        vectors |= dict(self._store.embeddings_of_equals(unknown))
        todo = {key: page for key, page in zip(keys, pages, strict=True) if key not in vectors}
        made, refused = self._embed_all(list(todo.values()))
        vectors |= {key: made[page.id] for key, page in todo.items() if page.id in made}
        for key, page in zip(keys, pages, strict=True):
            if key not in vectors:
                self._fail(page, refused[todo[key].id])
        kept = [(page, vectors[key], key) for key, page in zip(keys, pages, strict=True) if key in vectors]
        self.flying |= {key: vector for _, vector, key in kept}
        return [page for page, _, _ in kept], [vector for _, vector, _ in kept], [key for _, _, key in kept]

    def _embed_all(self, pages: list[Page]) -> tuple[dict[str, Any], dict[str, Exception]]:
        """By page id: the vectors, and of pages that could not be embedded why."""
        made: dict[str, Any] = {}
        refused: dict[str, Exception] = {}
        waiting = [pages]
        while waiting:
            batch = waiting.pop()
            size = min(len(batch), self._largest)
            if size < len(batch):
                waiting.append(batch[size:])
                batch = batch[:size]
            if not batch:
                continue
            error = self._try(batch, made)
            if error is not None and len(batch) > 1:
                half = (len(batch) + 1) // 2
                waiting += [batch[half:], batch[:half]]
            elif error is not None:
                self._count_crash(error)
                refused[batch[0].id] = error
        return made, refused

    def _try(self, batch: list[Page], made: dict[str, Any]) -> Exception | None:
        try:
            vectors = list(self._embedder.embed_pages(batch))
            if len(vectors) != len(batch):
                raise EmbedderError(
                    f"The embedder {self._embedder.name!r} gave {len(vectors)} vectors for {len(batch)} pages."
                )
        except Exception as err:  # noqa: BLE001  embedders of all kinds raise anything
            error = (
                err.with_traceback(None) if _is_out_of_memory(err) else err
            )  # its frames hold what filled the memory
        else:
            made |= {page.id: vector for page, vector in zip(batch, vectors, strict=True)}
            self.embedded += len(batch)
            self._crashes = 0
            return None
        if _is_out_of_memory(error):
            self._largest = max(1, len(batch) // 2)
            logger.warning("out of memory with %d pages; going on with at most %d", len(batch), self._largest)
            _free_memory()
        return error

    def _count_crash(self, error: Exception) -> None:
        if not isinstance(error, VisRAGError) and not _is_out_of_memory(error):
            self._crashes += 1
            if self._crashes >= _MAX_CRASHES:
                raise error


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether less at once may help.

    >>> _is_out_of_memory(RuntimeError("CUDA out of memory. Tried to ...")), _is_out_of_memory(ValueError("no"))
    (True, False)
    """
    named = type(error).__name__ == "OutOfMemoryError"
    return named or isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def _free_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
