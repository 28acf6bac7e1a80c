"""`VisRAGVectorStore`: a LangChain vector store over the core's page store: texts, pictures, pages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore

from visrag_integrations.errors import SettingError
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.interfaces.embedders import embed_mixed
from visrag_integrations.interfaces.opened import OpenedResources
from visrag_integrations.interfaces.stores import (
    check_embedder,
    gives_embeddings,
    shown_filter,
    store_of_tenant,
    stored_embeddings,
    tenant_of,
)
from visrag_integrations.langchain.convert import (
    documents_to_pages,
    found_page_to_document,
    of_tenant,
    page_id,
    picture_to_page,
    to_query,
)
from visrag_integrations.langchain.embeddings import as_page_embedder
from visrag_integrations.langchain.opening import open_store, refuse_unknown
from visrag_integrations.langchain.qdrant_collection import read_qdrant_collection
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.scores.mmr import most_marginal
from visrag_integrations.types import Page, ScoredPage

if TYPE_CHECKING:
    from typing_extensions import Self

    from visrag_integrations.interfaces import PageEmbedder, PageStore


class VisRAGVectorStore(VectorStore):
    """Keeps Documents, pictures and pages in a page store, and finds them by text, picture or vector.

    A Document of `VisRAGLoader` is embedded by its picture, any other by its text. Documents come back as they were
    given. The asynchronous form of every method runs in a thread, so the event loop goes on.

    Args:
        store: A page store, for example `QdrantPageStore("my_index")`.
        embedding: Any LangChain Embeddings, or a page embedder of this library (multi-vector ones too), or its name.
        tenant: Whose Documents these are, where one collection serves several. What is added becomes theirs, and nobody
            else's is found, given or removed, whatever a filter says. A metadata key `tenant` is the user's own.
    """

    def __init__(self, store: PageStore, embedding: Any, *, tenant: str = "") -> None:
        self.store, self.embedding = store_of_tenant(store, tenant), embedding
        self._opened = OpenedResources()
        self._page_retriever: PageRetriever | None = None  # made at first use: it loads the model

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
        if self._page_retriever is None:
            self._page_retriever = PageRetriever(as_page_embedder(self.embedding, self._opened), self.store)
        return self._page_retriever

    def close(self) -> None:
        """Let go of the model and the page store that this vector store opened itself, by a name or a location.

        A store, an embedder or Embeddings that were given stay open.
        """
        self._page_retriever = None
        self._opened.close()

    # --- in ---------------------------------------------------------------------------------------------------------

    def add_pages(self, pages: Iterable[Page], *, batch_size: int = 32) -> list[str]:
        """Embed and keep pages; gives their ids. Those with the same ids are overwritten."""
        tenant = tenant_of(self.store)
        # Here, and not in the store: the ids that are given back are those of the tenant's pages.
        remaining = (of_tenant(page, tenant) if tenant else page for page in pages)
        ids: list[str] = []
        while batch := list(itertools.islice(remaining, max(1, batch_size))):
            self.store.prepare(self.embedder)  # refuses another embedder's collection before anything is embedded
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
            **kwargs: Refused; LangChain's own signature has them.
        """
        refuse_unknown(self.add_documents, kwargs)
        pairs = _paired(documents, ids, "documents")
        return self.add_pages(documents_to_pages(pairs, tenant_of(self.store)), batch_size=batch_size)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and keep texts; gives their ids. See `add_documents`."""
        refuse_unknown(self.add_texts, kwargs)
        pairs = _paired(texts, metadatas, "texts")
        documents = (Document(page_content=text, metadata=dict(metadata or {})) for text, metadata in pairs)
        return self.add_documents(documents, ids=ids, batch_size=batch_size)

    def add_images(
        self,
        uris: Iterable[Any],
        metadatas: Iterable[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 32,
        fetch_urls: FetchUrls = False,
    ) -> list[str]:
        """Embed and keep pictures; gives their ids. The same picture without an id is kept once.

        Args:
            uris: Paths, `file:` or data URLs, encoded bytes or PIL images.
            metadatas: One each.
            ids: One each; made from the picture's bytes where None.
            batch_size: So many are embedded at once.
            fetch_urls: Whether http and https URLs are fetched.
        """
        with_metadata = _paired(uris, metadatas, "pictures")
        with_ids = _paired(with_metadata, ids, "pictures")

        def pages() -> Iterator[Page]:
            for (uri, metadata), given in with_ids:
                yield picture_to_page(uri, metadata or {}, given, fetch_urls=fetch_urls)

        return self.add_pages(pages(), batch_size=batch_size)

    async def aadd_pages(self, pages: Iterable[Page], *, batch_size: int = 32) -> list[str]:
        """`add_pages` in a thread."""
        return await run_in_executor(None, self.add_pages, pages, batch_size=batch_size)

    async def aadd_images(self, uris: Iterable[Any], *args: Any, **kwargs: Any) -> list[str]:
        """`add_images` in a thread."""
        return await run_in_executor(None, self.add_images, uris, *args, **kwargs)

    def delete(self, ids: Sequence[str] | None = None, *, filter: Any = None, **kwargs: Any) -> bool:
        """Remove what has these ids, or fits the filter; without either, everything. Unknown ids do no harm."""
        refuse_unknown(self.delete, kwargs)
        if ids is None and filter is None:
            if self.store.count():  # an empty store may have no collection yet, and no model need be loaded
                _recreate(self.store, self.embedder)
        elif ids is None:
            self.store.delete(filter=shown_filter(self.store, filter))
        elif ids:  # an empty list of ids means none of them, never all
            store: Any = self.store
            store.delete(ids=self._stored_ids(ids), filter=shown_filter(store, filter))
        return True

    # --- out --------------------------------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The Documents with these ids, in that order; unknown ids are left out."""
        # By the ids that LangChain knows: the store's own are others for ids that are no UUIDs, and for a tenant's.
        found = {}
        for document in map(found_page_to_document, self.store.get_pages(self._stored_ids(ids))):
            found[document.id] = document
        return [found[id_] for id_ in ids if id_ in found]

    def _stored_ids(self, ids: Sequence[str]) -> list[str]:
        """The ids under which the store may keep what has these ids in LangChain."""
        tenant = tenant_of(self.store)
        wanted: dict[str, None] = {}  # in order, each once
        for id_ in ids:
            wanted[page_id(id_, tenant)] = None
            wanted[page_id(id_)] = None  # of a tenant's page, whose own id it is
        # Both are asked for: the store gives, and removes, what there is of them, and only this tenant's.
        return list(wanted)

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
            **kwargs: Refused; LangChain's own signature has them.
        """
        refuse_unknown(self.similarity_search_with_score, kwargs)
        shown = shown_filter(self.store, filter)
        hits = self._retriever.retrieve(to_query(query), k, filter=shown, mode=mode, score_threshold=score_threshold)
        return _with_scores(hits)

    def similarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """The Documents nearest to a vector."""
        refuse_unknown(self.similarity_search_by_vector, kwargs)
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, filter=filter)]

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Any = None
    ) -> list[tuple[Document, float]]:
        """The Documents nearest to a vector, with their scores."""
        shown = shown_filter(self.store, filter)
        return _with_scores(self.store.search(np.asarray(embedding, np.float32), top_k=k, filter=shown))

    def max_marginal_relevance_search(
        self, query: Any, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, *, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        """Documents that fit the question and differ from each other, among the `fetch_k` (at least `k`) best."""
        refuse_unknown(self.max_marginal_relevance_search, kwargs)
        (vector,) = self.embedder.embed_queries([to_query(query)])
        return self._most_marginal(vector, k, fetch_k, lambda_mult, filter)

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
        refuse_unknown(self.max_marginal_relevance_search_by_vector, kwargs)
        return self._most_marginal(np.asarray(embedding, np.float32), k, fetch_k, lambda_mult, filter)

    def _most_marginal(self, vector: Any, k: int, fetch_k: int, lambda_mult: float, filter: Any) -> list[Document]:
        # Somebody who asks for more than `fetch_k` gets as many: the default of 20 must not cut off k=50.
        hits = self.store.search(vector, top_k=max(k, fetch_k), filter=shown_filter(self.store, filter))
        vectors = self._vectors_of([hit.page for hit in hits])
        return [found_page_to_document(hits[place].page) for place in most_marginal(vector, vectors, k, lambda_mult)]

    def _vectors_of(self, pages: Sequence[Page]) -> list[Any]:
        """The stored vectors of stored pages; made again where the store gives none."""
        if not pages:
            return []
        if not gives_embeddings(self.store):
            return list(embed_mixed(self.embedder, pages))
        # Refuses another embedder than the one that filled the store: its vectors say nothing about this question.
        check_embedder(self.store, self.embedder)
        vectors = stored_embeddings(self.store, [page.id for page in pages], self.embedder)
        return [vectors[page.id] for page in pages]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self.embedder.kind != "single":
            raise SettingError(
                f"Relevance from 0 to 1 is known for cosine only; {self.embedder.name!r} makes multi-vectors, whose "
                'scores have no upper end. Use search_type="similarity".'
            )
        # A cosine goes from -1 to 1. Rounding may lead a little beyond either end.
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
        batch_size: int = 32,
        store: PageStore | None = None,
        tenant: str = "",
        **settings: Any,
    ) -> Self:
        """A vector store filled with texts.

        Args:
            texts: Read once.
            embedding: Any LangChain Embeddings, or a page embedder, or its name.
            metadatas: One each.
            ids: One each.
            batch_size: So many are embedded at once.
            store: Where they are kept; a new `QdrantPageStore` when None.
            tenant: Whose they are. See the class.
            **settings: Of the new store: `location` (a folder, ":memory:", which is the default, a URL or a
                `QdrantClient`), `collection` and whatever else `QdrantPageStore` takes, for example `indexed_fields`.
                `url`, `path`, `client` and `collection_name` are understood too, as langchain-qdrant has them.
        """
        made = cls._on(store, embedding, tenant, settings)
        made.add_texts(texts, metadatas, ids=ids, batch_size=batch_size)
        return made

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Any,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = 32,
        store: PageStore | None = None,
        tenant: str = "",
        **settings: Any,
    ) -> Self:
        """A vector store filled with Documents; those of `VisRAGLoader` by their pictures. See `from_texts`."""
        made = cls._on(store, embedding, tenant, settings)
        made.add_documents(documents, ids=ids, batch_size=batch_size)
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
        tenant: str = "",
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
            tenant: Whose it is. See `from_texts`.
            **settings: See `from_texts`.
        """
        made = cls._on(store, embedding, tenant, settings)
        # The same vectors: their maker is the embedding that was given, which the new collection remembers.
        for pages, vectors in read_qdrant_collection(client, collection_name, vector_name):
            made.store.prepare(made.embedder)
            made.store.add_pages(pages, vectors)
        return made

    @classmethod
    async def afrom_documents(cls, documents: Iterable[Document], embedding: Any, **kwargs: Any) -> Self:
        """`from_documents` in a thread."""
        return await run_in_executor(None, lambda: cls.from_documents(documents, embedding, **kwargs))

    @classmethod
    def _on(cls, store: PageStore | None, embedding: Any, tenant: str, settings: dict[str, Any]) -> Self:
        """On the store that was given, or else on a new one, which `close` closes."""
        if store is not None:
            if settings:
                raise SettingError(
                    f"{', '.join(sorted(settings))}: these are of a store that is opened here, and store= is one that "
                    "is open. Leave them out, or leave store out."
                )
            return cls(store, embedding, tenant=tenant)
        opened = open_store(cls.__name__, settings)
        try:
            made = cls(opened, embedding, tenant=tenant)
        except BaseException:
            opened.close()  # a folder that stayed open could not be opened again
            raise
        made._opened.keep(opened)
        return made


def _with_scores(hits: Sequence[ScoredPage]) -> list[tuple[Document, float]]:
    return [(found_page_to_document(hit.page), hit.score) for hit in hits]


def _recreate(store: Any, embedder: PageEmbedder) -> None:
    """Empty the collection."""
    try:
        store.prepare(embedder, recreate=True)
    except TypeError:  # a store of the user's own, whose `prepare` takes the embedder only
        for page in list(store.scroll()):
            store.delete(doc_id=page.doc_id)


def _paired(items: Iterable[Any], others: Iterable[Any] | None, name: str) -> Iterator[tuple[Any, Any]]:
    """Each item with its other, lazily; None each where there are none."""
    if others is None:
        for item in items:
            yield item, None
        return
    missing = object()
    for item, other in itertools.zip_longest(items, others, fillvalue=missing):
        if item is missing or other is missing:
            raise SettingError(f"There must be one id and one metadata for each of the {name}; their numbers differ.")
        yield item, other
