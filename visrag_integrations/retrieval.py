"""A question in, scored pages out: embed the question, ask the store. Also by a page, by a region, and in two steps."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from visrag_integrations import images
from visrag_integrations.errors import EmbedderError, SettingError
from visrag_integrations.interfaces.arguments import refuse_name, refuse_text
from visrag_integrations.interfaces.embedders import default_mode_of, read_query
from visrag_integrations.interfaces.filters import join_filters
from visrag_integrations.interfaces.stores import (
    check_embedder,
    filled_by,
    store_of_tenant,
    stored_embeddings,
    why_nothing,
    without_document,
)
from visrag_integrations.types import Box, Mode, Page, Query, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, Filter, PageEmbedder, PageStore
    from visrag_integrations.interfaces.retrievers import Reranker

logger = logging.getLogger(__name__)

# Vectors of a page that is the query: more take longer and find the same. A page has some 750, a question 20.
_PAGE_AS_QUERY = 64


@dataclass(frozen=True)
class Search:
    """One of several searches whose queries are embedded together; the fields are the arguments of `retrieve`."""

    query: str | Query
    top_k: int = 5
    filter: Filter | None = None
    mode: Mode | None = None
    score_threshold: float | None = None


@dataclass(frozen=True)
class EmbeddedSearch:
    """A search whose query is embedded: everything `PageRetriever.find` needs."""

    query: Query
    vector: Embedding | None
    top_k: int
    filter: Filter | None
    mode: Mode
    score_threshold: float | None


class PageRetriever:
    """Finds the pages of a store that fit a question.

    Args:
        embedder: What filled the store; another one is refused at the first search that needs it.
        store: Where the pages are.
        mode: "dense" (vectors), "lexical" (words, BM25) or "hybrid" (both); the embedder's own default when None.
        filter: Holds for every search, together with the filter of the call.
        tenant: Only pages of this tenant are found, whatever a filter says; the store must know tenants.
        reranker: Scores again what was found, for example a `PageReranker` or a `CrossEncoderReranker`; its scores are
            those of the results.
        candidates: How many pages the reranker is given, at least.
    """

    def __init__(
        self,
        embedder: PageEmbedder,
        store: PageStore,
        *,
        mode: Mode | None = None,
        filter: Filter | None = None,
        reranker: Reranker | None = None,
        candidates: int = 50,
        tenant: str = "",
    ) -> None:
        refuse_name("embedder", embedder, "load_embedder")
        refuse_name("store", store, "QdrantPageStore")
        self.embedder, self.store, self.filter = embedder, store_of_tenant(store, tenant), filter
        _check_top_k(candidates, "candidates")
        self.reranker, self.candidates = reranker, candidates
        self.mode = _check_mode(mode or default_mode_of(embedder))
        self._checked: Any = None
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
        import asyncio  # whoever awaits this has it; a search on the command line does without

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
        refuse_text("queries", queries, "retrieve")
        searches = [Search(query, top_k, filter, mode, score_threshold) for query in queries]
        return [self.find(search) for search in self.embed(searches)]

    def embed(self, searches: Sequence[Search]) -> list[EmbeddedSearch]:
        """The first half of searches that need not be alike: all their queries are embedded as one batch."""
        ready = [self._ready(search) for search in searches]
        places = [place for place, search in enumerate(ready) if search.mode != "lexical"]
        if places:
            vectors = self._embed([ready[place].query for place in places])
            for place, vector in zip(places, vectors, strict=True):
                ready[place] = replace(ready[place], vector=vector)
        return ready

    def find(self, search: EmbeddedSearch) -> list[ScoredPage]:
        """The second half of a search: its pages, best first."""
        limit = search.top_k
        if self.reranker is not None:
            limit = max(search.top_k, self.candidates)
        hits = self._search(search.vector, search.query.text, limit, search.filter, search.mode)
        if search.vector is not None:
            self._check_store()  # between the two halves others may have filled it anew; in memory, as a rule
        if self.reranker is not None and hits:
            hits = self.reranker.rerank(search.query, hits, search.top_k)
        if search.score_threshold is None:
            return hits
        return [hit for hit in hits if hit.score >= search.score_threshold]

    def more_like(
        self,
        page: Page | str,
        top_k: int = 5,
        *,
        filter: Filter | None = None,
        mode: Mode | None = None,
        same_document: bool = True,
    ) -> list[ScoredPage]:
        """Pages like this one, best first; the page itself is left out, and nothing is reranked.

        Args:
            page: A page, or the id of a stored one. The vectors of a stored page are not made again. A page of many
                vectors is asked with their means, so that it costs little more than a question.
            top_k: At most so many pages.
            filter: Metadata the pages must have.
            mode: As in `retrieve`; the words are those of the page's text.
            same_document: False leaves out the other pages of its document too.
        """
        mode = self._mode_of(mode)
        _check_top_k(top_k)
        if isinstance(page, str):
            page = self._stored(page)
        condition = join_filters(self.filter, filter)
        if not same_document:
            condition = join_filters(condition, without_document(self.store, page.doc_id))
        vector = None
        if mode != "lexical":
            vector = self._vector_of(page)
        # One more than is wanted: the page itself is usually the best.
        hits = self._search(vector, page.text, top_k + 1, condition, mode)
        return [hit for hit in hits if hit.page.id != page.id][:top_k]

    def retrieve_region(
        self,
        page: Page | str,
        box: Box,
        top_k: int = 5,
        *,
        text: str = "",
        filter: Filter | None = None,
        mode: Mode = "dense",
    ) -> list[ScoredPage]:
        """Pages that show something like this part of a page, which itself is left out.

        Args:
            page: A page, or the id of a stored one; its picture is opened.
            box: Left, top, right, bottom as fractions of the page.
            top_k: At most so many pages.
            text: What to look for, in words, beside the picture.
            filter: Metadata the pages must have.
            mode: As in `retrieve`.
        """
        if isinstance(page, str):
            page = self._stored(page)
        query = Query(text, images.crop(page.open_image(), box))
        hits = self.retrieve(query, top_k + 1, filter=filter, mode=mode)
        return [hit for hit in hits if hit.page.id != page.id][:top_k]

    def _ready(self, search: Search) -> EmbeddedSearch:
        """The search with this retriever's own settings, checked; without a vector yet."""
        mode = self._mode_of(search.mode)
        _check_top_k(search.top_k)
        threshold = search.score_threshold
        if threshold is not None and mode != "dense" and self.reranker is None:
            raise SettingError(
                f"score_threshold={threshold} needs mode='dense'; scores of mode {mode!r} are comparable within "
                "one result list only. Leave it out, or say mode='dense'."
            )
        condition = join_filters(self.filter, search.filter)
        if not isinstance(search.query, (str, Query)):
            raise SettingError(
                f"The query is {type(search.query).__name__} {search.query!r}. Give a text, or a Query with a picture."
            )
        query = self._readable(search.query, mode)
        if isinstance(query.image, str):  # a retriever of somebody else's may take it
            raise SettingError(f"The query's image is a text. Give Path({query.image!r}), or the picture itself.")
        return EmbeddedSearch(query, None, search.top_k, condition, mode, threshold)

    def _mode_of(self, mode: Mode | None) -> Mode:
        """The mode of a call, or this retriever's own."""
        if mode is None:
            return self.mode
        return _check_mode(mode)

    def _stored(self, id_: str) -> Page:
        found = self.store.get_pages([id_])
        if not found:
            raise SettingError(
                f"No page with the id {id_!r} is stored. Give a Page, or the id of a stored one (Page.id)."
            )
        return found[0]

    def _vector_of(self, page: Page) -> Embedding:
        """The page's stored vectors, or new ones; as many as a question has."""
        from visrag_integrations.store.pooling import pool

        self._check_store()
        vector = stored_embeddings(self.store, [page.id], self.embedder).get(page.id)
        if vector is None:
            vector = self.embedder.embed_pages([page])[0]
        if vector.ndim == 2 and len(vector):
            return pool(vector, _PAGE_AS_QUERY)
        return vector

    def _readable(self, query: str | Query, mode: Mode) -> Query:
        """The query as a value; a picture is turned into text once where the embedder works on text."""
        if isinstance(query, str):
            return Query(query)
        if query.image is None or mode == "dense":
            return query
        text = read_query(self.embedder, query)
        if text is not None:
            return Query(text) if text.strip() else query
        if mode == "lexical" and not query.text.strip():
            raise SettingError("mode='lexical' searches words, and this query has only a picture. Say mode='dense'.")
        return query

    def _embed(self, queries: Sequence[Query]) -> list[Embedding]:
        self._check_store()
        plain: list[str | Query] = []
        for query in queries:
            # Every embedder takes a text; a `Query` only where there is a picture to look at.
            plain.append(query.text if query.image is None else query)
        vectors = self.embedder.embed_queries(plain)
        if len(vectors) != len(plain):
            raise EmbedderError(
                f"Embedder {self.embedder.name!r} gave {len(vectors)} vectors for {len(plain)} queries; "
                "embed_queries must give one each, in order."
            )
        return vectors

    def _search(
        self, vector: Embedding | None, text: str, top_k: int, filter: Filter | None, mode: Mode
    ) -> list[ScoredPage]:
        if vector is not None and not vector.any():  # nothing could be read from the query's picture
            if mode == "dense" or not text.strip():
                return []
            # Zeros are equally far from every page; the words decide alone.
            vector, mode = None, "lexical"
        if mode == "hybrid" and not text.strip():
            mode = "dense"
        hits = self.store.search(vector, text=text, top_k=top_k, filter=filter, mode=mode)
        if not hits:
            note = why_nothing(self.store, filter)
            if note:
                logger.warning("nothing was found, by the filter %s: %s", filter, note)
        return hits

    def _check_store(self) -> None:
        """The store was filled by this embedder; looked at again where it says something else of that than before.

        Another process may have filled it anew, or another retriever on the same store found that out. A store without
        a collection yet is left without one.
        """
        with self._lock:
            filled = filled_by(self.store)
            if filled is not None and filled is not self._checked:
                check_embedder(self.store, self.embedder)
                self._checked = filled_by(self.store)


class PageReranker:
    """Scores pages again, whoever found them: exactly, by a second embedder, from the vectors in its own store.

    Args:
        embedder: Usually of late interaction (MaxSim); only the query is embedded.
        store: What this embedder filled: a `QdrantPageStore`. It may be another collection than the retriever's; pages
            are known by `Page.id`.

    >>> reranker = PageReranker(load_embedder("vidore/colqwen2-v1.0-hf"), patches)  # doctest: +SKIP
    >>> PageRetriever(embedder, store, reranker=reranker).retrieve("how many?")  # doctest: +SKIP
    """

    def __init__(self, embedder: PageEmbedder, store: Any) -> None:
        self.embedder, self.store = embedder, store
        self._checked: Any = None

    def rerank(self, query: str | Query, hits: Sequence[ScoredPage], top_k: int | None = None) -> list[ScoredPage]:
        """The same pages by their exact score, best first; all of them when `top_k` is None.

        Pages the store has no vectors of are left out, with a warning.
        """
        if top_k is not None:
            _check_top_k(top_k)
        if not hits:
            return []
        filled = filled_by(self.store)
        if filled is not None and filled is not self._checked:
            check_embedder(self.store, self.embedder)
            self._checked = filled_by(self.store)
        (vector,) = self.embedder.embed_queries([query])
        scores = self.store.score(vector, [hit.page.id for hit in hits])
        score_type = "maxsim" if self.embedder.kind == "multi" else "cosine"
        reranked: list[ScoredPage] = []
        for hit in hits:
            score = scores.get(hit.page.id)
            if score is not None:
                reranked.append(replace(hit, score=score, score_type=score_type))
        if len(reranked) < len(hits):
            logger.warning("%d of %d pages have no vectors to rerank them by", len(hits) - len(reranked), len(hits))
        return sorted(reranked, key=lambda hit: -hit.score)[:top_k]  # stable: ties stay in the order they were found


def _check_mode(mode: str) -> Mode:
    for allowed in get_args(Mode):
        if mode == allowed:
            return allowed  # type: ignore[no-any-return]
    raise SettingError(f"mode is {mode!r}; allowed: {', '.join(get_args(Mode))}.")


def _check_top_k(top_k: int, name: str = "top_k") -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise SettingError(f"{name} is {top_k!r}; it is the number of pages wanted, 1 or more.")
