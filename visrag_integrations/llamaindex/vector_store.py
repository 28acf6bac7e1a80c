"""`VisRAGVectorStore`: a LlamaIndex vector store over the core's page store, which looks at pictures itself."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from visrag_integrations.interfaces.embedders import embed_mixed
from visrag_integrations.interfaces.filters import join_filters
from visrag_integrations.interfaces.stores import gives_embeddings, knows_who_filled_it, stored_embeddings
from visrag_integrations.llamaindex.convert import PICTURE_VECTOR_OF, node_to_page, page_id, page_to_node
from visrag_integrations.llamaindex.embedder import GivenEmbedder, one_embedder
from visrag_integrations.llamaindex.embedding import DEFAULT_MODEL, StoreEmbedding
from visrag_integrations.llamaindex.filters import CoreFilter, of_ref_docs, to_filter
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.types import Mode, Page, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder, PageStore

# LlamaIndex's ways to search, as ours.
_MODES: dict[VectorStoreQueryMode, Mode] = {
    VectorStoreQueryMode.SPARSE: "lexical",
    VectorStoreQueryMode.TEXT_SEARCH: "lexical",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    VectorStoreQueryMode.MMR: "dense",
}
_BATCH = 32
"""So many nodes are embedded and stored at once: what a failure loses, and how many pictures are open together."""
_MANY_IDS = 256
"""A question about more nodes than this is first asked without them; see `_search`."""


@dataclass(frozen=True)
class NodePage:
    """A node on its way into the store: its page, and its vector; None where the page has to be embedded."""

    page: Page
    vector: Embedding | None


class VisRAGVectorStore(BasePydanticVectorStore):
    """Keeps nodes in a page store, and finds them by text or vector; nodes come back with their metadata and picture.

    LlamaIndex embeds the text of every node before it hands it over, also of those with a picture. So this store embeds
    the picture itself, unless the node's embedding is `VisRAGEmbedding`'s vector of it. Several nodes with one picture
    (a page whose text was split) are kept as one, under the first one's id.

    >>> index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)  # doctest: +SKIP

    Args:
        store: A page store, for example `QdrantPageStore("my_index")`.
        embedder: A `VisRAGEmbedding` or any other LlamaIndex embedding, a page embedder of the core (multi-vector
            ones too), or a model's name; "openbmb/VisRAG-Ret" when None.
        fetch_urls: Whether pictures behind http and https URLs are fetched.
        embedding: The older name of `embedder`.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False
    fetch_urls: bool = False
    _store: Any = PrivateAttr()
    _embedder: Any = PrivateAttr()
    _retriever: Any = PrivateAttr(default=None)

    def __init__(
        self, store: PageStore, embedder: Any = None, *, fetch_urls: bool = False, embedding: Any = None
    ) -> None:
        embedder = one_embedder(embedder, embedding)
        given = GivenEmbedder(embedder)
        if isinstance(embedder, (str, Path)) and str(embedder) != DEFAULT_MODEL:
            embedder = given.get()  # loaded now: only the model itself says of which kind it is
        # A multi-vector embedder has to see the question itself: LlamaIndex's vectors are flat.
        flat = getattr(embedder, "kind", "single") == "single"
        fields: dict[str, Any] = {"is_embedding_query": flat, "fetch_urls": fetch_urls}
        super().__init__(**fields)
        self._store = store
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
        """Free the model that was loaded by its name, unless others use it; what you gave stays open."""
        self._retriever = None  # it holds the embedder
        self._embedder.close()

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Keep nodes, those with the same ids are overwritten; gives their ids, in order."""
        pages = pages_of_nodes(nodes, self.embedder, fetch_urls=self.fetch_urls)
        for start in range(0, len(pages), _BATCH):
            self._add(pages[start : start + _BATCH])
        return [node.node_id for node in nodes]

    def _add(self, pages: Sequence[NodePage]) -> None:
        missing = [one.page for one in pages if one.vector is None]
        made = iter(embed_mixed(self.embedder, missing))
        # In the order of the pages: made now, or brought by the node.
        vectors = []
        for one in pages:
            vectors.append(next(made) if one.vector is None else one.vector)
        self.client.prepare(self.embedder)
        self.client.add_pages([one.page for one in pages], vectors)

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
        if knows_who_filled_it(store):
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
            pages: Any = self.client.get_pages(list(map(page_id, node_ids)))
        else:
            pages = self.client.scroll(self._condition(node_ids, None, filters))
        return list(map(page_to_node, pages))

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
            ids=list(map(_node_id, hits)),
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _search(self, query: VectorStoreQuery) -> list[ScoredPage]:
        mode = self._mode(query)
        node_ids = query.node_ids or None
        doc_ids = query.doc_ids or None
        # An index asks for every node it was built from: mostly that is no restriction, and a slow one. So the question
        # is asked without it first, and again only if a node came back that was not asked for. The ranks of a hybrid
        # search depend on what else was found, so there it is not tried.
        if node_ids is not None and len(node_ids) > _MANY_IDS and mode != "hybrid":
            hits = self._matching(query, mode, self._condition(None, doc_ids, query.filters))
            if set(map(_node_id, hits)) <= set(node_ids):
                return hits
        return self._matching(query, mode, self._condition(node_ids, doc_ids, query.filters))

    def _matching(self, query: VectorStoreQuery, mode: Mode, condition: CoreFilter | None) -> list[ScoredPage]:
        top_k = _top_k(query, mode)
        text = query.query_str or ""
        if query.mode == VectorStoreQueryMode.MMR:
            return self._most_marginal(query, self._vector(query), condition)
        # Words, or a question that the store's own embedder has to see.
        if mode == "lexical" or query.query_embedding is None or not self.is_embedding_query:
            if not text.strip():
                raise SettingError("The query has neither a text nor an embedding. Give query_str or query_embedding.")
            return self._core.retrieve(text, top_k, filter=condition, mode=mode)
        if not text.strip():
            mode = "dense"  # there are no words to search for
        return self.client.search(self._vector(query), text=text, top_k=top_k, filter=condition, mode=mode)

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
        store = self.client
        if not self.is_embedding_query or not gives_embeddings(store):
            raise SettingError(f"The query mode 'mmr' needs single vectors; {self.embedder.name!r} makes many a page.")
        # More than are wanted, so that there is something to choose from.
        fetched = store.search(vector, top_k=max(20, 4 * query.similarity_top_k), filter=condition)
        if fetched:
            store.prepare(self.embedder)  # another one's vectors would be compared with the question's
        stored = stored_embeddings(store, [hit.page.id for hit in fetched], self.embedder)
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

    def _condition(
        self, node_ids: list[str] | None, doc_ids: list[str] | None, filters: MetadataFilters | Mapping[str, Any] | None
    ) -> CoreFilter | None:
        condition = to_filter(filters, self._scroll)
        if node_ids is not None:
            condition = join_filters({"$ids": list(map(page_id, node_ids))}, condition)
        if doc_ids is not None:
            condition = join_filters(of_ref_docs(doc_ids), condition)
        return condition

    def _scroll(self) -> Iterator[Page]:
        return self.client.scroll()


def pages_of_nodes(nodes: Sequence[BaseNode], embedder: PageEmbedder, *, fetch_urls: bool = False) -> list[NodePage]:
    """The nodes as pages; of nodes with one id the last, and nodes of one document with one picture are one page."""
    pieces: dict[Hashable, dict[str, NodePage]] = {}
    for node in nodes:
        page = node_to_page(node, fetch_urls=fetch_urls)
        of_page = pieces.setdefault(_page_key(node, page), {})
        of_page[node.node_id] = NodePage(page, _vector_of(node, page, embedder))
    return [_joined(list(of_page.values())) for of_page in pieces.values()]


def _joined(pieces: Sequence[NodePage]) -> NodePage:
    """One page of its pieces, under the id of the first, with their texts in order."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    text = "\n".join(piece.page.text for piece in pieces)
    return NodePage(dataclasses.replace(first.page, text=text), first.vector)


def _page_key(node: BaseNode, page: Page) -> Hashable:
    """The same for two pieces of one page, and for a node that is given twice."""
    # Pixels in memory and pictures that are still to be fetched cannot be compared.
    picture: Any = page.picture
    if picture is None or node.source_node is None or callable(picture):
        return node.node_id
    return (node.ref_doc_id, picture)


def _vector_of(node: BaseNode, page: Page, embedder: PageEmbedder) -> Embedding | None:
    """The node's own embedding where it is what `embedder` would make of the page."""
    if node.embedding is None or embedder.kind != "single" or len(node.embedding) != embedder.dimension:
        return None
    if page.picture is not None and node.metadata.get(PICTURE_VECTOR_OF) != embedder.name:
        return None  # LlamaIndex embeds the text of nodes with a picture
    return np.asarray(node.embedding, np.float32)


def _node_id(hit: ScoredPage) -> str:
    return hit.page.given_id or hit.page.id


def _top_k(query: VectorStoreQuery, mode: Mode) -> int:
    """How many nodes; LlamaIndex has a number of its own for each way to search."""
    own = {"hybrid": query.hybrid_top_k, "lexical": query.sparse_top_k, "dense": None}[mode]
    if own is None or query.mode == VectorStoreQueryMode.DEFAULT:
        return query.similarity_top_k
    return own
