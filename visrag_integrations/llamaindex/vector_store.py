"""`VisRAGVectorStore`: a LlamaIndex vector store over the core's page store, which looks at pictures itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.filters import join_filters
from visrag_integrations.llamaindex.convert import page_id, page_to_node
from visrag_integrations.llamaindex.embedder import as_page_embedder, embed_mixed
from visrag_integrations.llamaindex.filters import CoreFilter, of_ref_docs, to_filter
from visrag_integrations.llamaindex.incoming import Incoming, incoming_pages
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.types import Mode, Page, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder, PageStore

_MODES: dict[VectorStoreQueryMode, Mode] = {
    VectorStoreQueryMode.SPARSE: "lexical",
    VectorStoreQueryMode.TEXT_SEARCH: "lexical",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    VectorStoreQueryMode.MMR: "dense",
}
_BATCH = 32
_MANY_IDS = 256
_DEFAULT = "openbmb/VisRAG-Ret"


class VisRAGVectorStore(BasePydanticVectorStore):
    """Keeps nodes in a page store, and finds them by text or vector; nodes come back with their metadata and picture.

    LlamaIndex embeds the text of every node before it hands it over, also of those with a picture. So this store embeds
    the picture itself, unless the node's embedding is `VisRAGEmbedding`'s vector of it. Several nodes with one picture
    (a page whose text was split) are kept as one, under the first one's id.

    >>> index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)  # doctest: +SKIP

    Args:
        store: A page store, for example `QdrantPageStore("my_index")`.
        embedding: A `VisRAGEmbedding` or any other LlamaIndex embedding, a page embedder of the core (multi-vector
            ones too), or a model's name.
        fetch_urls: Whether pictures behind http and https URLs are fetched.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False
    fetch_urls: bool = False
    _store: Any = PrivateAttr()
    _embedding: Any = PrivateAttr()
    _retriever: Any = PrivateAttr(default=None)

    def __init__(self, store: PageStore, embedding: Any = _DEFAULT, *, fetch_urls: bool = False) -> None:
        if isinstance(embedding, (str, Path)) and str(embedding) != _DEFAULT:
            embedding = as_page_embedder(embedding)
        # a multi-vector embedder has to see the question itself: the host's vectors are flat
        flat = getattr(embedding, "kind", "single") == "single"
        fields: dict[str, Any] = {"is_embedding_query": flat, "fetch_urls": fetch_urls}
        super().__init__(**fields)
        self._store, self._embedding = store, embedding

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
        from visrag_integrations.llamaindex.store_embedding import StoreEmbedding

        return StoreEmbedding(embedder=self.embedder)

    @property
    def _core(self) -> PageRetriever:
        if self._retriever is None:
            self._retriever = PageRetriever(as_page_embedder(self._embedding), self._store)
        found: PageRetriever = self._retriever
        return found

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Keep nodes, those with the same ids are overwritten; gives their ids, in order."""
        incoming = incoming_pages(nodes, self.embedder, fetch_urls=self.fetch_urls)
        for start in range(0, len(incoming), _BATCH):
            self._add(incoming[start : start + _BATCH])
        return [node.node_id for node in nodes]

    def _add(self, incoming: Sequence[Incoming]) -> None:
        missing = [item.page for item in incoming if item.vector is None]
        made = iter(embed_mixed(self.embedder, missing))
        vectors = [next(made) if item.vector is None else item.vector for item in incoming]
        self.client.prepare(self.embedder)
        self.client.add_pages([item.page for item in incoming], vectors)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove the nodes of a document: by LlamaIndex's id of it, or by the path of its file."""
        self.client.delete(filter=of_ref_docs([ref_doc_id]))

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
        if getattr(store, "info", None) is not None:
            store.prepare(self.embedder, recreate=True)
            return
        for document in store.documents():
            store.delete(doc_id=document.doc_id)

    async def aclear(self) -> None:
        """`clear` in a thread, so that the event loop goes on."""
        await asyncio.to_thread(self.clear)

    # --- out --------------------------------------------------------------------------------------------------------

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes with these ids, in that order, or that fit the filters; all of them when neither is given."""
        if node_ids is not None and filters is None:
            return [page_to_node(page) for page in self.client.get_pages([page_id(node_id) for node_id in node_ids])]
        return [page_to_node(page) for page in self.client.scroll(self._condition(node_ids, None, filters))]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """`get_nodes` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes with their scores (higher is better).

        Modes: default (the embedder's own way), sparse and text_search (words), hybrid and semantic_hybrid (both; the
        halves weigh the same, whatever `alpha`), mmr.
        """
        hits = self._search(query)
        return VectorStoreQueryResult(
            nodes=[page_to_node(hit.page) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[_node_id(hit) for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _search(self, query: VectorStoreQuery) -> list[ScoredPage]:
        mode = self._mode(query)
        if query.node_ids and len(query.node_ids) > _MANY_IDS and mode != "hybrid":
            # an index asks for every node it was built from: mostly that is no restriction, and a slow one
            hits = self._matching(query, mode, self._condition(None, query.doc_ids or None, query.filters))
            if {_node_id(hit) for hit in hits} <= set(query.node_ids):
                return hits
        return self._matching(
            query, mode, self._condition(query.node_ids or None, query.doc_ids or None, query.filters)
        )

    def _matching(self, query: VectorStoreQuery, mode: Mode, condition: CoreFilter | None) -> list[ScoredPage]:
        top_k, text = _wanted(query, mode), query.query_str or ""
        if query.mode == VectorStoreQueryMode.MMR:
            return self._most_marginal(query, self._vector(query), condition)
        if mode == "lexical" or query.query_embedding is None or not self.is_embedding_query:
            if not text.strip():
                raise SettingError("The query has neither a text nor an embedding. Give query_str or query_embedding.")
            return self._core.retrieve(text, top_k, filter=condition, mode=mode)
        way: Mode = mode if text.strip() else "dense"
        return self.client.search(self._vector(query), text=text, top_k=top_k, filter=condition, mode=way)

    def _mode(self, query: VectorStoreQuery) -> Mode:
        if query.mode == VectorStoreQueryMode.DEFAULT:
            return self._core.mode
        if query.mode not in _MODES:
            known = ", ".join(mode.value for mode in (VectorStoreQueryMode.DEFAULT, *_MODES))
            raise SettingError(f"The query mode {query.mode.value!r} is not known here; there are {known}.")
        return _MODES[query.mode]

    def _vector(self, query: VectorStoreQuery) -> Any:
        if query.query_embedding is not None and self.is_embedding_query:
            return np.asarray(query.query_embedding, np.float32)
        return self.embedder.embed_queries([query.query_str or ""])[0]

    def _most_marginal(self, query: VectorStoreQuery, vector: Any, condition: CoreFilter | None) -> list[ScoredPage]:
        """Nodes that fit the question and differ from each other."""
        store: Any = self.client
        if not self.is_embedding_query or not hasattr(store, "get_embeddings"):
            raise SettingError(f"The query mode 'mmr' needs single vectors; {self.embedder.name!r} makes many a page.")
        fetched = store.search(vector, top_k=max(20, 4 * query.similarity_top_k), filter=condition)
        if fetched:
            store.prepare(self.embedder)  # another one's vectors would be compared with the question's
        stored = store.get_embeddings([hit.page.id for hit in fetched], self.embedder)
        hits = {hit.page.id: hit for hit in fetched if hit.page.id in stored}
        scores, chosen = get_top_k_mmr_embeddings(
            vector.tolist(),
            [stored[id_].tolist() for id_ in hits],
            similarity_top_k=query.similarity_top_k,
            embedding_ids=list(hits),
            mmr_threshold=query.mmr_threshold,
        )
        return [ScoredPage(hits[id_].page, float(score), "mmr") for id_, score in zip(chosen, scores, strict=True)]

    def _condition(
        self, node_ids: list[str] | None, doc_ids: list[str] | None, filters: MetadataFilters | Mapping[str, Any] | None
    ) -> CoreFilter | None:
        condition = to_filter(filters, self._scroll)
        if node_ids is not None:
            condition = join_filters({"$ids": [page_id(node_id) for node_id in node_ids]}, condition)
        return join_filters(of_ref_docs(doc_ids), condition) if doc_ids is not None else condition

    def _scroll(self) -> Iterator[Page]:
        return self.client.scroll()


def _node_id(hit: ScoredPage) -> str:
    return hit.page.given_id or hit.page.id


def _wanted(query: VectorStoreQuery, mode: Mode) -> int:
    """How many nodes; LlamaIndex has a number of its own for each way to search."""
    own = {"hybrid": query.hybrid_top_k, "lexical": query.sparse_top_k, "dense": None}[mode]
    return own if own is not None and query.mode != VectorStoreQueryMode.DEFAULT else query.similarity_top_k
