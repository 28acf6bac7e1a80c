"""`VisRAGVectorStore`: a LlamaIndex vector store over the core's page store, which looks at pictures itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from visrag_integrations.errors import SettingError
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.filters import join_filters
from visrag_integrations.interfaces.stores import (
    knows_who_filled_it,
    store_of_tenant,
    stored_embeddings,
    tenant_of,
)
from visrag_integrations.llamaindex.convert import page_ids, page_to_node
from visrag_integrations.llamaindex.embedder import GivenEmbedder, one_embedder
from visrag_integrations.llamaindex.embedding import DEFAULT_MODEL, StoreEmbedding
from visrag_integrations.llamaindex.filters import CoreFilter, of_ref_docs, store_filter
from visrag_integrations.llamaindex.node_pages import embedded_batches, pages_of_nodes
from visrag_integrations.llamaindex.node_pictures import UrlRules
from visrag_integrations.llamaindex.node_search import NodeSearcher
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.types import Page, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder, PageStore

_MANY_IDS = 256
"""A question about more nodes than this is first asked without them; see `_search`."""
_ELSEWHERE = {
    "aclient": "one client is enough: async calls run in threads.",
    "enable_hybrid": "every store can search in hybrid mode; leave it out.",
    "fastembed_sparse_model": "words are searched without a model; leave it out.",
    "sparse_doc_fn": "words are searched without a model; leave it out.",
    "sparse_query_fn": "words are searched without a model; leave it out.",
    "hybrid_fusion_fn": "alpha= of the query weighs the two halves.",
    "payload_indexes": 'give indexed_fields={"year": "integer"}.',
    "embed_model": "it is embedder.",
    "batch_size": "leave it out.",
    "location": "it is url or path, or open QdrantPageStore(location) and give that.",
    "collection": "it is collection_name.",
}
"""What LlamaIndex's own Qdrant store takes, and what to write here."""
_OF_PAGE_STORE = ("client", "url", "path", "collection_name", "api_key", "timeout", "pictures", "indexed_fields")


class VisRAGVectorStore(BasePydanticVectorStore):
    """Keeps nodes in a page store, and finds them by text or vector; nodes come back with their metadata and picture.

    LlamaIndex embeds the text of every node before it hands it over, also of those with a picture. So this store embeds
    the picture itself, unless the node's embedding is `VisRAGEmbedding`'s vector of it. Every node is kept under its
    own id. Pieces of one page (its text was split) have one picture: a search by vector gives different pages first.

    A filter sees what nodes show as metadata, also the user's own keys `doc_id`, `tenant`, `number` and the like.

    >>> index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)  # doctest: +SKIP

    Args:
        store: A page store, for example `QdrantPageStore("my_index")`. None makes one of the arguments below.
        embedder: A `VisRAGEmbedding` or any other LlamaIndex embedding, a page embedder of the core (multi-vector
            ones too), or a model's name; "openbmb/VisRAG-Ret" when None.
        fetch_urls: Whether pictures behind http and https URLs are fetched.
        file_urls: Whether those behind `file:` URLs are read.
        with_embeddings: Whether nodes come back with their `embedding`; a query may say so for itself, with
            `output_fields=["embedding"]`.
        tenant: Whose nodes these are. What is added is theirs, and nothing here finds, gives or removes another's.
        embedding: The older name of `embedder`.
        **page_store: Of a `QdrantPageStore` that is opened, and closed by `close`: `client`, `url`, `path`,
            `collection_name`, `api_key`, `timeout`, `pictures`, `indexed_fields`.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False
    fetch_urls: FetchUrls = False
    file_urls: bool = False
    with_embeddings: bool = False
    _store: Any = PrivateAttr()
    _opened: Any = PrivateAttr(default=None)
    _embedder: Any = PrivateAttr()
    _retriever: Any = PrivateAttr(default=None)

    def __init__(
        self,
        store: PageStore | None = None,
        embedder: Any = None,
        *,
        fetch_urls: FetchUrls = False,
        file_urls: bool = False,
        with_embeddings: bool = False,
        tenant: str = "",
        embedding: Any = None,
        **page_store: Any,
    ) -> None:
        known = (*_OF_PAGE_STORE, "store", "embedder", "fetch_urls", "file_urls", "with_embeddings", "tenant")
        check_arguments("VisRAGVectorStore", page_store, known, elsewhere=_ELSEWHERE)
        embedder = one_embedder(embedder, embedding)
        given = GivenEmbedder(embedder)
        if isinstance(embedder, (str, Path)) and str(embedder) != DEFAULT_MODEL:
            embedder = given.get()  # loaded now: only the model itself says of which kind it is
        # A multi-vector embedder has to see the question itself: LlamaIndex's vectors are flat.
        fields: dict[str, Any] = {
            "is_embedding_query": getattr(embedder, "kind", "single") == "single",
            "fetch_urls": fetch_urls,
            "file_urls": file_urls,
            "with_embeddings": with_embeddings,
        }
        super().__init__(**fields)
        if store is None:
            store = self._opened = _open_store(page_store)
        elif page_store:
            raise SettingError(
                f"{', '.join(page_store)}: for a store that is opened here; the one you give has its own."
            )
        self._store = store_of_tenant(store, tenant)
        self._embedder = given

    @classmethod
    def class_name(cls) -> str:
        return "VisRAGVectorStore"

    @property
    def client(self) -> PageStore:
        """The page store."""
        found: PageStore = self._store
        return found

    @property
    def embedder(self) -> PageEmbedder:
        """What makes the vectors, as the core knows it."""
        return self._core.embedder

    @property
    def embed_model(self) -> Any:
        """What to give `VectorStoreIndex(..., embed_model=)`: embeds questions, and leaves nodes to this store."""
        return StoreEmbedding(embedder=self.embedder)

    @property
    def _core(self) -> PageRetriever:
        if self._retriever is None:
            self._retriever = PageRetriever(self._embedder.get(), self._store)
        found: PageRetriever = self._retriever
        return found

    def close(self) -> None:
        """Free the model that was loaded by its name, and close a store that was opened here.

        A model that others use is not freed, and what you gave stays open.
        """
        self._retriever = None  # it holds the embedder
        self._embedder.close()
        close(self._opened)

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Keep nodes, those with the same ids are overwritten; gives their ids, in order."""
        check_arguments("VisRAGVectorStore.add", kwargs, ["nodes"])
        pages = pages_of_nodes(nodes, self.embedder, UrlRules(self.fetch_urls, self.file_urls), self._tenant)
        for batch, vectors in embedded_batches(pages, self.embedder):
            self.client.prepare(self.embedder)
            self.client.add_pages(batch, vectors)
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove the nodes of a document: by LlamaIndex's id of it, or by the path of its file."""
        check_arguments("VisRAGVectorStore.delete", delete_kwargs, ["ref_doc_id"])
        self.client.delete(filter=of_ref_docs(self.client, [ref_doc_id]))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """`delete` in a thread, so that the event loop goes on."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Remove nodes with these ids, or that fit the filters; where both are given, both must hold."""
        check_arguments("VisRAGVectorStore.delete_nodes", delete_kwargs, ["node_ids", "filters"])
        if node_ids is None and filters is None:
            raise SettingError("delete_nodes() needs node_ids or filters. To remove everything: clear().")
        condition = self._condition(node_ids, None, filters)
        if condition is not None:
            self.client.delete(filter=condition)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """`delete_nodes` in a thread, so that the event loop goes on."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    def clear(self) -> None:
        """Remove everything."""
        store: Any = self.client
        if knows_who_filled_it(store):
            store.prepare(self.embedder, recreate=True)
            return
        # Listed before anything is removed: the list may be read from the store page by page.
        for doc_id in [document.doc_id for document in store.documents()]:
            store.delete(doc_id=doc_id)

    async def aclear(self) -> None:
        """`clear` in a thread, so that the event loop goes on."""
        await asyncio.to_thread(self.clear)

    # --- out --------------------------------------------------------------------------------------------------------

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        with_embeddings: bool | None = None,
    ) -> list[BaseNode]:
        """The nodes with these ids, in that order, or that fit the filters; all of them when neither is given.

        Args:
            node_ids: Of nodes.
            filters: LlamaIndex's, or a dict such as the core takes.
            with_embeddings: Whether they have their `embedding`; as the store was made when None.
        """
        if node_ids is not None and filters is None:
            pages: Any = self.client.get_pages(page_ids(node_ids, self._tenant))
        else:
            pages = self.client.scroll(self._condition(node_ids, None, filters))
        return self._nodes(list(pages), self.with_embeddings if with_embeddings is None else with_embeddings)

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        with_embeddings: bool | None = None,
    ) -> list[BaseNode]:
        """`get_nodes` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters, with_embeddings=with_embeddings)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes with their scores (higher is better).

        Modes: default (the embedder's own way), sparse and text_search (words), hybrid and semantic_hybrid (both;
        `alpha` says what the dense half weighs, from 0 to 1), mmr.
        """
        check_arguments("VisRAGVectorStore.query", kwargs, ["query"])
        hits = self._search(query)
        with_embeddings = self.with_embeddings or "embedding" in (query.output_fields or ())
        return VectorStoreQueryResult(
            nodes=self._nodes([hit.page for hit in hits], with_embeddings),
            similarities=[hit.score for hit in hits],
            ids=[_node_id(hit.page) for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _search(self, query: VectorStoreQuery) -> list[ScoredPage]:
        searcher = NodeSearcher(self._core, self.is_embedding_query)
        mode = searcher.mode_of(query)
        node_ids = query.node_ids or None
        doc_ids = query.doc_ids or None
        # An index asks for every node it was built from: mostly that is no restriction, and a slow one. So the question
        # is asked without it first, and again only if a node came back that was not asked for. The ranks of a hybrid
        # search depend on what else was found, so there it is not tried.
        if node_ids is not None and len(node_ids) > _MANY_IDS and mode != "hybrid":
            hits = searcher.find(query, mode, self._condition(None, doc_ids, query.filters))
            if {_node_id(hit.page) for hit in hits} <= set(node_ids):
                return hits
        return searcher.find(query, mode, self._condition(node_ids, doc_ids, query.filters))

    def _nodes(self, pages: Sequence[Page], with_embeddings: bool) -> list[BaseNode]:
        nodes: list[BaseNode] = list(map(page_to_node, pages))
        if not with_embeddings or not nodes:
            return nodes
        if self.embedder.kind != "single":
            raise SettingError(
                f"Embedder {self.embedder.name!r} makes many vectors a page, and a node's embedding is one. Leave out "
                "with_embeddings, or read them: store.client.get_embeddings(ids)."
            )
        stored = stored_embeddings(self.client, [page.id for page in pages], self.embedder)
        for node, page in zip(nodes, pages, strict=True):
            if page.id in stored:
                node.embedding = stored[page.id].tolist()
        return nodes

    def _condition(
        self, node_ids: list[str] | None, doc_ids: list[str] | None, filters: MetadataFilters | Mapping[str, Any] | None
    ) -> CoreFilter | None:
        condition = store_filter(self.client, filters, self._scroll)
        if node_ids is not None:
            condition = join_filters({"$ids": page_ids(node_ids, self._tenant)}, condition)
        if doc_ids is not None:
            condition = join_filters(of_ref_docs(self.client, doc_ids), condition)
        return condition

    def _scroll(self) -> Iterator[Page]:
        return self.client.scroll()

    @property
    def _tenant(self) -> str:
        return tenant_of(self._store)


def _node_id(page: Page) -> str:
    return page.given_id or page.id


def _open_store(settings: dict[str, Any]) -> Any:
    """A page store, as users of LlamaIndex's Qdrant store name it."""
    from visrag_integrations.store import QdrantPageStore  # slow to import, and only needed here

    settings = dict(settings)
    places = []
    for name in ("client", "url", "path"):
        if settings.get(name) is not None:
            places.append(settings[name])
        settings.pop(name, None)
    if len(places) != 1:
        raise SettingError(
            "One store is needed: VisRAGVectorStore(QdrantPageStore(...)), or one of url=, path= and client=."
        )
    collection = settings.pop("collection_name", None) or "pages"
    return QdrantPageStore(places[0], collection, **settings)
