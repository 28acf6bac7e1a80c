"""LangChain: the core behind LangChain's own classes. Names are resolved when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError
from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.langchain.agent import create_vrag_agent
    from visrag_integrations.langchain.chain import create_visrag_chain
    from visrag_integrations.langchain.chat_model import ChatEVisRAG
    from visrag_integrations.langchain.checkpoints import checkpoint_types
    from visrag_integrations.langchain.content import pages_to_content
    from visrag_integrations.langchain.cross_encoder import VisRAGCrossEncoderReranker
    from visrag_integrations.langchain.embeddings import VisRAGEmbeddings
    from visrag_integrations.langchain.image_references import open_document_image
    from visrag_integrations.langchain.loader import VisRAGBlobParser, VisRAGLoader
    from visrag_integrations.langchain.output_parser import EvidenceOutputParser
    from visrag_integrations.langchain.reranker import VisRAGReranker
    from visrag_integrations.langchain.retriever import VisRAGRetriever
    from visrag_integrations.langchain.self_query import VisRAGTranslator
    from visrag_integrations.langchain.tool import create_visrag_tool, with_tool_pictures
    from visrag_integrations.langchain.vectorstore import VisRAGVectorStore

_HOMES = {
    "ChatEVisRAG": "chat_model",
    "EvidenceOutputParser": "output_parser",
    "VisRAGBlobParser": "loader",
    "VisRAGCrossEncoderReranker": "cross_encoder",
    "VisRAGEmbeddings": "embeddings",
    "VisRAGLoader": "loader",
    "VisRAGReranker": "reranker",
    "VisRAGRetriever": "retriever",
    "VisRAGTranslator": "self_query",
    "VisRAGVectorStore": "vectorstore",
    "checkpoint_types": "checkpoints",
    "create_visrag_chain": "chain",
    "create_visrag_tool": "tool",
    "create_vrag_agent": "agent",
    "open_document_image": "image_references",
    "pages_to_content": "content",
    "with_tool_pictures": "tool",
}

__all__ = [
    "ChatEVisRAG",
    "EvidenceOutputParser",
    "VisRAGBlobParser",
    "VisRAGCrossEncoderReranker",
    "VisRAGEmbeddings",
    "VisRAGLoader",
    "VisRAGReranker",
    "VisRAGRetriever",
    "VisRAGTranslator",
    "VisRAGVectorStore",
    "checkpoint_types",
    "create_visrag_chain",
    "create_visrag_tool",
    "create_vrag_agent",
    "open_document_image",
    "pages_to_content",
    "with_tool_pictures",
]


def _check_extra() -> None:
    try:
        import langchain_core  # noqa: F401
    except ImportError as err:
        raise MissingExtraError("langchain-core", "langchain") from err


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name, _check_extra)


def __dir__() -> list[str]:
    return list(__all__)
