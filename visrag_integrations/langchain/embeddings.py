"""`VisRAGEmbeddings`: a page embedder as LangChain's Embeddings; and what a user may give as embedder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, cast

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor

from visrag_integrations.errors import SettingError
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.interfaces.embedders import embed_mixed
from visrag_integrations.interfaces.opened import OpenedResources
from visrag_integrations.langchain.embeddings_embedder import EmbeddingsEmbedder, innermost
from visrag_integrations.langchain.image_references import picture_of
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import Embedding, PageEmbedder

ImageLike = Union[str, "os.PathLike[str]", bytes, "Image", Page]
"""A path, a `file:` or data URL, encoded bytes, a PIL image, or a page."""


class VisRAGEmbeddings(Embeddings):
    """A single-vector page embedder as LangChain Embeddings. The model is loaded at first use, once per process.

    >>> VisRAGEmbeddings()  # the published model, loaded when something is embedded
    VisRAGEmbeddings(model='openbmb/VisRAG-Ret')

    Args:
        model: As `load_embedder` takes it: a name or a checkpoint folder.
        embedder: An embedder you already hold, instead of `model`.
        fetch_urls: Whether `embed_image` fetches http and https URLs.
        **settings: Handed to `load_embedder`, for example `device="cuda"`.

    Raises:
        SettingError: The embedder makes multi-vectors, which are no flat lists.
    """

    def __init__(
        self,
        model: str | Path = "openbmb/VisRAG-Ret",
        *,
        embedder: PageEmbedder | None = None,
        fetch_urls: FetchUrls = False,
        **settings: Any,
    ) -> None:
        if embedder is not None:
            if settings:
                raise SettingError(
                    f"{', '.join(settings)}: settings are for a model that is loaded; an embedder has its own."
                )
            _check_single(embedder)
            model = embedder.name
        self._given, self._opened = embedder, OpenedResources()
        self.model, self.fetch_urls, self.settings = str(model), fetch_urls, settings

    @property
    def embedder(self) -> PageEmbedder:
        """The core embedder, loaded now if it was not."""
        return self.open_embedder(self._opened)

    def open_embedder(self, opened: OpenedResources) -> PageEmbedder:
        """The embedder that was given; else a handle on the shared model, which is `opened`'s to close."""
        if self._given is not None:
            return self._given
        from visrag_integrations.embedders import load_embedder

        loaded: PageEmbedder = opened.model(load_embedder, self.model, **self.settings)
        try:
            _check_single(loaded)
        except SettingError:
            opened.close()  # this class cannot use it
            raise
        return loaded

    def close(self) -> None:
        """Let go of the model, which is freed when no one else uses it; it is loaded again at the next use.

        An embedder that was given stays open.
        """
        self._opened.close()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, in order; nothing is put before them."""
        pages = [Page("text", number, text) for number, text in enumerate(texts, 1)]
        return _lists(embed_mixed(self.embedder, pages)) if pages else []  # nothing loads no model

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question; the model's own instruction is put before it."""
        return _lists(self.embedder.embed_queries([text]))[0]

    def embed_image(self, uris: ImageLike | Iterable[ImageLike]) -> list[list[float]]:
        """One vector a picture, in order, also for a single one.

        Args:
            uris: One or many of: path, `file:` or data URL, encoded bytes, PIL image, page.

        Raises:
            PictureError: A picture cannot be opened, or is remote while `fetch_urls` is off.
        """
        pages = [self._page(image) for image in _as_list(uris)]
        return _lists(self.embedder.embed_pages(pages)) if pages else []

    def embed_images(self, images: Sequence[ImageLike]) -> list[list[float]]:
        """`embed_image`, by the name other multimodal embeddings use."""
        return self.embed_image(images)

    async def aembed_image(self, uris: ImageLike | Iterable[ImageLike]) -> list[list[float]]:
        """`embed_image` in a thread, so that the event loop goes on."""
        return await run_in_executor(None, self.embed_image, uris)

    async def aembed_images(self, images: Sequence[ImageLike]) -> list[list[float]]:
        """`embed_images` in a thread, so that the event loop goes on."""
        return await run_in_executor(None, self.embed_image, images)

    def _page(self, image: ImageLike) -> Page:
        if isinstance(image, Page):
            return image
        if isinstance(image, str):
            return Page("image", 1, picture=picture_of(image, fetch_urls=self.fetch_urls))
        picture = Path(image) if isinstance(image, os.PathLike) else image
        return Page("image", 1, picture=picture)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r})"


def as_page_embedder(embedder: Any, opened: OpenedResources) -> PageEmbedder:
    """What a user gave as embedder, as the core knows it.

    Args:
        embedder: A page embedder, VisRAGEmbeddings, any other LangChain Embeddings, or what `load_embedder` takes.
        opened: What keeps the handle where a shared model is opened.

    Raises:
        SettingError: It is none of these.
    """
    if isinstance(embedder, (str, Path)):
        from visrag_integrations.embedders import load_embedder

        loaded: PageEmbedder = opened.model(load_embedder, embedder)
        return loaded
    if isinstance(embedder, VisRAGEmbeddings):  # before all other Embeddings: the core's own is behind it
        return embedder.open_embedder(opened)
    if hasattr(embedder, "embed_pages") and hasattr(embedder, "embed_queries"):
        return cast("PageEmbedder", embedder)
    if isinstance(embedder, Embeddings):
        inside = innermost(embedder)
        if isinstance(inside, VisRAGEmbeddings):  # in a wrapper, such as LangChain's cache
            return EmbeddingsEmbedder(embedder, inside.open_embedder(opened))
        return EmbeddingsEmbedder(embedder)
    raise SettingError(
        f"The embedder is {type(embedder).__name__}; give LangChain Embeddings such as VisRAGEmbeddings(), a page "
        'embedder such as load_embedder("ocr"), or a name such as "ocr".'
    )


def _check_single(embedder: PageEmbedder) -> None:
    if embedder.kind != "single":
        raise SettingError(
            f"Embedder {embedder.name!r} makes many vectors a page; LangChain Embeddings are one flat list of floats "
            "each. Use VisRAGRetriever(retriever=PageRetriever(embedder, store)), or VisRAGVectorStore(store=store, "
            "embedding=embedder), with it."
        )


def _as_list(uris: Any) -> list[Any]:
    """One picture or many, as a list."""
    from PIL.Image import Image

    if isinstance(uris, (str, bytes, os.PathLike, Page, Image)):
        return [uris]
    return list(uris)


def _lists(vectors: Iterable[Embedding]) -> list[list[float]]:
    return [vector.tolist() for vector in vectors]


def _array(vector: Sequence[float]) -> Embedding:
    return np.asarray(vector, dtype=np.float32)
