"""A question in, scored pages out: embed the question, ask the store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from visrag_integrations.errors import EmbedderError, SettingError
from visrag_integrations.types import Mode, Query, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, Filter, PageEmbedder, PageStore


class PageRetriever:
    """Finds the pages of a store that fit a question.

    Args:
        embedder: What filled the store; another one is refused at the first search that needs it.
        store: Where the pages are.
        mode: "dense" (vectors), "lexical" (words, BM25) or "hybrid" (both); the embedder's own default when None.
        filter: Holds for every search, together with the filter of the call.
    """

    def __init__(
        self, embedder: PageEmbedder, store: PageStore, *, mode: Mode | None = None, filter: Filter | None = None
    ) -> None:
        self.embedder, self.store, self.filter = embedder, store, filter
        self.mode = _check_mode(mode or getattr(embedder, "default_mode", None) or "dense")
        self._checked = False
        self._lock = threading.Lock()

    def retrieve(
        self,
        query: str | Query,
        top_k: int = 5,
        *,
        filter: Filter | None = None,
        mode: Mode | None = None,
        score_threshold: float | None = None,
    ) -> list[ScoredPage]:
        """The best pages, best first.

        Args:
            query: A text of any length (embedders and the lexical search read the beginning of a very long one), or a
                `Query` with a picture.
            top_k: At most so many pages.
            filter: Metadata the pages must have, for example `{"source": "report.pdf"}`.
            mode: Another way to search than this retriever's own.
            score_threshold: Pages with a lower score are left out; for mode "dense" only, whose scores are comparable.
        """
        return self.retrieve_many([query], top_k, filter=filter, mode=mode, score_threshold=score_threshold)[0]

    async def aretrieve(
        self,
        query: str | Query,
        top_k: int = 5,
        *,
        filter: Filter | None = None,
        mode: Mode | None = None,
        score_threshold: float | None = None,
    ) -> list[ScoredPage]:
        """`retrieve` in a thread of its own, so that the event loop goes on."""
        return await asyncio.to_thread(
            self.retrieve, query, top_k, filter=filter, mode=mode, score_threshold=score_threshold
        )

    def retrieve_many(
        self,
        queries: Iterable[str | Query],
        top_k: int = 5,
        *,
        filter: Filter | None = None,
        mode: Mode | None = None,
        score_threshold: float | None = None,
    ) -> list[list[ScoredPage]]:
        """The best pages for every query, in order; the queries are embedded as one batch. See `retrieve`."""
        mode = self.mode if mode is None else _check_mode(mode)
        _check_top_k(top_k)
        if score_threshold is not None and mode != "dense":
            raise SettingError(
                f"score_threshold={score_threshold} needs mode='dense'; scores of mode {mode!r} are comparable within "
                "one result list only. Leave it out, or say mode='dense'."
            )
        both = _both(self.filter, filter)
        asked = [self._readable(query, mode) for query in queries]
        vectors = self._embed(asked) if mode != "lexical" else [None] * len(asked)
        found = [
            self._search(query.text, vector, top_k, both, mode) for query, vector in zip(asked, vectors, strict=True)
        ]
        if score_threshold is None:
            return found
        return [[hit for hit in hits if hit.score >= score_threshold] for hits in found]

    def _readable(self, query: str | Query, mode: Mode) -> Query:
        """The query as a value; a picture is turned into text once where the embedder works on text."""
        query = Query(query) if isinstance(query, str) else query
        if query.image is None or mode == "dense":
            return query
        read = getattr(self.embedder, "read_query", None)
        if read is not None:
            text = read(query)
            return Query(text) if text.strip() else query
        if mode == "lexical" and not query.text.strip():
            raise SettingError("mode='lexical' searches words, and this query has only a picture. Say mode='dense'.")
        return query

    def _embed(self, queries: Sequence[Query]) -> list[Embedding]:
        self._check_store()
        plain = [query if query.image is not None else query.text for query in queries]
        vectors = self.embedder.embed_queries(plain)
        if len(vectors) != len(plain):
            raise EmbedderError(
                f"Embedder {self.embedder.name!r} gave {len(vectors)} vectors for {len(plain)} queries; "
                "embed_queries must give one each, in order."
            )
        return vectors

    def _search(
        self, text: str, vector: Embedding | None, top_k: int, filter: Filter | None, mode: Mode
    ) -> list[ScoredPage]:
        if vector is not None and not vector.any():  # nothing could be read from the query's picture
            if mode == "dense" or not text.strip():
                return []
            vector, mode = None, "lexical"
        if mode == "hybrid" and not text.strip():
            mode = "dense"
        return self.store.search(vector, text=text, top_k=top_k, filter=filter, mode=mode)

    def _check_store(self) -> None:
        """Once: the store was filled by this embedder. A store without a collection yet is left without one."""
        with self._lock:
            if not self._checked and getattr(self.store, "info", True) is not None:
                self.store.prepare(self.embedder)
                self._checked = True


def _check_mode(mode: str) -> Mode:
    for allowed in get_args(Mode):
        if mode == allowed:
            return allowed  # type: ignore[no-any-return]
    raise SettingError(f"mode is {mode!r}; allowed: {', '.join(get_args(Mode))}.")


def _check_top_k(top_k: int) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise SettingError(f"top_k is {top_k!r}; it is the number of pages wanted, 1 or more.")


def _both(first: Filter | None, second: Filter | None) -> Filter | None:
    """One filter that asks for everything either asks for."""
    if not first or not second:
        return first or second
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        raise SettingError("The retriever and this call both have a filter; two can be joined only if both are dicts.")
    for key in first.keys() & second.keys():
        if first[key] != second[key]:
            raise SettingError(
                f"The retriever's filter asks for {key!r}={first[key]!r} and this call for {second[key]!r}. "
                "Use a retriever without that key, or leave it out of the call."
            )
    return {**first, **second}
