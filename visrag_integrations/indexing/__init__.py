"""The one way to fill a store: pages embedded in batches, equal pages once, and what fails left out page by page."""

from visrag_integrations.indexing.embedding import BatchEmbedder, EmbeddedBatch, FailureRule
from visrag_integrations.indexing.joint_embedder import Embedders, EmbedsPages, JointEmbedder, as_list, prepare_store
from visrag_integrations.indexing.loop import FillCounts, add_pages, check_batch_size, fill_store, stored_ids

__all__ = [
    "BatchEmbedder",
    "EmbeddedBatch",
    "Embedders",
    "EmbedsPages",
    "FailureRule",
    "FillCounts",
    "JointEmbedder",
    "add_pages",
    "as_list",
    "check_batch_size",
    "fill_store",
    "prepare_store",
    "stored_ids",
]
