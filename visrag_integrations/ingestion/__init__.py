"""Documents into a store: read in worker processes, embed in batches, upsert; resumable."""

from visrag_integrations.ingestion.pipeline import index_documents
from visrag_integrations.ingestion.report import IndexReport

__all__ = ["IndexReport", "index_documents"]
