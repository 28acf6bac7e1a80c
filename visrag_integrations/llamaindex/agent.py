"""`VRAGQueryEngine`: an answer from several searches and closer looks, with every step in the response."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core import Settings
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.schema import QueryBundle, QueryType

from visrag_integrations.agent import PictureRules, Step, Trace, VRAGAgent
from visrag_integrations.agent.steps import step_dict
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.retrievers import is_retriever
from visrag_integrations.llamaindex.answer_metadata import answer_metadata
from visrag_integrations.llamaindex.convert import hit_to_node, node_to_hit
from visrag_integrations.llamaindex.events import ResponseEvents
from visrag_integrations.llamaindex.llm import EVisRAGLLM
from visrag_integrations.llamaindex.llm_generators import generator_of, resolve_llm
from visrag_integrations.llamaindex.node_pictures import NO_URLS, UrlRules
from visrag_integrations.llamaindex.query_engine import share_callbacks, url_rules_of
from visrag_integrations.llamaindex.retriever import VisRAGRetriever
from visrag_integrations.types import ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter

dispatcher = get_dispatcher(__name__)


class NodeSearch:
    """Any retriever of LlamaIndex as one of the core: with its callbacks and events, and as many nodes as are wanted.

    Args:
        retriever: Of LlamaIndex, or of the core. One without `similarity_top_k` gives as many nodes as it gives.
        urls: Which pictures behind URLs are opened.
    """

    def __init__(self, retriever: Any, urls: UrlRules = NO_URLS) -> None:
        if not isinstance(retriever, BaseRetriever):
            retriever = VisRAGRetriever(retriever)
        self.retriever = retriever
        self._urls = urls

    def retrieve(self, query: str, top_k: int = 5, *, filter: Filter | None = None) -> Sequence[ScoredPage]:
        """The best nodes as pages."""
        asked: Any = self.retriever
        # LlamaIndex has no argument for the number; a copy is changed, so that the caller's own keeps its number.
        if hasattr(asked, "similarity_top_k"):
            asked = copy.copy(asked)
            asked.similarity_top_k = top_k
        return [node_to_hit(node, self._urls) for node in asked.retrieve(query)]


class VRAGQueryEngine(BaseQueryEngine):
    """Answers a question by searching several times and looking closer, as VRAG-RL's models are trained to.

    `Response.source_nodes` are the pages that were shown. `metadata["answer"]` is the core's `Answer` and
    `metadata["trace"]` its `Trace`, which draws itself in a notebook; the entries of the metadata are JSON: `steps`,
    `reason` (why the run ended), `sufficient`, `thinking` and `problems`.

    >>> VRAGQueryEngine(retriever, EVisRAGLLM("http://localhost:8000/v1")).query("How many?")  # doctest: +SKIP

    Args:
        retriever: Any retriever of LlamaIndex, or one of the core such as `PageRetriever`.
        llm: An `EVisRAGLLM`, another multi-modal LLM, a generator of the core, or a name; `Settings.llm` when None.
        max_turns: At most so many; before the last one the model is asked to answer. None: what the checkpoint of the
            LLM was trained with (`train_agent` writes it there), else 10.
        token_budget: At most about so many tokens read and written in all turns of a question together.
        template: The prompt; `{question}` in it is replaced. None: as above, else that of the core.
        pictures: How large pages and crops are shown. None: as above, else `PictureRules()`.
        trained: The folder of the trained checkpoint, where the LLM is behind a server.
        callback_manager: That of `Settings` when None.
    """

    def __init__(
        self,
        retriever: Any,
        llm: Any = None,
        max_turns: int | None = None,
        *,
        token_budget: int | None = None,
        template: str | None = None,
        pictures: PictureRules | None = None,
        trained: str | Path | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self.llm = resolve_llm(llm)
        super().__init__(callback_manager=callback_manager or Settings.callback_manager)
        share_callbacks(self.llm, self.callback_manager, given=callback_manager is not None)
        self.agent = make_agent(
            retriever,
            self.llm,
            max_turns,
            token_budget=token_budget,
            template=template,
            pictures=pictures,
            trained=trained,
        )

    def stream_steps(self, query: QueryType) -> Iterator[Step | Trace]:
        """The steps as they happen, then the whole `Trace`."""
        return self.agent.stream(text_of(query))

    def astream_steps(self, query: QueryType) -> AsyncIterator[Step | Trace]:
        """`stream_steps`, without blocking the event loop."""
        return self.agent.astream(text_of(query))

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}

    @dispatcher.span
    def _query(self, query_bundle: QueryBundle) -> Any:
        with ResponseEvents(self.callback_manager, CBEventType.QUERY, query_bundle) as end:
            return end(to_response(self.agent.run(text_of(query_bundle))))

    @dispatcher.span
    async def _aquery(self, query_bundle: QueryBundle) -> Any:
        with ResponseEvents(self.callback_manager, CBEventType.QUERY, query_bundle) as end:
            return end(to_response(await self.agent.arun(text_of(query_bundle))))


def make_agent(retriever: Any, llm: Any, max_turns: int | None, **settings: Any) -> VRAGAgent:
    """The core's agent around a retriever and an LLM of LlamaIndex, whose callbacks and events fire."""
    if not is_retriever(retriever):
        raise SettingError(
            f"retriever is {type(retriever).__name__}, without retrieve(). Give VisRAGRetriever(...), another "
            "retriever of LlamaIndex, or PageRetriever(embedder, store)."
        )
    search = NodeSearch(retriever, url_rules_of(llm))
    if isinstance(llm, EVisRAGLLM):
        settings["settings"] = llm.settings()
    return VRAGAgent(search, generator_of(llm), max_turns, **settings)


def to_response(trace: Trace) -> Response:
    """A run as a response."""
    answer = trace.answer
    nodes = list(map(hit_to_node, answer.pages))
    metadata = answer_metadata(answer, nodes, trace=trace)
    metadata |= {"steps": list(map(step_dict, trace)), "reason": trace.reason}
    return Response(answer.text, source_nodes=nodes, metadata=metadata)


def text_of(query: QueryType) -> str:
    """The question's text.

    >>> text_of(QueryBundle("How many?")), text_of("How many?")
    ('How many?', 'How many?')
    """
    if isinstance(query, str):
        return query
    return query.query_str
