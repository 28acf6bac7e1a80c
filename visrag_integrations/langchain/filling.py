"""How Documents, texts, pictures and pages come into a vector store; `VisRAGVectorStore` is what they come out of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore

from visrag_integrations.langchain.arguments import paired, refuse_unknown
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.langchain.embedder import as_page_embedder, embed_mixed
from visrag_integrations.langchain.picture_pages import page_of_picture
from visrag_integrations.langchain.takeover import stored_documents
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from typing_extensions import Self

    from visrag_integrations.interfaces import PageEmbedder, PageStore


class FilledStore(VectorStore):
    """A page store with embeddings, and the ways to fill it."""

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
        fetch_urls: bool = False,
    ) -> list[str]:
        """Embed and keep pictures; gives their ids. The same picture without an id is kept once.

        Args:
            uris: Paths, `file:` or data URLs, encoded bytes or PIL images.
            metadatas: One each.
            ids: One each; made from the picture's bytes where None.
            batch_size: So many are embedded at once.
            fetch_urls: Whether http and https URLs are fetched.
        """
        pairs = paired(paired(uris, metadatas, "pictures"), ids, "pictures")
        pages = (page_of_picture(uri, metadata or {}, given, fetch_urls=fetch_urls) for (uri, metadata), given in pairs)
        return self.add_pages(pages, batch_size=batch_size)

    async def aadd_pages(self, pages: Iterable[Page], *, batch_size: int = 32) -> list[str]:
        """`add_pages` in a thread."""
        return await run_in_executor(None, self.add_pages, pages, batch_size=batch_size)

    async def aadd_images(self, uris: Iterable[Any], *args: Any, **kwargs: Any) -> list[str]:
        """`add_images` in a thread."""
        return await run_in_executor(None, self.add_images, uris, *args, **kwargs)

    # --- made ---------------------------------------------------------------------------------------------------

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


def _store(store: PageStore | None, location: Any, settings: dict[str, Any]) -> PageStore:
    if store is not None:
        refuse_unknown(settings)
        return store
    from visrag_integrations.store import QdrantPageStore

    return QdrantPageStore(location, **settings)
