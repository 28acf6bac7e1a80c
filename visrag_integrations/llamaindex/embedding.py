"""`VisRAGEmbedding`: questions, texts and page pictures as flat lists of floats, for any LlamaIndex index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.constants import DEFAULT_EMBED_BATCH_SIZE
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.utils import get_tqdm_iterable

from visrag_integrations.embedders import load_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.interfaces.arguments import check_nearly
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.embedders import embed_mixed
from visrag_integrations.llamaindex.convert import PICTURE_VECTOR_OF
from visrag_integrations.llamaindex.events import model_payload
from visrag_integrations.llamaindex.node_pictures import UrlRules, picture_of_image, picture_of_node
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder

dispatcher = get_dispatcher(__name__)

DEFAULT_MODEL = "openbmb/VisRAG-Ret"
_LEFT_TO_STORE = [0.0]
"""The vector of a node that the store embeds itself: no embedder has one dimension, so it cannot be mistaken."""


class VisRAGEmbedding(MultiModalEmbedding):
    """A single-vector page embedder as a LlamaIndex embedding. The model is loaded at first use, once per process.

    As a transformation (in an `IngestionPipeline`) it embeds the picture of nodes that have one, and the text of all
    others; the nodes that come back are new ones.

    >>> VisRAGEmbedding().model_name  # the published model, loaded when something is embedded
    'openbmb/VisRAG-Ret'

    Args:
        model_name: As `load_embedder` takes it: a name or a checkpoint folder.
        embedder: An embedder you already hold, instead of `model_name`.
        embed_batch_size: So many texts or pictures are embedded at once.
        fetch_urls: Whether pictures behind http and https URLs are fetched.
        file_urls: Whether those of nodes behind `file:` URLs are read.
        settings: Handed to `load_embedder`, for example `{"device": "cuda"}`; further keyword arguments too.

    Raises:
        SettingError: The embedder makes multi-vectors, which are no flat lists.
    """

    fetch_urls: FetchUrls = Field(default=False, description="Whether pictures behind http and https URLs are fetched.")
    file_urls: bool = Field(default=False, description="Whether pictures of nodes behind file: URLs are read.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the embedder that is loaded.")
    _given: Any = PrivateAttr(default=None)
    _loaded: Any = PrivateAttr(default=None)

    def __init__(
        self,
        model_name: str = DEFAULT_MODEL,
        *,
        embedder: PageEmbedder | None = None,
        embed_batch_size: int = DEFAULT_EMBED_BATCH_SIZE,
        fetch_urls: FetchUrls = False,
        file_urls: bool = False,
        settings: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        more.pop("class_name", None)
        fields: dict[str, Any] = {
            "embed_batch_size": embed_batch_size,
            "fetch_urls": fetch_urls,
            "file_urls": file_urls,
        }
        # What LlamaIndex has no field for is a setting of the model; one that is nearly a field is a slip.
        settings = dict(settings or {})
        check_nearly("VisRAGEmbedding", more, type(self).model_fields)
        for name, value in more.items():
            if name in type(self).model_fields:
                fields[name] = value
            else:
                settings[name] = value
        if embedder is not None:
            if settings:
                names = ", ".join(settings)
                raise SettingError(f"{names}: settings are for a model that is loaded; an embedder has its own.")
            model_name = single_vector(embedder).name
        fields |= {"model_name": str(model_name), "settings": settings}
        super().__init__(**fields)
        self._given = embedder

    @classmethod
    def class_name(cls) -> str:
        return "VisRAGEmbedding"

    def __setstate__(self, state: Any) -> None:
        BaseModel.__setstate__(self, state)  # as it was; LlamaIndex would make a new one, without what was given
        for name in ("_given", "_loaded"):
            (self.__pydantic_private__ or {}).setdefault(name, None)  # what cannot be pickled was left behind

    @property
    def embedder(self) -> PageEmbedder:
        """The core embedder, loaded now if it was not."""
        if self._given is None and self._loaded is None:
            self._loaded = self.load()
        found: PageEmbedder = self._given if self._given is not None else self._loaded
        return found

    @property
    def loads_its_model(self) -> bool:
        """Whether it loads a model by its name; not where it was given an embedder."""
        return self._given is None

    def load(self) -> PageEmbedder:
        """A hold on its model, for the caller to close."""
        return single_vector(load_embedder(self.model_name, shared=True, **self.settings))

    def close(self) -> None:
        """Free the model that was loaded, unless others use it; an embedder you gave stays open."""
        close(self._loaded)
        self._loaded = None

    # --- texts ------------------------------------------------------------------------------------------------------

    def _get_query_embedding(self, query: str) -> list[float]:
        return _lists(self.embedder.embed_queries([query]))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        pages = [Page("text", number, text) for number, text in enumerate(texts, 1)]
        return _lists(embed_mixed(self.embedder, pages))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    # --- pictures ---------------------------------------------------------------------------------------------------

    def _get_image_embedding(self, img_file_path: Any) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        pages = []
        for image in img_file_paths:
            pages.append(Page("image", 1, picture=picture_of_image(image, fetch_urls=self.fetch_urls)))
        return _lists(self.embedder.embed_pages(pages))

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    # In LlamaIndex's place, so that every shape of picture is taken, in batches, with the same events.
    def get_image_embedding(self, img_file_path: Any) -> list[float]:
        """The vector of a picture: a path, a `file:` or data URL, a file object, or a PIL image."""
        return self.get_image_embedding_batch([img_file_path])[0]

    async def aget_image_embedding(self, img_file_path: Any) -> list[float]:
        """`get_image_embedding` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.get_image_embedding, img_file_path)

    def get_image_embedding_batch(self, img_file_paths: list[Any], show_progress: bool = False) -> list[list[float]]:
        """One vector a picture, in order, in batches of `embed_batch_size`. See `get_image_embedding`."""
        return self._in_batches(list(img_file_paths), self._get_image_embeddings, show_progress)

    async def aget_image_embedding_batch(
        self, img_file_paths: list[Any], show_progress: bool = False
    ) -> list[list[float]]:
        """`get_image_embedding_batch` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.get_image_embedding_batch, img_file_paths, show_progress)

    @dispatcher.span
    def _in_batches(
        self, items: list[Any], embed: Callable[[list[Any]], list[list[float]]], show_progress: bool = False
    ) -> list[list[float]]:
        """The vectors of all items, with LlamaIndex's events around every batch."""
        found: list[list[float]] = []
        starts = range(0, len(items), self.embed_batch_size)
        for start in get_tqdm_iterable(starts, show_progress, "Generating image embeddings"):
            batch = items[start : start + self.embed_batch_size]
            described = model_payload(self)
            dispatcher.event(EmbeddingStartEvent(model_dict=described))
            payload: dict[str, Any] = {EventPayload.SERIALIZED: described}
            with self.callback_manager.event(CBEventType.EMBEDDING, payload=payload) as event:
                limiter = getattr(self, "rate_limiter", None)  # older versions of LlamaIndex have none
                if limiter is not None:
                    limiter.acquire()
                vectors = embed(batch)
                event.on_end(payload={EventPayload.CHUNKS: batch, EventPayload.EMBEDDINGS: vectors})
            dispatcher.event(EmbeddingEndEvent(chunks=list(map(_name, batch)), embeddings=vectors))
            found += vectors
        return found

    # --- as a transformation ----------------------------------------------------------------------------------------

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """New nodes with embeddings: of their picture where they have one, else of their text."""
        urls = UrlRules(self.fetch_urls, self.file_urls)
        pictures = [picture_of_node(node, urls) for node in nodes]
        # A picture that several nodes share is embedded once.
        distinct: dict[Any, Any] = {}
        texts = []
        for node, picture in zip(nodes, pictures, strict=True):
            if picture is None:
                texts.append(node.get_content(metadata_mode=MetadataMode.EMBED))
            else:
                distinct[_picture_key(picture)] = picture
        show_progress = bool(kwargs.get("show_progress"))
        vectors = self._in_batches(list(distinct.values()), self._get_image_embeddings, show_progress)
        of_picture = dict(zip(distinct, vectors, strict=True))
        of_texts = iter(self.get_text_embedding_batch(texts, **kwargs))
        made = []
        for node, picture in zip(nodes, pictures, strict=True):
            if picture is None:
                made.append(_with_embedding(node, next(of_texts), {}))
            else:
                # LlamaIndex embeds the text of every node: the mark says that this is no such vector.
                mark = {PICTURE_VECTOR_OF: self.model_name}
                made.append(_with_embedding(node, of_picture[_picture_key(picture)], mark))
        return made

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.__call__, nodes, **kwargs)


class StoreEmbedding(BaseEmbedding):
    """What an index over `VisRAGVectorStore` is given: embeds questions, leaves nodes, by a placeholder, to the store.

    Questions too are left to a store whose embedder makes many vectors: LlamaIndex's are flat.
    """

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
        return _lists(self._embedder.embed_queries([query]))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return _LEFT_TO_STORE


def single_vector(embedder: PageEmbedder) -> PageEmbedder:
    """The embedder, if it makes one vector a page.

    Raises:
        SettingError: It makes many.
    """
    if embedder.kind == "single":
        return embedder
    raise SettingError(
        f"Embedder {embedder.name!r} makes many vectors a page; a LlamaIndex embedding is one flat list of floats. "
        "Use VisRAGVectorStore(store=store, embedder=embedder), or "
        "VisRAGRetriever(retriever=PageRetriever(embedder, store)), with it."
    )


def _with_embedding(node: BaseNode, vector: list[float], mark: dict[str, str]) -> BaseNode:
    """A new node with this vector; the mark stands in its metadata, where no model reads it."""
    return node.model_copy(
        update={
            "embedding": vector,
            "metadata": {**node.metadata, **mark},
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, *mark],
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, *mark],
        }
    )


def _picture_key(picture: Any) -> Any:
    """The same for pictures that are the same file or the same bytes."""
    if isinstance(picture, (bytes, Path)):
        return picture
    return id(picture)


def _name(item: Any) -> str:
    if isinstance(item, (str, Path)):
        return str(item)
    return f"<{type(item).__name__}>"


def _lists(vectors: Iterable[Embedding]) -> list[list[float]]:
    return [vector.tolist() for vector in vectors]
