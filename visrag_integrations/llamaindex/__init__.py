"""LlamaIndex: the core behind LlamaIndex's own classes. Names are resolved when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError
from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.llamaindex.agent import VRAGQueryEngine
    from visrag_integrations.llamaindex.cross_encoder import VisRAGCrossEncoderRerank
    from visrag_integrations.llamaindex.embedding import VisRAGEmbedding
    from visrag_integrations.llamaindex.llm import EVisRAGLLM
    from visrag_integrations.llamaindex.node_parser import PageNodeParser
    from visrag_integrations.llamaindex.node_pictures import open_node_image
    from visrag_integrations.llamaindex.output_parser import EvidenceOutputParser
    from visrag_integrations.llamaindex.picture_hashes import with_picture_hashes
    from visrag_integrations.llamaindex.prompt_content import nodes_to_content
    from visrag_integrations.llamaindex.query_engine import VisRAGQueryEngine
    from visrag_integrations.llamaindex.reader import VisRAGReader
    from visrag_integrations.llamaindex.rerank import VisRAGRerank
    from visrag_integrations.llamaindex.retriever import VisRAGRetriever
    from visrag_integrations.llamaindex.tool import create_visrag_tool
    from visrag_integrations.llamaindex.vector_store import VisRAGVectorStore
    from visrag_integrations.llamaindex.workflow import VRAGStepEvent, VRAGWorkflow

_HOMES = {
    "EVisRAGLLM": "llm",
    "EvidenceOutputParser": "output_parser",
    "PageNodeParser": "node_parser",
    "VRAGQueryEngine": "agent",
    "VRAGStepEvent": "workflow",
    "VRAGWorkflow": "workflow",
    "VisRAGCrossEncoderRerank": "cross_encoder",
    "VisRAGEmbedding": "embedding",
    "VisRAGQueryEngine": "query_engine",
    "VisRAGReader": "reader",
    "VisRAGRerank": "rerank",
    "VisRAGRetriever": "retriever",
    "VisRAGVectorStore": "vector_store",
    "create_visrag_tool": "tool",
    "nodes_to_content": "prompt_content",
    "open_node_image": "node_pictures",
    "with_picture_hashes": "picture_hashes",
}

__all__ = [
    "EVisRAGLLM",
    "EvidenceOutputParser",
    "PageNodeParser",
    "VRAGQueryEngine",
    "VRAGStepEvent",
    "VRAGWorkflow",
    "VisRAGCrossEncoderRerank",
    "VisRAGEmbedding",
    "VisRAGQueryEngine",
    "VisRAGReader",
    "VisRAGRerank",
    "VisRAGRetriever",
    "VisRAGVectorStore",
    "create_visrag_tool",
    "nodes_to_content",
    "open_node_image",
    "with_picture_hashes",
]


def _check_extra() -> None:
    try:
        import llama_index.core  # noqa: F401
    except ImportError as err:
        raise MissingExtraError("llama-index-core", "llamaindex") from err


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name, _check_extra)


def __dir__() -> list[str]:
    return list(__all__)
