"""`VisRAGQueryEngine`: one look at all pages, then an answer with its evidence."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.llms import LLM
from llama_index.core.retrievers import VectorIndexRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from visrag_integrations.generation.events import AnswerReady, SectionText
from visrag_integrations.generation.strategies import Prompt, Strategy
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.interfaces.threads import in_thread
from visrag_integrations.llamaindex.answer_metadata import AnswerMetadata, answer_metadata
from visrag_integrations.llamaindex.events import ResponseEvents
from visrag_integrations.llamaindex.llm import EVisRAGLLM
from visrag_integrations.llamaindex.llm_generators import generator_of, resolve_llm
from visrag_integrations.llamaindex.node_pages import shown_once
from visrag_integrations.llamaindex.node_pictures import NO_URLS, UrlRules
from visrag_integrations.rag import VisRAG
from visrag_integrations.types import ScoredPage

if TYPE_CHECKING:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from typing_extensions import Self

    from visrag_integrations.interfaces import Filter

dispatcher = get_dispatcher(__name__)


_OWN = ("strategy", "prompt", "node_postprocessors", "streaming", "callback_manager")
_OF_RETRIEVER = ("vector_store_kwargs", "verbose")
"""What LlamaIndex's retriever takes among its further arguments."""


class VisRAGQueryEngine(BaseQueryEngine):
    """Answers a question from page pictures; `Response.metadata` says which page holds what.

    All pages are shown at once, in one call; a page of which several pieces were found is shown once.
    `metadata["answer"]` is the core's `Answer`; the entries of the metadata are JSON: `sufficient`, `evidence` (one
    entry per page: `index`, `node_id`, `source`, `page`, `text`, `relevant`, and what was found of it there: `verdict`,
    `support`, `boxes`, `missing`), `thinking`, `observation` and `problems`. A streaming response fills its metadata
    when its text has been read to the end.

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
        self.retriever = retriever
        self.llm = resolve_llm(llm)
        self.streaming = streaming
        settings = None
        if isinstance(self.llm, EVisRAGLLM):
            prompt = prompt or self.llm.prompt
            settings = self.llm.settings()
        # The pages come from `self.retriever`, through LlamaIndex; the core is asked for answers only.
        self._rag = VisRAG(_NoSearch(), generator_of(self.llm), strategy, prompt=prompt or "plain", settings=settings)
        super().__init__(callback_manager=callback_manager or Settings.callback_manager)
        share_callbacks(self.llm, self.callback_manager, given=callback_manager is not None)
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
        # What the constructor does not know is for the retriever.
        own = {}
        for name in _OWN:
            if name in settings:
                own[name] = settings.pop(name)
        # An index hands on what it is given, and its retriever swallows what it does not know.
        if isinstance(index, VectorStoreIndex):
            known = [*inspect.signature(VectorIndexRetriever.__init__).parameters, *_OF_RETRIEVER, *_OWN]
            check_arguments("VisRAGQueryEngine.from_defaults", settings, known)
        return cls(index.as_retriever(similarity_top_k=similarity_top_k, **settings), llm, **own)

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
        with ResponseEvents(self.callback_manager, CBEventType.SYNTHESIZE, query_bundle) as end:
            if self.streaming:
                metadata = AnswerMetadata()  # filled when the text has been read to its end
                pieces = self._pieces(query_bundle, nodes, metadata)
                return end(StreamingResponse(pieces, source_nodes=sources, metadata=metadata))
            shown, hits = self._shown(nodes)
            (answer,) = self._rag.answer_from([query_bundle.query_str], [hits])
            return end(Response(answer.text, source_nodes=sources, metadata=answer_metadata(answer, shown)))

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Response | AsyncStreamingResponse:
        """`synthesize`, without blocking the event loop."""
        sources = [*nodes, *(additional_source_nodes or ())]
        with ResponseEvents(self.callback_manager, CBEventType.SYNTHESIZE, query_bundle) as end:
            if self.streaming:
                metadata = AnswerMetadata()
                pieces = in_thread(self._pieces(query_bundle, nodes, metadata))
                return end(AsyncStreamingResponse(pieces, source_nodes=sources, metadata=metadata))
            shown, hits = await asyncio.to_thread(self._shown, nodes)
            answer = await self._rag.aanswer_from(query_bundle.query_str, hits)
            known = await asyncio.to_thread(answer_metadata, answer, shown)
            return end(Response(answer.text, source_nodes=sources, metadata=known))

    @dispatcher.span
    def _query(self, query_bundle: QueryBundle) -> Any:
        with ResponseEvents(self.callback_manager, CBEventType.QUERY, query_bundle) as end:
            return end(self.synthesize(query_bundle, self.retrieve(query_bundle)))

    @dispatcher.span
    async def _aquery(self, query_bundle: QueryBundle) -> Any:
        with ResponseEvents(self.callback_manager, CBEventType.QUERY, query_bundle) as end:
            nodes = await self.aretrieve(query_bundle)
            return end(await self.asynthesize(query_bundle, nodes))

    def _pieces(
        self, query: QueryBundle, nodes: Sequence[NodeWithScore], metadata: AnswerMetadata
    ) -> Generator[str, None, None]:
        """The answer as it is written; then the metadata is filled."""
        said = ""
        shown, hits = self._shown(nodes)
        for event in self._rag.stream_from(query.query_str, hits):
            if isinstance(event, SectionText) and event.section == "answer":
                # Models often begin an answer on a new line.
                text = event.text if said else event.text.lstrip()
                said += text
                if text:
                    yield text
            elif isinstance(event, AnswerReady):
                metadata.fill(answer_metadata(event.answer, shown))
                # Where there was nothing to stream: no page, or an answer chosen from several texts.
                if not said and event.answer.text:
                    yield event.answer.text

    def _shown(self, nodes: Sequence[NodeWithScore]) -> tuple[list[NodeWithScore], list[ScoredPage]]:
        return shown_once(nodes, url_rules_of(self.llm))


class _NoSearch:
    """Stands where the core wants a retriever that is never asked."""

    def retrieve(self, query: str, top_k: int = 5, *, filter: Filter | None = None) -> Sequence[ScoredPage]:
        raise NotImplementedError("VisRAGQueryEngine gives the pages itself")


def share_callbacks(llm: LLM, manager: CallbackManager, *, given: bool) -> None:
    """Let the LLM report to the engine's handlers: where they were given, or it has none of its own."""
    if given or not llm.callback_manager.handlers:
        llm.callback_manager = manager


def url_rules_of(llm: LLM) -> UrlRules:
    """Which pictures behind URLs are opened for this LLM; other LLMs have no such setting."""
    if isinstance(llm, EVisRAGLLM):
        return llm.urls
    return NO_URLS
