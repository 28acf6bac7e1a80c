"""`VisRAGRetriever`: the core's retriever as a LlamaIndex retriever."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.filters import join_filters
from visrag_integrations.interfaces.retrievers import is_retriever
from visrag_integrations.interfaces.stores import store_of_tenant
from visrag_integrations.llamaindex.convert import hit_to_node
from visrag_integrations.llamaindex.embedder import GivenEmbedder
from visrag_integrations.llamaindex.filters import CoreFilter, store_filter
from visrag_integrations.llamaindex.node_pictures import picture_of_image
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.types import Mode, Page, Query, ScoredPage

if TYPE_CHECKING:
    from typing_extensions import Self


_OWN = ("similarity_top_k", "filters", "mode", "score_threshold", "tenant")
_OF_HOST = ("callback_manager", "object_map", "objects", "verbose")
_ELSEWHERE = {
    "filter": "it is filters.",
    "top_k": "it is similarity_top_k.",
    "k": "it is similarity_top_k.",
    "vector_store_query_mode": 'it is mode, "dense", "lexical" or "hybrid".',
    "alpha": "it is a field of queries to VisRAGVectorStore.",
}
"""What other retrievers call an argument of this one."""


class VisRAGRetriever(BaseRetriever):
    """Finds pages; gives image nodes that say where they are from, with their score and picture.

    A `QueryBundle` may have a text, an `image_path`, or both; its `embedding`, or its `custom_embedding_strs`, take the
    place of the text for the dense search.

    >>> VisRAGRetriever(retriever=page_retriever, similarity_top_k=3).retrieve("How many?")  # doctest: +SKIP

    Args:
        retriever: A `PageRetriever`, or any object with its `retrieve`.
        similarity_top_k: At most so many pages.
        filters: LlamaIndex's `MetadataFilters`, or a dict such as `{"source": "report.pdf"}`.
        mode: "dense", "lexical" or "hybrid"; the core retriever's own when None.
        score_threshold: Pages with a lower score are left out; for mode "dense" only.
        tenant: Whose pages are searched, where one collection serves several; no filter finds another's.
        **settings: Of LlamaIndex's `BaseRetriever`: `callback_manager`, `object_map`, `objects`, `verbose`.
    """

    def __init__(
        self,
        retriever: Any,
        similarity_top_k: int = 5,
        *,
        filters: Any = None,
        mode: Mode | None = None,
        score_threshold: float | None = None,
        tenant: str = "",
        **settings: Any,
    ) -> None:
        check_arguments("VisRAGRetriever", settings, (*_OWN, *_OF_HOST), elsewhere=_ELSEWHERE)
        if not is_retriever(retriever):
            raise SettingError(
                f"retriever is {type(retriever).__name__}, without retrieve(). Give PageRetriever(embedder, store)."
            )
        if similarity_top_k < 1:
            raise SettingError(f"similarity_top_k is {similarity_top_k}; it is the number of pages wanted, 1 or more.")
        self.retriever = _of_tenant(retriever, tenant) if tenant else retriever
        self.similarity_top_k = similarity_top_k
        self.filters = filters
        self.mode = mode
        self.score_threshold = score_threshold
        self._opened: list[Any] = []  # what `close` closes
        super().__init__(**settings)

    @classmethod
    def from_index(
        cls,
        location: Any,
        embedder: Any = "openbmb/VisRAG-Ret",
        *,
        collection: str = "pages",
        tenant: str = "",
        **settings: Any,
    ) -> Self:
        """A retriever on an index that is already there; `close` frees what was opened for it.

        Args:
            location: A folder, the URL of a Qdrant server, or a `QdrantClient`.
            embedder: What filled it: a name, a checkpoint folder, or an embedder.
            collection: The collection's name.
            tenant: Whose pages are searched.
            **settings: Of the retriever, for example `similarity_top_k=3`.
        """
        from visrag_integrations.store import QdrantPageStore  # slow to import, and only needed here

        check_arguments("VisRAGRetriever.from_index", settings, (*_OWN, *_OF_HOST), elsewhere=_ELSEWHERE)
        store = QdrantPageStore(location, collection, tenant=tenant)
        given = GivenEmbedder(embedder)
        made = cls(PageRetriever(given.get(), store), **settings)
        made._opened = [given, store]
        return made

    def close(self) -> None:
        """Close the index and the embedder that `from_index` opened, where it did; what you gave stays open."""
        for one in self._opened:
            close(one)
        self._opened = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return list(map(hit_to_node, self.find(query_bundle)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def find(self, query: QueryBundle) -> list[ScoredPage]:
        """The pages as the core gives them."""
        condition = store_filter(getattr(self.retriever, "store", None), self.filters, self._scroll)
        if query.embedding is not None or query.custom_embedding_strs:
            return self._find_by_vector(query, condition)
        # Only what was set: another retriever than the core's may not know the rest.
        settings: dict[str, Any] = {}
        if condition is not None:
            settings["filter"] = condition
        if self.mode is not None:
            settings["mode"] = self.mode
        if self.score_threshold is not None:
            settings["score_threshold"] = self.score_threshold
        return list(self.retriever.retrieve(to_query(query), self.similarity_top_k, **settings))

    def _find_by_vector(self, query: QueryBundle, condition: CoreFilter | None) -> list[ScoredPage]:
        store = self._part("store")
        embedder = self._part("embedder")
        if query.embedding is not None:
            vector = np.asarray(query.embedding, np.float32)
        else:
            vectors = embedder.embed_queries(list(query.custom_embedding_strs or ()))
            # Many vectors are matched each by itself; of single ones LlamaIndex takes the mean.
            vector = np.concatenate(vectors) if embedder.kind == "multi" else np.mean(vectors, axis=0)
        hits: list[ScoredPage] = store.search(
            vector,
            text=query.query_str,
            top_k=self.similarity_top_k,
            filter=join_filters(getattr(self.retriever, "filter", None), condition),
            mode=self.mode or getattr(self.retriever, "mode", "dense"),
        )
        # The store knows no threshold; the core's retriever, which does, was left out.
        if self.score_threshold is None:
            return hits
        return [hit for hit in hits if hit.score >= self.score_threshold]

    def _scroll(self) -> Iterator[Page]:
        found: Iterator[Page] = self._part("store").scroll()
        return found

    def _part(self, name: str) -> Any:
        part = getattr(self.retriever, name, None)
        if part is None:
            raise SettingError(
                f"This query needs the retriever's {name}; {type(self.retriever).__name__} has none. "
                "Use a PageRetriever."
            )
        return part


def _of_tenant(retriever: Any, tenant: str) -> Any:
    """The core's retriever, on the pages of this tenant only."""
    if not isinstance(retriever, PageRetriever):
        raise SettingError(
            f"tenant={tenant!r} needs a PageRetriever, and retriever is {type(retriever).__name__}. Keep tenants apart "
            "in it, or leave tenant out."
        )
    shown = copy.copy(retriever)
    shown.store = store_of_tenant(retriever.store, tenant)
    return shown


def to_query(query: QueryBundle) -> str | Query:
    """What was asked, as the core takes it.

    >>> to_query(QueryBundle("how many?")), to_query(QueryBundle("", image_path="crop.png")).text
    ('how many?', '')
    """
    if query.image_path is None:
        return query.query_str
    return Query(query.query_str or "", picture_of_image(Path(query.image_path)))
