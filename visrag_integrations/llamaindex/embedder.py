"""Between the core's page embedders and LlamaIndex's embeddings: either can stand where the other is wanted."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MultiModalEmbedding

from visrag_integrations import images
from visrag_integrations.errors import SettingError
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder


class HostEmbedder:
    """Any LlamaIndex embedding as a page embedder: pages by their picture where it can, else by their text."""

    kind: Literal["single"] = "single"

    def __init__(self, embedding: BaseEmbedding) -> None:
        self.embedding = embedding
        self.name = f"llamaindex:{embedding.class_name()}:{embedding.model_name}"

    @functools.cached_property
    def dimension(self) -> int:
        """Asked of the embedding once."""
        return len(self.embedding.get_text_embedding("dimension"))

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """One vector a page, in order."""
        listed = list(pages)
        looks = isinstance(self.embedding, MultiModalEmbedding)
        texts = [page.text for page in listed if page.picture is None or not looks]
        read = iter(self.embedding.get_text_embedding_batch(texts) if texts else ())
        return [_array(self._look(page) if looks and page.picture is not None else next(read)) for page in listed]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One vector a query, in order."""
        asked = [Query(query) if isinstance(query, str) else query for query in queries]
        return [self._ask(query) for query in asked]

    def _ask(self, query: Query) -> Embedding:
        if query.image is None:
            return _array(self.embedding.get_query_embedding(query.text))
        if not isinstance(self.embedding, MultiModalEmbedding):
            raise SettingError(
                f"{self.embedding.class_name()} embeds text only, and this query is a picture. Use VisRAGEmbedding, or "
                "ask with a text."
            )
        return _array(self._look(Page("query", 1, picture=query.image)))

    def _look(self, page: Page) -> list[float]:
        import io

        picture = io.BytesIO(images.encode(page.open_image(), "PNG"))
        return cast("MultiModalEmbedding", self.embedding).get_image_embedding(picture)


def as_page_embedder(embedding: Any) -> PageEmbedder:
    """The core embedder behind `embedding`: itself, the one VisRAGEmbedding holds, one by its name, or an adapter.

    Raises:
        SettingError: It is none of these.
    """
    from visrag_integrations.llamaindex.embedding import VisRAGEmbedding, load_shared

    if isinstance(embedding, VisRAGEmbedding):
        return embedding.embedder
    if isinstance(embedding, BaseEmbedding):
        return cast("PageEmbedder", HostEmbedder(embedding))
    if hasattr(embedding, "embed_pages") and hasattr(embedding, "embed_queries"):
        found: PageEmbedder = embedding
        return found
    if isinstance(embedding, (str, Path)):
        return load_shared(str(embedding), {})
    raise SettingError(
        f"embedding is {type(embedding).__name__}; give VisRAGEmbedding() or another LlamaIndex embedding, a page "
        'embedder such as load_embedder("ocr"), or its name.'
    )


def embed_mixed(embedder: PageEmbedder, pages: Sequence[Page]) -> list[Embedding]:
    """One vector a page, in order; pages without a picture are embedded as text where the embedder can."""
    embed_texts = getattr(embedder, "embed_texts", None)
    if embed_texts is None or all(page.picture is not None for page in pages):
        return embedder.embed_pages(pages) if pages else []
    pictures = [page for page in pages if page.picture is not None]
    seen = iter(embedder.embed_pages(pictures) if pictures else ())
    read = iter(embed_texts([page.text for page in pages if page.picture is None]))
    return [next(read if page.picture is None else seen) for page in pages]


def _array(vector: Sequence[float]) -> Embedding:
    return np.asarray(vector, dtype=np.float32)
