"""Between the core's page embedders and LangChain's Embeddings: either can stand where the other is wanted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from visrag_integrations.errors import EmbedderError, SettingError
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from visrag_integrations.interfaces import Embedding, PageEmbedder

_NO_PICTURES = "{name} embeds text only, and this query is a picture. Use VisRAGEmbeddings, or ask with a text."


class EmbeddingsEmbedder:
    """Any LangChain Embeddings as a page embedder: pages by their picture where it can, else by their text.

    Args:
        embeddings: With `embed_images(images)` (or `embed_image(images)`) pictures are embedded.
    """

    kind: Literal["single"] = "single"

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        model = next((getattr(embeddings, name, None) for name in ("model", "model_name", "model_id")), None)
        self.name = f"langchain:{type(embeddings).__name__}" + (f":{model}" if isinstance(model, str) else "")

    @functools.cached_property
    def dimension(self) -> int:
        """Asked of the embeddings once."""
        return len(self.embeddings.embed_query("dimension"))

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """One vector a page, in order."""
        listed = list(pages)
        pictures = [page for page in listed if self._by_picture(page)]
        texts = [page.text for page in listed if not self._by_picture(page)]
        seen = iter(self._embed_images(pictures)) if pictures else iter(())
        read = iter(self.embeddings.embed_documents(texts)) if texts else iter(())
        return [_array(next(seen if self._by_picture(page) else read)) for page in listed]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One vector a query, in order."""
        return [self._embed_query(query) for query in queries]

    def _embed_query(self, query: str | Query) -> Embedding:
        if isinstance(query, str):
            return _array(self.embeddings.embed_query(query))
        if query.image is None:
            return _array(self.embeddings.embed_query(query.text))
        if self._image_method is None:
            raise SettingError(_NO_PICTURES.format(name=type(self.embeddings).__name__))
        return _array(self._embed_images([Page("query", 1, picture=query.image)])[0])

    @property
    def _image_method(self) -> Any:
        found = (getattr(self.embeddings, name, None) for name in ("embed_images", "embed_image"))
        return next((method for method in found if callable(method)), None)

    def _by_picture(self, page: Page) -> bool:
        return page.picture is not None and self._image_method is not None

    def _embed_images(self, pages: Sequence[Page]) -> list[list[float]]:
        found: list[list[float]] = self._image_method([page.open_image() for page in pages])
        if len(found) != len(pages):
            raise EmbedderError(f"{type(self.embeddings).__name__} gave {len(found)} vectors for {len(pages)} images.")
        return found


def as_page_embedder(embedding: Any) -> PageEmbedder:
    """The core embedder behind `embedding`: itself, the one VisRAGEmbeddings holds, or an adapter.

    Raises:
        SettingError: It is neither Embeddings nor a page embedder.
    """
    from langchain_core.embeddings import Embeddings

    if hasattr(embedding, "embed_pages") and hasattr(embedding, "embed_queries"):
        found: PageEmbedder = embedding
        return found
    core = inspect.getattr_static(embedding, "embedder", None)
    if isinstance(core, property):
        return as_page_embedder(embedding.embedder)
    if isinstance(embedding, Embeddings):
        return cast("PageEmbedder", EmbeddingsEmbedder(embedding))
    raise SettingError(
        f"embedding is {type(embedding).__name__}; give LangChain Embeddings such as VisRAGEmbeddings(), or a page "
        'embedder such as load_embedder("ocr").'
    )


def embed_mixed(embedder: PageEmbedder, pages: Sequence[Page]) -> list[Embedding]:
    """One vector a page, in order; pages without a picture are embedded as text where the embedder can."""
    embed_texts = getattr(embedder, "embed_texts", None)
    if embed_texts is None or all(page.picture is not None for page in pages):
        return embedder.embed_pages(pages)
    pictures = [page for page in pages if page.picture is not None]
    seen = iter(embedder.embed_pages(pictures) if pictures else ())
    read = iter(embed_texts([page.text for page in pages if page.picture is None]))
    return [next(read if page.picture is None else seen) for page in pages]


def text_pages(texts: Iterable[str]) -> list[Page]:
    """Texts as pages without pictures."""
    return [Page("text", number, text) for number, text in enumerate(texts, 1)]


def _array(vector: Sequence[float]) -> Embedding:
    return np.asarray(vector, dtype=np.float32)
