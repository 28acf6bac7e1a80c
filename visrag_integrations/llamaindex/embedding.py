"""`VisRAGEmbedding`: questions, texts and page pictures as flat lists of floats, for any LlamaIndex index."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.constants import DEFAULT_EMBED_BATCH_SIZE
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.utils import get_tqdm_iterable

from visrag_integrations.errors import SettingError
from visrag_integrations.llamaindex.convert import PICTURE_VECTOR_OF
from visrag_integrations.llamaindex.embedder import embed_mixed
from visrag_integrations.llamaindex.payload import payload_of
from visrag_integrations.llamaindex.pictures import page_picture, picture_of_node
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder

dispatcher = get_dispatcher(__name__)

_loaded: dict[str, PageEmbedder] = {}
_loading = threading.Lock()


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
        settings: Handed to `load_embedder`, for example `{"device": "cuda"}`; further keyword arguments too.

    Raises:
        SettingError: The embedder makes multi-vectors, which are no flat lists.
    """

    fetch_urls: bool = Field(default=False, description="Whether pictures behind http and https URLs are fetched.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the embedder that is loaded.")
    _embedder: Any = PrivateAttr(default=None)

    def __init__(
        self,
        model_name: str = "openbmb/VisRAG-Ret",
        *,
        embedder: PageEmbedder | None = None,
        embed_batch_size: int = DEFAULT_EMBED_BATCH_SIZE,
        fetch_urls: bool = False,
        settings: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        own = {key: more.pop(key) for key in list(more) if key in type(self).model_fields}
        given = {**(settings or {}), **{key: value for key, value in more.items() if key != "class_name"}}
        if embedder is not None and given:
            raise SettingError(f"{', '.join(given)}: settings are for a model that is loaded; an embedder has its own.")
        own |= {"model_name": str(model_name) if embedder is None else embedder.name}
        own |= {"embed_batch_size": embed_batch_size, "fetch_urls": fetch_urls, "settings": given}
        super().__init__(**own)
        self._embedder = _single(embedder) if embedder is not None else None

    @classmethod
    def class_name(cls) -> str:
        return "VisRAGEmbedding"

    @property
    def embedder(self) -> PageEmbedder:
        """The core embedder, loaded now if it was not."""
        if self._embedder is None:
            self._embedder = _single(load_shared(self.model_name, self.settings))
        found: PageEmbedder = self._embedder
        return found

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
        pictures = [page_picture(image, fetch_urls=self.fetch_urls) for image in img_file_paths]
        return _lists(self.embedder.embed_pages([Page("image", 1, picture=picture) for picture in pictures]))

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

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
            described = payload_of(self)
            dispatcher.event(EmbeddingStartEvent(model_dict=described))
            with self.callback_manager.event(
                CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: described}
            ) as event:
                limiter = getattr(self, "rate_limiter", None)  # older versions of LlamaIndex have none
                if limiter is not None:
                    limiter.acquire()
                vectors = embed(batch)
                event.on_end(payload={EventPayload.CHUNKS: batch, EventPayload.EMBEDDINGS: vectors})
            dispatcher.event(EmbeddingEndEvent(chunks=[_name(item) for item in batch], embeddings=vectors))
            found += vectors
        return found

    # --- as a transformation ----------------------------------------------------------------------------------------

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """New nodes with embeddings: of their picture where they have one, else of their text."""
        pictures = [picture_of_node(node, fetch_urls=self.fetch_urls) for node in nodes]
        distinct = {_key(picture): picture for picture in pictures if picture is not None}
        looked = self._in_batches(
            list(distinct.values()), self._get_image_embeddings, bool(kwargs.get("show_progress"))
        )
        seen = dict(zip(distinct, looked, strict=True))
        texts = [
            node.get_content(metadata_mode=MetadataMode.EMBED)
            for node, picture in zip(nodes, pictures, strict=True)
            if picture is None
        ]
        read = iter(self.get_text_embedding_batch(texts, **kwargs))
        return [
            _with_embedding(node, next(read) if picture is None else seen[_key(picture)], picture and self.model_name)
            for node, picture in zip(nodes, pictures, strict=True)
        ]

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.__call__, nodes, **kwargs)


def load_shared(model_name: str, settings: dict[str, Any]) -> PageEmbedder:
    """The embedder of that name, loaded once per process and settings."""
    from visrag_integrations.embedders import load_embedder

    key = repr((model_name, sorted(settings.items())))
    with _loading:
        if key not in _loaded:
            _loaded[key] = load_embedder(model_name, **settings)
        return _loaded[key]


def _single(embedder: PageEmbedder) -> PageEmbedder:
    if embedder.kind == "single":
        return embedder
    raise SettingError(
        f"Embedder {embedder.name!r} makes many vectors a page; a LlamaIndex embedding is one flat list of floats. "
        "Use VisRAGVectorStore(store=store, embedding=embedder), or "
        "VisRAGRetriever(retriever=PageRetriever(embedder, store)), with it."
    )


def _with_embedding(node: BaseNode, vector: list[float], looked: Any) -> BaseNode:
    metadata = {**node.metadata, PICTURE_VECTOR_OF: looked} if looked else dict(node.metadata)
    hidden = [PICTURE_VECTOR_OF] if looked else []
    return node.model_copy(
        update={
            "embedding": vector,
            "metadata": metadata,
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, *hidden],
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, *hidden],
        }
    )


def _key(picture: Any) -> Any:
    """The same for pictures that are the same file or the same bytes."""
    return picture if isinstance(picture, bytes) or hasattr(picture, "__fspath__") else id(picture)


def _name(item: Any) -> str:
    return item if isinstance(item, str) else str(item) if hasattr(item, "__fspath__") else f"<{type(item).__name__}>"


def _lists(vectors: Iterable[Embedding]) -> list[list[float]]:
    return [vector.tolist() for vector in vectors]
