"""`VisRAGVectorStore`: a LangChain vector store over the core's page store: texts, pictures, pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.documents import Document

from visrag_integrations.errors import SettingError
from visrag_integrations.langchain.arguments import refuse_unknown
from visrag_integrations.langchain.convert import found_page_to_document, page_id, to_query
from visrag_integrations.langchain.embedder import embed_mixed
from visrag_integrations.langchain.filling import FilledStore
from visrag_integrations.langchain.mmr import most_marginal
from visrag_integrations.types import Page, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder


class VisRAGVectorStore(FilledStore):
    """Keeps Documents, pictures and pages in a page store, and finds them by text, picture or vector.

    A Document of `VisRAGLoader` is embedded by its picture, any other by its text. Documents come back as they were
    given. Asynchronous twins of every method run in threads, so the event loop goes on.

    Args:
        store: A page store, for example `QdrantPageStore("my_index")`.
        embedding: Any LangChain Embeddings, or a page embedder of this library (multi-vector ones too).
    """

    def delete(self, ids: Sequence[str] | None = None, *, filter: Any = None, **kwargs: Any) -> bool:
        """Remove what has these ids, or fits the filter; without either, everything. Unknown ids do no harm."""
        refuse_unknown(kwargs)
        if ids is None and filter is None:
            if self.store.count():
                _recreate(self.store, self.embedder)
        elif ids is None:
            self.store.delete(filter=filter)
        elif ids:
            store: Any = self.store
            store.delete(ids=[page_id(given) for given in ids], filter=filter)
        return True

    # --- out --------------------------------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The Documents with these ids, in that order; unknown ids are left out."""
        return [found_page_to_document(page) for page in self.store.get_pages([page_id(given) for given in ids])]

    def similarity_search(self, query: Any, k: int = 4, **kwargs: Any) -> list[Document]:
        """The Documents that fit best, best first. See `similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self,
        query: Any,
        k: int = 4,
        *,
        filter: Any = None,
        mode: Any = None,
        score_threshold: float | None = None,
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """The Documents that fit best, with their scores (higher is better).

        Args:
            query: A text, a `Query`, a picture, or `{"text": ..., "image": ...}`.
            k: At most so many.
            filter: Metadata they must have.
            mode: "dense", "lexical" or "hybrid".
            score_threshold: Lower scores are left out; for mode "dense" only.
            **kwargs: None are known.
        """
        refuse_unknown(kwargs)
        hits = self._retriever.retrieve(to_query(query), k, filter=filter, mode=mode, score_threshold=score_threshold)
        return _documents(hits)

    def similarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """The Documents nearest to a vector."""
        refuse_unknown(kwargs)
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, filter=filter)]

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None
    ) -> list[tuple[Document, float]]:
        """The Documents nearest to a vector, with their scores."""
        return _documents(self.store.search(np.asarray(embedding, np.float32), top_k=k, filter=filter))

    def max_marginal_relevance_search(
        self, query: Any, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Documents that fit the question and differ from each other, chosen among the `fetch_k` best."""
        refuse_unknown(kwargs)
        asked = to_query(query)
        (vector,) = self.embedder.embed_queries([asked])
        return self._marginal(vector, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`max_marginal_relevance_search` for a vector."""
        refuse_unknown(kwargs)
        return self._marginal(np.asarray(embedding, np.float32), k, fetch_k, lambda_mult, filter)

    def _marginal(self, vector: Any, k: int, fetch_k: int, lambda_mult: float, filter: Any) -> list[Document]:
        hits = self.store.search(vector, top_k=max(k, fetch_k), filter=filter)
        vectors = self._vectors([hit.page for hit in hits])
        return [found_page_to_document(hits[place].page) for place in most_marginal(vector, vectors, k, lambda_mult)]

    def _vectors(self, pages: Sequence[Page]) -> list[Any]:
        stored = getattr(self.store, "get_embeddings", None)
        if stored is None:  # a store of the user's own
            return list(embed_mixed(self.embedder, pages)) if pages else []
        if pages:
            self.store.prepare(self.embedder)  # another one's vectors would be compared with the question's
        found = stored([page.id for page in pages], self.embedder)
        return [found[page.id] for page in pages]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self.embedder.kind != "single":
            raise SettingError(
                f"Relevance from 0 to 1 is known for cosine only; {self.embedder.name!r} makes multi-vectors, whose "
                'scores have no upper end. Use search_type="similarity".'
            )
        return lambda score: min(1.0, max(0.0, (score + 1) / 2))


def _documents(hits: Sequence[ScoredPage]) -> list[tuple[Document, float]]:
    return [(found_page_to_document(hit.page), hit.score) for hit in hits]


def _recreate(store: Any, embedder: PageEmbedder) -> None:
    try:
        store.prepare(embedder, recreate=True)
    except TypeError:  # a store of the user's own
        for page in list(store.scroll()):
            store.delete(doc_id=page.doc_id)
