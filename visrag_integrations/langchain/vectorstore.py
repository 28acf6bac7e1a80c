"""`VisRAGVectorStore`: a LangChain vector store over the core's page store: texts, pictures, pages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore

from visrag_integrations.errors import SettingError
from visrag_integrations.langchain.arguments import paired, refuse_unknown
from visrag_integrations.langchain.convert import document_to_page, page_id, page_to_document, to_query
from visrag_integrations.langchain.embedder import as_page_embedder, embed_mixed
from visrag_integrations.langchain.mmr import most_marginal
from visrag_integrations.langchain.picture_pages import page_of_picture
from visrag_integrations.langchain.takeover import stored_documents
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.types import Page, ScoredPage

if TYPE_CHECKING:
    from typing_extensions import Self

    from visrag_integrations.interfaces import PageEmbedder, PageStore


class VisRAGVectorStore(VectorStore):
    """Keeps Documents, pictures and pages in a page store, and finds them by text, picture or vector.

    A Document of `VisRAGLoader` is embedded by its picture, any other by its text. Documents come back as they were
    given. Asynchronous twins of every method run in threads, so the event loop goes on.

    Args:
        store: A page store, for example `QdrantPageStore("my_index")`.
        embedding: Any LangChain Embeddings, or a page embedder of this library (multi-vector ones too).
    """

    def __init__(self, store: PageStore, embedding: Any) -> None:
        self.store, self.embedding = store, embedding

    @property
    def embeddings(self) -> Embeddings | None:
        """The LangChain Embeddings; None where the store was given a page embedder."""
        return self.embedding if isinstance(self.embedding, Embeddings) else None

    @property
    def embedder(self) -> PageEmbedder:
        """What makes the vectors, as the core knows it."""
        return self._retriever.embedder

    @property
    def _retriever(self) -> PageRetriever:
        if "_made_retriever" not in self.__dict__:
            self.__dict__["_made_retriever"] = PageRetriever(as_page_embedder(self.embedding), self.store)
        made: PageRetriever = self.__dict__["_made_retriever"]
        return made

    # --- in ---------------------------------------------------------------------------------------------------------

    def add_pages(self, pages: Iterable[Page], *, batch_size: int = 32) -> list[str]:
        """Embed and keep pages; gives their ids. Those with the same ids are overwritten."""
        remaining = iter(pages)
        ids: list[str] = []
        while batch := list(itertools.islice(remaining, max(1, batch_size))):
            self.store.prepare(self.embedder)
            self.store.add_pages(batch, embed_mixed(self.embedder, batch))
            ids += [page.given_id or page.id for page in batch]
        return ids

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and keep Documents; gives their ids. Those with the same ids are overwritten.

        Args:
            documents: Read once.
            ids: One each; a Document's own `id`, or a new one, where None.
            batch_size: So many are embedded at once.
            **kwargs: None are known.
        """
        refuse_unknown(kwargs)
        pairs = paired(documents, ids, "documents")
        return self.add_pages((document_to_page(document, given) for document, given in pairs), batch_size=batch_size)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and keep texts; gives their ids. See `add_documents`."""
        pairs = paired(texts, metadatas, "texts")
        documents = (Document(page_content=text, metadata=dict(metadata or {})) for text, metadata in pairs)
        return self.add_documents(documents, ids=ids, **kwargs)

    def add_images(
        self,
        uris: Iterable[Any],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 32,
    ) -> list[str]:
        """Embed and keep pictures; gives their ids. The same picture without an id is kept once.

        Args:
            uris: Paths, `file:` or data URLs, encoded bytes or PIL images.
            metadatas: One each.
            ids: One each; made from the picture's bytes where None.
            batch_size: So many are embedded at once.
        """
        pairs = paired(paired(uris, metadatas, "pictures"), ids, "pictures")
        pages = (page_of_picture(uri, metadata or {}, given) for (uri, metadata), given in pairs)
        return self.add_pages(pages, batch_size=batch_size)

    async def aadd_pages(self, pages: Iterable[Page], *, batch_size: int = 32) -> list[str]:
        """`add_pages` in a thread."""
        return await run_in_executor(None, self.add_pages, pages, batch_size=batch_size)

    async def aadd_images(self, uris: Iterable[Any], *args: Any, **kwargs: Any) -> list[str]:
        """`add_images` in a thread."""
        return await run_in_executor(None, self.add_images, uris, *args, **kwargs)

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
        return [page_to_document(page) for page in self.store.get_pages([page_id(given) for given in ids])]

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
        return [page_to_document(hits[place].page) for place in most_marginal(vector, vectors, k, lambda_mult)]

    def _vectors(self, pages: Sequence[Page]) -> list[Any]:
        stored = getattr(self.store, "get_embeddings", None)
        if stored is None:  # a store of the user's own
            return list(embed_mixed(self.embedder, pages)) if pages else []
        found = stored([page.id for page in pages])
        return [found[page.id] for page in pages]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self.embedder.kind != "single":
            raise SettingError(
                f"Relevance from 0 to 1 is known for cosine only; {self.embedder.name!r} makes multi-vectors, whose "
                'scores have no upper end. Use search_type="similarity".'
            )
        return lambda score: min(1.0, max(0.0, (score + 1) / 2))

    # --- made -------------------------------------------------------------------------------------------------------

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Any,
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        store: PageStore | None = None,
        location: Any = ":memory:",
        **settings: Any,
    ) -> Self:
        """A vector store filled with texts.

        Args:
            texts: Read once.
            embedding: Any LangChain Embeddings, or a page embedder.
            metadatas: One each.
            ids: One each.
            store: Where they are kept; a new `QdrantPageStore(location, **settings)` when None.
            location: A folder, ":memory:", a URL or a `QdrantClient`.
            **settings: Of the new store, for example `collection="texts"`.
        """
        made = cls(_store(store, location, settings), embedding)
        made.add_texts(texts, metadatas, ids=ids)
        return made

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Any,
        *,
        ids: Sequence[str | None] | None = None,
        store: PageStore | None = None,
        location: Any = ":memory:",
        **settings: Any,
    ) -> Self:
        """A vector store filled with Documents; those of `VisRAGLoader` by their pictures. See `from_texts`."""
        made = cls(_store(store, location, settings), embedding)
        made.add_documents(documents, ids=ids)
        return made

    @classmethod
    def from_qdrant_collection(
        cls,
        client: Any,
        collection_name: str,
        embedding: Any,
        *,
        vector_name: str = "",
        store: PageStore | None = None,
        location: Any = ":memory:",
        **settings: Any,
    ) -> Self:
        """A vector store with everything that LangChain's own Qdrant package keeps in a collection, vectors included.

        Nothing is embedded again, and the collection stays as it is.

        Args:
            client: The `QdrantClient` that has the collection.
            collection_name: Its name.
            embedding: What made its vectors.
            vector_name: Of its dense vector.
            store: Where to keep it. See `from_texts`.
            location: See `from_texts`.
            **settings: See `from_texts`.
        """
        made = cls(_store(store, location, settings), embedding)
        for pages, vectors in stored_documents(client, collection_name, vector_name):
            made.store.prepare(made.embedder)
            made.store.add_pages(pages, vectors)
        return made

    @classmethod
    async def afrom_documents(cls, documents: Iterable[Document], embedding: Any, **kwargs: Any) -> Self:
        """`from_documents` in a thread."""
        return await run_in_executor(None, lambda: cls.from_documents(documents, embedding, **kwargs))


def _documents(hits: Sequence[ScoredPage]) -> list[tuple[Document, float]]:
    return [(page_to_document(hit.page), hit.score) for hit in hits]


def _store(store: PageStore | None, location: Any, settings: dict[str, Any]) -> PageStore:
    if store is not None:
        refuse_unknown(settings)
        return store
    from visrag_integrations.store import QdrantPageStore

    return QdrantPageStore(location, **settings)


def _recreate(store: Any, embedder: PageEmbedder) -> None:
    try:
        store.prepare(embedder, recreate=True)
    except TypeError:  # a store of the user's own
        for page in list(store.scroll()):
            store.delete(doc_id=page.doc_id)
