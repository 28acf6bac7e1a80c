"""What an index over `VisRAGVectorStore` is given as its embedding: questions are embedded here, nodes by the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

_LEFT_TO_STORE = [0.0]  # no embedder has one dimension, so the store embeds the node itself


class StoreEmbedding(BaseEmbedding):
    """Embeds questions where the store's embedder makes flat vectors; leaves nodes, by a placeholder, to the store."""

    _embedder: Any = PrivateAttr()

    def __init__(self, *, embedder: PageEmbedder, **fields: Any) -> None:
        super().__init__(model_name=embedder.name, **fields)
        self._embedder = embedder

    @classmethod
    def class_name(cls) -> str:
        return "StoreEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        if self._embedder.kind != "single":
            return _LEFT_TO_STORE
        vector: list[float] = self._embedder.embed_queries([query])[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return _LEFT_TO_STORE
