"""`VisRAGQueryEngine`: one look at all pages, then an answer with its evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core import Settings
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
from llama_index.core.schema import NodeWithScore, QueryBundle

from visrag_integrations.generation.events import AnswerReady, SectionText
from visrag_integrations.generation.strategies import Prompt, Strategy, find_strategy
from visrag_integrations.grounding import ground, grounding_dict
from visrag_integrations.interfaces.threads import in_thread
from visrag_integrations.llamaindex.convert import node_to_page
from visrag_integrations.llamaindex.engine_generator import generator_of, resolve_llm
from visrag_integrations.llamaindex.llm import EVisRAGLLM
from visrag_integrations.rag import VisRAG
from visrag_integrations.types import Answer, Evidence, ScoredPage

if TYPE_CHECKING:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from typing_extensions import Self

    from visrag_integrations.interfaces import Filter

dispatcher = get_dispatcher(__name__)

Given = TypeVar("Given", bound=Response | StreamingResponse | AsyncStreamingResponse)


class VisRAGQueryEngine(BaseQueryEngine):
    """Answers a question from page pictures; `Response.metadata` says which page holds what.

    All pages are shown at once, in one call. `metadata["answer"]` is the core's `Answer`; beside it stand, JSON-like,
    `sufficient`, `evidence` (one entry per page: `index`, `node_id`, `source`, `page`, `text`, `relevant`, and what was
    found of it there: `verdict`, `support`, `boxes`, `missing`), `thinking`, `observation` and `problems`. A streaming
    response fills its metadata when its text has been read to the end.

    >>> VisRAGQueryEngine(retriever, EVisRAGLLM()).query("How many?").metadata["evidence"]  # doctest: +SKIP

    Args:
        retriever: Any retriever of LlamaIndex; its nodes with a picture are shown, the others are read out.
        llm: An `EVisRAGLLM`, another multi-modal LLM, a generator of the core, or a name; `Settings.llm` when None.
        strategy: How pages are shown: a name in `STRATEGIES`, or a function like those in it.
        prompt: "evisrag" or "plain"; what the `EVisRAGLLM` says, and "plain" for other LLMs, when None.
        node_postprocessors: What nodes go through before they are shown.
        streaming: Give a response that is written while it is read.
        callback_manager: That of `Settings` when None.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        llm: Any = None,
        *,
        strategy: str | Strategy = "multi_image",
        prompt: Prompt | None = None,
        node_postprocessors: Sequence[BaseNodePostprocessor] | None = None,
        streaming: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self.retriever, self.llm = retriever, resolve_llm(llm)
        ours = isinstance(self.llm, EVisRAGLLM)
        self.prompt: Prompt = prompt or (self.llm.prompt if isinstance(self.llm, EVisRAGLLM) else "plain")
        self.strategy, self.streaming = find_strategy(strategy), streaming
        self._settings = self.llm.settings() if ours else None  # type: ignore[attr-defined]
        self._generator = generator_of(self.llm)
        super().__init__(callback_manager=callback_manager or Settings.callback_manager)
        if callback_manager is not None or not self.llm.callback_manager.handlers:
            self.llm.callback_manager = self.callback_manager
        self._node_postprocessors = list(node_postprocessors or ())
        for postprocessor in self._node_postprocessors:
            postprocessor.callback_manager = self.callback_manager

    @classmethod
    def from_args(cls, retriever: BaseRetriever, llm: Any = None, **settings: Any) -> Self:
        """An engine on a retriever; the arguments are the constructor's."""
        return cls(retriever, llm, **settings)

    @classmethod
    def from_defaults(cls, index: Any, llm: Any = None, *, similarity_top_k: int = 3, **settings: Any) -> Self:
        """An engine on an index, such as a `VectorStoreIndex` over `VisRAGVectorStore`.

        Args:
            index: Anything with `as_retriever`.
            llm: As in the constructor.
            similarity_top_k: How many pages are shown.
            **settings: Of the constructor; what it does not know goes to `as_retriever`, for example `filters`.
        """
        own = {"strategy", "prompt", "node_postprocessors", "streaming", "callback_manager"}
        for_retriever = {name: settings.pop(name) for name in list(settings) if name not in own}
        return cls(index.as_retriever(similarity_top_k=similarity_top_k, **for_retriever), llm, **settings)

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}

    # --- nodes ------------------------------------------------------------------------------------------------------

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """The nodes that will be shown, best first."""
        nodes = self.retriever.retrieve(query_bundle)
        for postprocessor in self._node_postprocessors:
            nodes = postprocessor.postprocess_nodes(nodes, query_bundle=query_bundle)
        return nodes

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """`retrieve`, without blocking the event loop."""
        nodes = await self.retriever.aretrieve(query_bundle)
        for postprocessor in self._node_postprocessors:
            nodes = await postprocessor.apostprocess_nodes(nodes, query_bundle=query_bundle)
        return nodes

    # --- answers ----------------------------------------------------------------------------------------------------

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Response | StreamingResponse:
        """The answer from these nodes."""
        sources = [*nodes, *(additional_source_nodes or ())]
        with self._synthesizing(query_bundle) as done:
            if self.streaming:
                metadata: dict[str, Any] = {}
                pieces = self._pieces(query_bundle, nodes, metadata)
                return done(StreamingResponse(pieces, source_nodes=sources, metadata=metadata))
            answer = self._rag(nodes).ask(query_bundle.query_str)
            return done(Response(answer.text, source_nodes=sources, metadata=answer_metadata(answer, nodes)))

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Response | AsyncStreamingResponse:
        """`synthesize`, without blocking the event loop."""
        sources = [*nodes, *(additional_source_nodes or ())]
        with self._synthesizing(query_bundle) as done:
            if self.streaming:
                metadata: dict[str, Any] = {}
                pieces = in_thread(self._pieces(query_bundle, nodes, metadata))
                return done(AsyncStreamingResponse(pieces, source_nodes=sources, metadata=metadata))
            rag = await asyncio.to_thread(self._loaded_rag, nodes)
            answer = await rag.aask(query_bundle.query_str)
            known = await asyncio.to_thread(answer_metadata, answer, nodes)
            return done(Response(answer.text, source_nodes=sources, metadata=known))

    @dispatcher.span
    def _query(self, query_bundle: QueryBundle) -> Any:
        with self._querying(query_bundle) as done:
            return done(self.synthesize(query_bundle, self.retrieve(query_bundle)))

    @dispatcher.span
    async def _aquery(self, query_bundle: QueryBundle) -> Any:
        with self._querying(query_bundle) as done:
            return done(await self.asynthesize(query_bundle, await self.aretrieve(query_bundle)))

    def _pieces(
        self, query: QueryBundle, nodes: Sequence[NodeWithScore], metadata: dict[str, Any]
    ) -> Generator[str, None, None]:
        """The answer as it is written; then the metadata is filled."""
        events, said = self._rag(nodes).stream(query.query_str), ""
        for event in events:
            if isinstance(event, SectionText) and event.section == "answer":
                text = event.text if said else event.text.lstrip()
                said += text
                if text:
                    yield text
            elif isinstance(event, AnswerReady):
                metadata.update(answer_metadata(event.answer, nodes))
                if not said and event.answer.text:
                    yield event.answer.text

    def _loaded_rag(self, nodes: Sequence[NodeWithScore]) -> VisRAG:
        hasattr(self._generator, "agenerate")  # loads the engine here, not on the event loop
        return self._rag(nodes)

    def _rag(self, nodes: Sequence[NodeWithScore]) -> VisRAG:
        fetch_urls = bool(getattr(self.llm, "fetch_urls", False))
        hits = [ScoredPage(node_to_page(found.node, fetch_urls=fetch_urls), found.score or 0.0) for found in nodes]
        return VisRAG(
            _Found(hits),
            self._generator,
            self.strategy,
            top_k=max(1, len(hits)),
            prompt=self.prompt,
            settings=self._settings,
        )

    # --- events -----------------------------------------------------------------------------------------------------

    def _querying(self, query: QueryBundle) -> Watched:
        return Watched(self.callback_manager, CBEventType.QUERY, query)

    def _synthesizing(self, query: QueryBundle) -> Watched:
        return Watched(self.callback_manager, CBEventType.SYNTHESIZE, query)


class _Found:
    """A retriever that has found its pages already."""

    def __init__(self, hits: Sequence[ScoredPage]) -> None:
        self.hits = hits

    def retrieve(self, query: str, top_k: int = 5, *, filter: Filter | None = None) -> Sequence[ScoredPage]:
        return self.hits


class Watched:
    """LlamaIndex's callbacks and events around a step that ends with a response."""

    def __init__(self, manager: CallbackManager, kind: CBEventType, query: QueryBundle) -> None:
        self._query, self._kind = query, kind
        self._event = manager.event(kind, payload={EventPayload.QUERY_STR: query.query_str})

    def __enter__(self) -> Watched:
        if self._kind == CBEventType.SYNTHESIZE:
            dispatcher.event(SynthesizeStartEvent(query=self._query))
        self._running = self._event.__enter__()
        return self

    def __call__(self, response: Given) -> Given:
        """The response, once those who listen know of it."""
        self._running.on_end(payload={EventPayload.RESPONSE: response})
        if self._kind == CBEventType.SYNTHESIZE:
            dispatcher.event(SynthesizeEndEvent(query=self._query, response=response))
        return response

    def __exit__(self, *error: Any) -> None:
        self._event.__exit__(*error)


def answer_metadata(answer: Answer, nodes: Sequence[NodeWithScore]) -> dict[str, Any]:
    """The answer as response metadata.

    >>> answer_metadata(Answer("12", thinking="Six and six."), [])["thinking"]
    'Six and six.'
    """
    answer = ground(answer)
    return {
        "answer": answer,
        "sufficient": answer.sufficient,
        "evidence": [_entry(entry, nodes) for entry in answer.evidence],
        "thinking": answer.thinking,
        "observation": answer.observation,
        "problems": list(answer.problems),
    }


def _entry(entry: Evidence, nodes: Sequence[NodeWithScore]) -> dict[str, Any]:
    known = 0 < entry.page_index <= len(nodes) and entry.page is not None
    return {
        "index": entry.page_index,
        "node_id": nodes[entry.page_index - 1].node_id if known else None,
        "source": entry.page.source if entry.page is not None else None,
        "page": entry.page.number if entry.page is not None else None,
        "text": entry.text,
        "relevant": entry.relevant,
        **grounding_dict(entry),
    }
