"""`VisRAGReranker`: Documents scored anew against the question, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from visrag_integrations.interfaces.embedders import embed_mixed
from visrag_integrations.interfaces.opened import OpenedResources
from visrag_integrations.interfaces.stores import stored_embeddings
from visrag_integrations.langchain.convert import document_to_page, to_query
from visrag_integrations.langchain.embeddings import as_page_embedder
from visrag_integrations.langchain.opening import check_fields
from visrag_integrations.scores import exact

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

    from visrag_integrations.interfaces import Embedding, PageEmbedder
    from visrag_integrations.types import Page


class VisRAGReranker(BaseDocumentCompressor):
    """Orders Documents by the exact score of their picture (or text) for the question, and keeps the best.

    The score stands in `metadata["relevance_score"]` of new Documents; those given stay as they are.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    embedder: Any
    """A page embedder, VisRAGEmbeddings, any LangChain Embeddings, or a name that `load_embedder` knows."""
    store: Any = None
    """Where the vectors of stored pages are taken from instead of being made again, for example a `QdrantPageStore`."""
    top_n: int | None = Field(default=3, ge=1)
    """At most so many; all when None."""
    with_scores: bool = True
    """Put the score into the metadata. Off, the Documents stay equal for those who compare them."""
    _opened: OpenedResources = PrivateAttr(default_factory=OpenedResources)
    _page_embedder: Any = PrivateAttr(default=None)  # made at first use: it loads the model

    @model_validator(mode="before")
    @classmethod
    def _knows_all(cls, fields: Any) -> Any:
        check_fields(cls, fields, {"top_k": "so many Documents are top_n.", "model": "a name is given as embedder."})
        return fields

    def compress_documents(
        self, documents: Sequence[Document], query: Any, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best Documents, best first."""
        if not documents:
            return []
        if self._page_embedder is None:
            self._page_embedder = as_page_embedder(self.embedder, self._opened)
        embedder = self._page_embedder
        (question,) = embedder.embed_queries([to_query(query)])
        vectors = self._vectors([document_to_page(document) for document in documents], embedder)
        score_all = exact.cosine if embedder.kind == "single" else exact.maxsims
        scores = score_all(question, vectors)
        # Equal scores keep the order in which the Documents came.
        best_first = sorted(range(len(documents)), key=lambda place: -scores[place])
        best = best_first[: self.top_n]
        if not self.with_scores:
            return [documents[place] for place in best]
        return [_scored(documents[place], scores[place]) for place in best]

    def close(self) -> None:
        """Let go of the model, where the embedder is a name or VisRAGEmbeddings; one that was given stays open."""
        self._page_embedder = None
        self._opened.close()

    def _vectors(self, pages: Sequence[Page], embedder: PageEmbedder) -> list[Embedding]:
        """The stored vectors of the pages; those of pages that are not stored are made."""
        stored = dict(stored_embeddings(self.store, [page.id for page in pages], embedder))
        missing = [page for page in pages if page.id not in stored]
        made = iter(embed_mixed(embedder, missing))
        vectors = []
        for page in pages:
            # Every page that is not stored has its own: two may have one id, as pieces of a page have.
            vectors.append(stored[page.id] if page.id in stored else next(made))
        return vectors


def _scored(document: Document, score: float) -> Document:
    metadata = {**document.metadata, "relevance_score": score}
    return Document(id=document.id, page_content=document.page_content, metadata=metadata)
