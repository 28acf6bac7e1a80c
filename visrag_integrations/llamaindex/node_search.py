"""The ways to search nodes: LlamaIndex's query modes on a page store."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.stores import check_embedder, gives_embeddings, stored_embeddings
from visrag_integrations.llamaindex.filters import CoreFilter
from visrag_integrations.llamaindex.node_pages import picture_key
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.types import Mode, ScoredPage

# LlamaIndex's ways to search, as ours.
_MODES: dict[VectorStoreQueryMode, Mode] = {
    VectorStoreQueryMode.SPARSE: "lexical",
    VectorStoreQueryMode.TEXT_SEARCH: "lexical",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    VectorStoreQueryMode.MMR: "dense",
}
_HALF = 100
"""Nodes that each half of a weighted hybrid search proposes, at least: as the store's own hybrid search does."""
_MOST_PIECES = 4096
"""Nodes looked at to find so many different pages: a page cut into more pieces than that for each page wanted does not
make a search endless."""


@dataclass(frozen=True)
class NodeSearcher:
    """Searches one store for nodes.

    Attributes:
        core: The store and its embedder.
        takes_vectors: Whether LlamaIndex's flat vectors are of this embedder's kind.
    """

    core: PageRetriever
    takes_vectors: bool

    def find(self, query: VectorStoreQuery, mode: Mode, condition: CoreFilter | None) -> list[ScoredPage]:
        """The best nodes, best first."""
        top_k = _top_k(query, mode)
        if query.mode == VectorStoreQueryMode.MMR:
            return self._most_marginal(query, self.vector(query), condition)
        if mode == "dense":
            return _different_pages(lambda count: self._search(query, "dense", count, condition), top_k)
        if mode == "hybrid" and query.alpha is not None:
            return self._weighted(query, top_k, query.alpha, condition)
        return self._search(query, mode, top_k, condition)

    def mode_of(self, query: VectorStoreQuery) -> Mode:
        """LlamaIndex's query mode in the core's words.

        Raises:
            SettingError: One that is not known here.
        """
        if query.mode == VectorStoreQueryMode.DEFAULT:
            return self.core.mode
        if query.mode not in _MODES:
            known = ", ".join(mode.value for mode in (VectorStoreQueryMode.DEFAULT, *_MODES))
            raise SettingError(f"The query mode {query.mode.value!r} is not known here; there are {known}.")
        return _MODES[query.mode]

    def vector(self, query: VectorStoreQuery) -> Any:
        """The question's vector: the one it has, or made now."""
        if query.query_embedding is not None and self.takes_vectors:
            return np.asarray(query.query_embedding, np.float32)
        return self.core.embedder.embed_queries([query.query_str or ""])[0]

    def _search(
        self, query: VectorStoreQuery, mode: Mode, top_k: int, condition: CoreFilter | None
    ) -> list[ScoredPage]:
        text = query.query_str or ""
        # Words, or a question that the store's own embedder has to see.
        if mode == "lexical" or query.query_embedding is None or not self.takes_vectors:
            if not text.strip():
                raise SettingError("The query has neither a text nor an embedding. Give query_str or query_embedding.")
            return self.core.retrieve(text, top_k, filter=condition, mode=mode)
        if not text.strip():
            mode = "dense"  # there are no words to search for
        return self.core.store.search(self.vector(query), text=text, top_k=top_k, filter=condition, mode=mode)

    def _weighted(
        self, query: VectorStoreQuery, top_k: int, alpha: float, condition: CoreFilter | None
    ) -> list[ScoredPage]:
        """Both halves, the dense one weighing `alpha`, as LlamaIndex's own stores do it.

        Each half's scores are stretched to 0 (its worst) to 1 (its best); a node missing in a half has 0 there.
        """
        if not 0 <= alpha <= 1:
            raise SettingError(f"alpha is {alpha}; it goes from 0 (words alone) to 1 (vectors alone).")
        count = max(_HALF, top_k)
        dense = self._search(query, "dense", count, condition) if alpha > 0 else []
        words = (
            self._search(query, "lexical", count, condition) if alpha < 1 and (query.query_str or "").strip() else []
        )
        found: dict[str, ScoredPage] = {}
        scores: dict[str, float] = {}
        for hits, weight in ((dense, alpha), (words, 1 - alpha)):
            for hit, score in zip(hits, _stretched(hits), strict=True):
                found[hit.page.id] = hit
                scores[hit.page.id] = scores.get(hit.page.id, 0.0) + weight * score
        best = sorted(scores, key=lambda id_: -scores[id_])[:top_k]
        return [ScoredPage(found[id_].page, scores[id_], "fused") for id_ in best]

    def _most_marginal(self, query: VectorStoreQuery, vector: Any, condition: CoreFilter | None) -> list[ScoredPage]:
        """Nodes that fit the question and differ from each other."""
        store = self.core.store
        embedder = self.core.embedder
        if not self.takes_vectors or not gives_embeddings(store):
            raise SettingError(f"The query mode 'mmr' needs single vectors; {embedder.name!r} makes many a page.")
        # More than are wanted, so that there is something to choose from.
        fetched = store.search(vector, top_k=max(20, 4 * query.similarity_top_k), filter=condition)
        if fetched:
            check_embedder(store, embedder)  # another one's vectors would be compared with the question's
        stored = stored_embeddings(store, [hit.page.id for hit in fetched], embedder)
        hits = {hit.page.id: hit for hit in fetched if hit.page.id in stored}
        scores, chosen = get_top_k_mmr_embeddings(
            vector.tolist(),
            [stored[id_].tolist() for id_ in hits],
            similarity_top_k=query.similarity_top_k,
            embedding_ids=list(hits),
            mmr_threshold=query.mmr_threshold,
        )
        found = []
        for id_, score in zip(chosen, scores, strict=True):
            found.append(ScoredPage(hits[id_].page, float(score), "mmr"))
        return found


def _different_pages(search: Callable[[int], list[ScoredPage]], top_k: int) -> list[ScoredPage]:
    """The best nodes, those of different pages first: pieces of one page share its picture, and so their score.

    Where the pages are fewer than `top_k`, further pieces fill the place.
    """
    count = top_k
    while True:
        hits = search(count)
        first, more = _first_of_each(hits)
        if len(first) >= top_k or len(hits) < count or count >= _MOST_PIECES:
            break
        count = min(4 * count, max(count + 1, _MOST_PIECES))
    chosen = [*first, *more][:top_k]
    return sorted(chosen, key=lambda hit: -hit.score)  # stable: equal ones stay in the order of the search


def _first_of_each(hits: Sequence[ScoredPage]) -> tuple[list[ScoredPage], list[ScoredPage]]:
    """The best piece of every page, and the others."""
    seen: set[Hashable] = set()
    first = []
    more = []
    for hit in hits:
        key = picture_key(hit.page)
        if key in seen:
            more.append(hit)
        else:
            first.append(hit)
        seen.add(key)
    return first, more


def _stretched(hits: Sequence[ScoredPage]) -> list[float]:
    """The scores from 0 to 1; all 1 where they are equal.

    >>> from visrag_integrations.types import Page
    >>> _stretched([ScoredPage(Page("d", 1), 8.0), ScoredPage(Page("d", 2), 6.0), ScoredPage(Page("d", 3), 4.0)])
    [1.0, 0.5, 0.0]
    """
    scores = [hit.score for hit in hits]
    if not scores:
        return []
    low = min(scores)
    span = max(scores) - low
    if span == 0:
        return [1.0] * len(scores)
    return [(score - low) / span for score in scores]


def _top_k(query: VectorStoreQuery, mode: Mode) -> int:
    """How many nodes; LlamaIndex has a number of its own for each way to search."""
    own = {"hybrid": query.hybrid_top_k, "lexical": query.sparse_top_k, "dense": None}[mode]
    if own is None or query.mode == VectorStoreQueryMode.DEFAULT:
        return query.similarity_top_k
    return own
