"""`VisRAGEmbeddings`: texts, questions and page pictures as flat lists of floats, for any LangChain vector store."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor

from visrag_integrations.errors import SettingError
from visrag_integrations.langchain.embedder import embed_mixed, text_pages
from visrag_integrations.langchain.image_references import picture_of
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import Embedding, PageEmbedder

ImageLike = Union[str, "os.PathLike[str]", bytes, "Image", Page]
"""A path, a `file:` or data URL, encoded bytes, a PIL image, or a page."""

_loaded: dict[str, PageEmbedder] = {}
_loading = threading.Lock()


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
        fetch_urls: bool = False,
        **settings: Any,
    ) -> None:
        if embedder is not None and settings:
            raise SettingError(
                f"{', '.join(settings)}: settings are for a model that is loaded; an embedder has its own."
            )
        self._embedder = _single(embedder) if embedder is not None else None
        self.model = str(model) if embedder is None else embedder.name
        self.fetch_urls, self.settings = fetch_urls, settings

    @property
    def embedder(self) -> PageEmbedder:
        """The core embedder, loaded now if it was not."""
        if self._embedder is not None:
            return self._embedder
        return _load(self.model, self.settings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, in order; nothing is put before them."""
        listed = list(texts)
        return _lists(embed_mixed(self.embedder, text_pages(listed))) if listed else []

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
        pages = [self._page(image) for image in _listed(uris)]
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
        return Page("image", 1, picture=Path(image) if isinstance(image, os.PathLike) else image)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r})"


def _listed(uris: Any) -> list[Any]:
    from PIL.Image import Image

    one = isinstance(uris, (str, bytes, os.PathLike, Page, Image))
    return [uris] if one else list(uris)


def _load(model: str, settings: dict[str, Any]) -> PageEmbedder:
    from visrag_integrations.embedders import load_embedder

    key = repr((model, sorted(settings.items())))
    with _loading:
        if key not in _loaded:
            _loaded[key] = _single(load_embedder(model, **settings))
        return _loaded[key]


def _single(embedder: PageEmbedder) -> PageEmbedder:
    if embedder.kind == "single":
        return embedder
    raise SettingError(
        f"Embedder {embedder.name!r} makes many vectors a page; LangChain Embeddings are one flat list of floats each. "
        f"Use VisRAGRetriever(retriever=PageRetriever(embedder, store)), or VisRAGVectorStore(store=store, "
        f"embedding=embedder), with it."
    )


def _lists(vectors: Iterable[Embedding]) -> list[list[float]]:
    return [vector.tolist() for vector in vectors]
