"""Pages and their vectors in Qdrant: in this process (a folder), in memory, or on a server."""

from visrag_integrations.store.info import CollectionInfo, EmbedderInfo
from visrag_integrations.store.page_store import QdrantPageStore
from visrag_integrations.store.payload import content_key

__all__ = ["CollectionInfo", "EmbedderInfo", "QdrantPageStore", "content_key"]
