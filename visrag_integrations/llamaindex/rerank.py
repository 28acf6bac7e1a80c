"""`VisRAGRerank`: nodes scored anew against the question, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.interfaces.embedders import embed_mixed
from visrag_integrations.interfaces.stores import stored_embeddings
from visrag_integrations.llamaindex.convert import node_to_page
from visrag_integrations.llamaindex.embedder import GivenEmbedder, one_embedder
from visrag_integrations.llamaindex.retriever import to_query
from visrag_integrations.scores import exact

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder
    from visrag_integrations.types import Page

dispatcher = get_dispatcher(__name__)


class VisRAGRerank(BaseNodePostprocessor):
    """Orders nodes by the exact score of their picture (or text) for the question, and keeps the best.

    Those given stay as they are; new `NodeWithScore`s hold the same nodes.

    >>> VisRAGRerank(store=store, embedder=embedder, top_n=3).postprocess_nodes(nodes, query_str="?")  # doctest: +SKIP

    Args:
        embedder: A page embedder, a `VisRAGEmbedding` or another LlamaIndex embedding, or a model's name;
            "openbmb/VisRAG-Ret" when None.
        store: Where the vectors of stored nodes are taken from instead of being made again: a `VisRAGVectorStore`, or
            a page store such as `QdrantPageStore`.
        top_n: At most so many.
        embedding: The older name of `embedder`.
    """

    top_n: int = Field(default=3, ge=1, description="At most so many nodes.")
    _embedder: Any = PrivateAttr()
    _store: Any = PrivateAttr(default=None)

    def __init__(
        self, embedder: Any = None, *, store: Any = None, top_n: int = 3, embedding: Any = None, **fields: Any
    ) -> None:
        fields.pop("class_name", None)
        known = {*type(self).model_fields, "embedder", "store"}
        check_arguments("VisRAGRerank", fields, known, elsewhere={"top_k": "it is top_n.", "model": "it is embedder."})
        super().__init__(**{**fields, "top_n": top_n})
        self._embedder = GivenEmbedder(one_embedder(embedder, embedding))
        if isinstance(store, BasePydanticVectorStore):
            store = store.client
        self._store = store

    @classmethod
    def class_name(cls) -> str:
        return "VisRAGRerank"

    def close(self) -> None:
        """Free the model that was loaded by its name, unless others use it; what you gave stays open."""
        self._embedder.close()

    @dispatcher.span
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise SettingError("Nodes are ordered against a question; give query_str= or query_bundle=.")
        if not nodes:
            return []
        embedder = self._embedder.get()  # loaded only where there is something to order
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=self.top_n, model_name=embedder.name))
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: embedder.name,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            best = self._best(nodes, query_bundle, embedder)
            event.on_end(payload={EventPayload.NODES: best})
        dispatcher.event(ReRankEndEvent(nodes=best))
        return best

    def _best(self, nodes: Sequence[NodeWithScore], query: QueryBundle, embedder: PageEmbedder) -> list[NodeWithScore]:
        (asked,) = embedder.embed_queries([to_query(query)])
        vectors = self._vectors([node_to_page(found.node) for found in nodes], embedder)
        if embedder.kind == "single":
            scores = exact.cosine(asked, vectors)
        else:
            scores = exact.maxsims(asked, vectors)
        # Best first; nodes with equal scores stay in the order they came in.
        order = sorted(range(len(nodes)), key=lambda place: -scores[place])
        return [NodeWithScore(node=nodes[place].node, score=scores[place]) for place in order[: self.top_n]]

    def _vectors(self, pages: Sequence[Page], embedder: PageEmbedder) -> list[Embedding]:
        """The vectors of the pages, in order: those that are stored, and the others embedded now."""
        stored = stored_embeddings(self._store, [page.id for page in pages], embedder)
        made = iter(embed_mixed(embedder, [page for page in pages if page.id not in stored]))
        vectors = []
        for page in pages:
            if page.id in stored:
                vectors.append(stored[page.id])
            else:
                vectors.append(next(made))
        return vectors
