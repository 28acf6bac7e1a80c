"""`VisRAGReranker`: Documents scored anew against the question, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr

from visrag_integrations.langchain.convert import document_to_page, to_query
from visrag_integrations.langchain.embedder import as_page_embedder, embed_mixed
from visrag_integrations.scores import exact

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

    from visrag_integrations.interfaces import Embedding
    from visrag_integrations.types import Page


class VisRAGReranker(BaseDocumentCompressor):
    """Orders Documents by the exact score of their picture (or text) for the question, and keeps the best.

    The score stands in `metadata["relevance_score"]` of new Documents; those given stay as they are.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    embedder: Any
    """A page embedder, VisRAGEmbeddings, or any LangChain Embeddings."""
    store: Any = None
    """Where the vectors of stored pages are taken from instead of being made again, for example a `QdrantPageStore`."""
    top_n: int | None = Field(default=3, ge=1)
    """At most so many; all when None."""
    _core: Any = PrivateAttr(default=None)

    def compress_documents(
        self, documents: Sequence[Document], query: Any, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best Documents, best first."""
        if not documents:
            return []
        embedder = self._core = self._core or as_page_embedder(self.embedder)
        (asked,) = embedder.embed_queries([to_query(query)])
        vectors = self._vectors([document_to_page(document) for document in documents], embedder)
        scores = exact.cosine(asked, vectors) if embedder.kind == "single" else exact.maxsims(asked, vectors)
        order = sorted(range(len(documents)), key=lambda place: -scores[place])
        return [_scored(documents[place], scores[place]) for place in order[: self.top_n]]

    def _vectors(self, pages: Sequence[Page], embedder: Any) -> list[Embedding]:
        stored = getattr(self.store, "get_embeddings", None)
        known: dict[str, Embedding] = stored([page.id for page in pages], embedder) if stored is not None else {}
        missing = [page for page in pages if page.id not in known]
        made = iter(embed_mixed(embedder, missing) if missing else [])
        return [known[page.id] if page.id in known else next(made) for page in pages]


def _scored(document: Document, score: float) -> Document:
    metadata = {**document.metadata, "relevance_score": score}
    return Document(id=document.id, page_content=document.page_content, metadata=metadata)
