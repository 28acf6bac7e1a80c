"""Documents into a store: read in worker processes, embed in batches, write beside it; resumable, and synchronising."""

from visrag_integrations.ingestion.pipeline import aindex_documents, index_documents
from visrag_integrations.ingestion.progress import IndexProgress
from visrag_integrations.ingestion.ray import aindex_documents_ray, index_documents_ray
from visrag_integrations.ingestion.ray_cluster import RayCluster
from visrag_integrations.ingestion.reindex import reindex
from visrag_integrations.ingestion.report import IndexReport
from visrag_integrations.ingestion.retry import Retry

__all__ = [
    "IndexProgress",
    "IndexReport",
    "RayCluster",
    "Retry",
    "aindex_documents",
    "aindex_documents_ray",
    "index_documents",
    "index_documents_ray",
    "reindex",
]
