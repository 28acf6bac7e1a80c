"""Between the core's page embedders and LlamaIndex's embeddings: either can stand where the other is wanted."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MultiModalEmbedding

from visrag_integrations import images
from visrag_integrations.embedders import load_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.closing import close
from visrag_integrations.llamaindex.embedding import DEFAULT_MODEL, VisRAGEmbedding
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
        pages = list(pages)
        as_pictures = isinstance(self.embedding, MultiModalEmbedding)
        # Texts are embedded as one batch; pictures one by one, as each has to be opened.
        by_text = [page for page in pages if page.picture is None or not as_pictures]
        of_texts: list[list[float]] = []
        if by_text:
            of_texts = self.embedding.get_text_embedding_batch([page.text for page in by_text])
        remaining = iter(of_texts)
        # Back in the order of the pages.
        made = []
        for page in pages:
            if page.picture is None or not as_pictures:
                made.append(_array(next(remaining)))
            else:
                made.append(self._embed_picture(page))
        return made

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One vector a query, in order."""
        return list(map(self._embed_query, queries))

    def _embed_query(self, query: str | Query) -> Embedding:
        if isinstance(query, str):
            query = Query(query)
        if query.image is None:
            return _array(self.embedding.get_query_embedding(query.text))
        if not isinstance(self.embedding, MultiModalEmbedding):
            raise SettingError(
                f"{self.embedding.class_name()} embeds text only, and this query is a picture. Use VisRAGEmbedding, or "
                "ask with a text."
            )
        return self._embed_picture(Page("query", 1, picture=query.image))

    def _embed_picture(self, page: Page) -> Embedding:
        picture = io.BytesIO(images.encode(page.open_image(), "PNG"))
        return _array(cast("MultiModalEmbedding", self.embedding).get_image_embedding(picture))


class GivenEmbedder:
    """An embedder as a user gave it, found or loaded at its first use.

    Args:
        given: A page embedder of the core, a `VisRAGEmbedding` or another LlamaIndex embedding, or a model's name.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        self._found: PageEmbedder | None = None
        self._loaded: PageEmbedder | None = None

    def get(self) -> PageEmbedder:
        """The core embedder.

        Raises:
            SettingError: What was given is none of these.
        """
        # Late: a model is loaded when it is used, not when it is named.
        if self._found is None:
            self._found = self._find()
        return self._found

    def close(self) -> None:
        """Free the model that was loaded here, unless others use it; what was given loaded stays open."""
        close(self._loaded)
        self._loaded = None
        self._found = None

    def _find(self) -> PageEmbedder:
        given = self.given
        if isinstance(given, VisRAGEmbedding) and given.loads_its_model:
            # A handle of its own on the same model, so that closing the embedding does not close it here.
            self._loaded = given.load()
            return self._loaded
        if isinstance(given, VisRAGEmbedding):
            return given.embedder
        if isinstance(given, BaseEmbedding):
            return cast("PageEmbedder", HostEmbedder(given))
        if hasattr(given, "embed_pages") and hasattr(given, "embed_queries"):
            return cast("PageEmbedder", given)
        if isinstance(given, (str, Path)):
            self._loaded = load_embedder(given, shared=True)
            return self._loaded
        raise SettingError(
            f"embedder is {type(given).__name__}; give VisRAGEmbedding() or another LlamaIndex embedding, a page "
            'embedder such as load_embedder("ocr"), or its name.'
        )


def one_embedder(embedder: Any, embedding: Any) -> Any:
    """The argument `embedder`, or `embedding`, as it was called before; the published model where neither is given.

    Raises:
        SettingError: Both are given.
    """
    if embedder is not None and embedding is not None:
        raise SettingError("embedder and embedding are the same argument; give embedder only.")
    if embedder is not None:
        return embedder
    if embedding is not None:
        return embedding
    return DEFAULT_MODEL


def _array(vector: Sequence[float]) -> Embedding:
    return np.asarray(vector, dtype=np.float32)
