"""Search documents as page images and answer from them, inside LangChain and LlamaIndex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visrag_integrations import telemetry
from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.embedders import load_embedder
    from visrag_integrations.generation import load_generator
    from visrag_integrations.ingestion import index_documents
    from visrag_integrations.rag import VisRAG
    from visrag_integrations.readers import PageReader
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.sample_documents import samples
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.types import Answer, Evidence, Page, Query, ScoredPage

__version__ = "0.1.0"

telemetry.switch_off()

_HOMES = {
    "Answer": "types",
    "Evidence": "types",
    "Page": "types",
    "PageReader": "readers",
    "PageRetriever": "retrieval",
    "QdrantPageStore": "store",
    "Query": "types",
    "ScoredPage": "types",
    "VisRAG": "rag",
    "index_documents": "ingestion",
    "load_embedder": "embedders",
    "load_generator": "generation",
    "samples": "sample_documents",
}

__all__ = [
    "Answer",
    "Evidence",
    "Page",
    "PageReader",
    "PageRetriever",
    "QdrantPageStore",
    "Query",
    "ScoredPage",
    "VisRAG",
    "index_documents",
    "load_embedder",
    "load_generator",
    "samples",
]


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
