"""Any LangChain Embeddings as a page embedder of the core: wrappers looked through, pages by their pictures."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from langchain_core.embeddings import Embeddings

from visrag_integrations.errors import EmbedderError, SettingError
from visrag_integrations.generation.shown_pages import page_name
from visrag_integrations.interfaces.embedders import fingerprint_of, instruction_of
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder

_WRAPPERS = 10
"""At most so many are looked through; two objects may wrap each other."""
logger = logging.getLogger(__name__)

_MODEL_NAMES = ("model", "model_name", "model_id", "deployment", "repo_id")
"""Under which names packages of LangChain keep the name of the model."""
_IMAGE_METHODS = ("embed_images", "embed_image")
"""LangChain's base class has no such method; packages that embed pictures use these two names."""


class EmbeddingsEmbedder:
    """Any LangChain Embeddings as a page embedder: pages by their picture where it can, else by their text.

    Args:
        embeddings: With `embed_images(images)` (or `embed_image(images)`) pictures are embedded. Of a wrapper, such as
            `CacheBackedEmbeddings`, the Embeddings inside are asked for it: a wrapper knows texts only.
        page_embedder: What embeds pages with a picture instead, where the Embeddings inside are one of this library.
    """

    kind: Literal["single"] = "single"

    def __init__(self, embeddings: Embeddings, page_embedder: PageEmbedder | None = None) -> None:
        self.embeddings = embeddings
        self._inside = innermost(embeddings)
        self._page_embedder = page_embedder
        self._warned = False
        if page_embedder is None:
            self.name = _name(self._inside)
        else:
            self.name = page_embedder.name

    @property
    def former_names(self) -> tuple[str, ...]:
        """Names in collections of before models and wrappers were told apart."""
        # A wrapper's pictures were embedded by their text then: such a collection is another one's.
        if self._inside is not self.embeddings and self._reads_pictures:
            return ()
        return (f"langchain:{type(self.embeddings).__name__}",)

    @property
    def fingerprint(self) -> str | None:
        """That of the page embedder; other Embeddings have none."""
        return None if self._page_embedder is None else fingerprint_of(self._page_embedder)

    @property
    def instruction(self) -> str | None:
        """That of the page embedder; other Embeddings do not say."""
        return None if self._page_embedder is None else instruction_of(self._page_embedder)

    @functools.cached_property
    def dimension(self) -> int:
        """Asked of the embeddings once."""
        return len(self.embeddings.embed_query("dimension"))

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]:
        """One vector a page, in order."""
        # Pictures and texts are two batches; a vector goes back to the place of its page:
        # [picture, text, picture] -> pictures 0 and 2, text 1 -> vectors 0, 1, 2.
        vectors: dict[int, Sequence[float]] = {}
        pictures: dict[int, Page] = {}
        texts: dict[int, str] = {}
        for place, page in enumerate(pages):
            if page.picture is not None and self._reads_pictures:
                pictures[place] = page
            else:
                self._check_text(page)
                texts[place] = page.text
        if pictures:
            vectors.update(zip(pictures, self._embed_images(list(pictures.values())), strict=True))
        if texts:
            vectors.update(zip(texts, self.embeddings.embed_documents(list(texts.values())), strict=True))
        return [_array(vectors[place]) for place in sorted(vectors)]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]:
        """One vector a query, in order."""
        return [self._embed_query(query) for query in queries]

    def _embed_query(self, query: str | Query) -> Embedding:
        if isinstance(query, str):
            return _array(self.embeddings.embed_query(query))
        if query.image is None:
            return _array(self.embeddings.embed_query(query.text))
        if self._page_embedder is not None:
            (vector,) = self._page_embedder.embed_queries([query])
            return vector
        if self._image_method is None:
            raise SettingError(
                f"{type(self._inside).__name__} embeds text only, and this query is a picture. Use "
                "VisRAGEmbeddings, or ask with a text."
            )
        return _array(self._embed_images([Page("query", 1, picture=query.image)])[0])

    @property
    def _reads_pictures(self) -> bool:
        return self._page_embedder is not None or self._image_method is not None

    @property
    def _image_method(self) -> Any:
        """What embeds a list of pictures; None where nothing does."""
        for name in _IMAGE_METHODS:
            method = getattr(self._inside, name, None)
            if callable(method):
                return method
        return None

    def _embed_images(self, pages: Sequence[Page]) -> Sequence[Sequence[float]]:
        if self._page_embedder is not None:
            made: Any = self._page_embedder.embed_pages(pages)
            return list(made)
        vectors: list[list[float]] = self._image_method([page.open_image() for page in pages])
        if len(vectors) != len(pages):
            raise EmbedderError(f"{type(self._inside).__name__} gave {len(vectors)} vectors for {len(pages)} images.")
        return vectors

    def _check_text(self, page: Page) -> None:
        """Once: a page has a picture, and only its text is embedded."""
        if page.picture is None or self._warned:
            return
        self._warned = True
        logger.warning(
            "%s embeds text only: pages are found by their text, not by their picture, the first being %s%s. Use "
            "VisRAGEmbeddings to search pictures.",
            self.name.removeprefix("langchain:"),
            page_name(page),
            "" if page.text.strip() else ", which has no text at all",
        )


def innermost(embeddings: Embeddings) -> Embeddings:
    """What a wrapper wraps, however often; anything else is given back.

    A wrapper is known by its one attribute that is Embeddings: `underlying_embeddings`, `base_embeddings` and so on.
    """
    # Of several (an ensemble of embeddings) none stands for the others.
    for _ in range(_WRAPPERS):
        inside = [value for value in _attributes(embeddings) if isinstance(value, Embeddings)]
        if len(inside) != 1 or inside[0] is embeddings:
            break
        (embeddings,) = inside
    return embeddings


def _attributes(embeddings: Embeddings) -> Iterator[Any]:
    yield from getattr(embeddings, "__dict__", {}).values()
    yield from (getattr(embeddings, "__pydantic_private__", None) or {}).values()


def _name(embeddings: Embeddings) -> str:
    """What a collection remembers: the class, and the model where it says which."""
    name = f"langchain:{type(embeddings).__name__}"
    for attribute in _MODEL_NAMES:
        model = getattr(embeddings, attribute, None)
        if isinstance(model, str) and model:
            return f"{name}:{model}"
    return name


def _array(vector: Sequence[float]) -> Embedding:
    return np.asarray(vector, dtype=np.float32)
