"""`VisRAGCrossEncoderRerank`: nodes scored anew by a model that reads the question and the page together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from visrag_integrations.errors import SettingError
from visrag_integrations.llamaindex.convert import node_to_page
from visrag_integrations.llamaindex.retriever import to_query
from visrag_integrations.rerankers import CrossEncoderReranker
from visrag_integrations.rerankers.opened import OpenedRerankers
from visrag_integrations.types import ScoredPage

dispatcher = get_dispatcher(__name__)


class VisRAGCrossEncoderRerank(BaseNodePostprocessor):
    """Orders nodes by what a cross-encoder, here or behind a URL, says of their text, picture, or both.

    Those given stay as they are; new `NodeWithScore`s hold the same nodes.

    >>> VisRAGCrossEncoderRerank("BAAI/bge-reranker-v2-m3", top_n=3)  # doctest: +SKIP

    Args:
        model: A model's name, folder or URL, a `sentence_transformers.CrossEncoder`, or a `CrossEncoderReranker`.
        top_n: At most so many.
        **settings: Of `CrossEncoderReranker`: `url=`, `reads=`, `min_score=`, `device=`, `api_key=` and others.
    """

    top_n: int = Field(default=3, ge=1, description="At most so many nodes.")
    _made_from: Any = PrivateAttr()
    _settings: dict[str, Any] = PrivateAttr()
    _opened: OpenedRerankers = PrivateAttr(default_factory=OpenedRerankers)

    def __init__(self, model: Any, *, top_n: int = 3, **settings: Any) -> None:
        settings.pop("class_name", None)
        fields: dict[str, Any] = {"top_n": top_n}
        if "callback_manager" in settings:
            fields["callback_manager"] = settings.pop("callback_manager")
        if "top_k" in settings:
            raise SettingError("VisRAGCrossEncoderRerank has no argument 'top_k'; it is top_n.")
        if isinstance(model, CrossEncoderReranker) and settings:
            raise SettingError(f"A CrossEncoderReranker has its own settings; leave {', '.join(settings)} out.")
        super().__init__(**fields)
        self._made_from, self._settings = model, settings

    @classmethod
    def class_name(cls) -> str:
        return "VisRAGCrossEncoderRerank"

    def close(self) -> None:
        """Let go of the model, unless it was given as a `CrossEncoderReranker`. A later call loads it again."""
        self._opened.close()

    @dispatcher.span
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise SettingError("Nodes are ordered against a question; give query_str= or query_bundle=.")
        if not nodes:
            return []
        reranker = self._opened.get(self._made_from, self._settings)  # loaded only where there is something to order
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=self.top_n, model_name=reranker.name))
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: reranker.name,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            best = self._best(nodes, query_bundle, reranker)
            event.on_end(payload={EventPayload.NODES: best})
        dispatcher.event(ReRankEndEvent(nodes=best))
        return best

    def _best(
        self, nodes: Sequence[NodeWithScore], query: QueryBundle, reranker: CrossEncoderReranker
    ) -> list[NodeWithScore]:
        # By the page that each node became: two nodes may be pieces of one page, with one id.
        places: dict[int, NodeWithScore] = {}
        hits: list[ScoredPage] = []
        for found in nodes:
            page = node_to_page(found.node)
            places[id(page)] = found
            hits.append(ScoredPage(page, 0.0))
        best: list[NodeWithScore] = []
        for hit in reranker.rerank(to_query(query), hits, self.top_n):
            best.append(NodeWithScore(node=places[id(hit.page)].node, score=hit.score))
        return best
