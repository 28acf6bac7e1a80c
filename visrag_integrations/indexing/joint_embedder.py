"""One or two embedders that fill a collection: the pages are read once, and each page is embedded by all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from visrag_integrations.errors import EmbedderError, SettingError, StoreMismatchError
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.engine import DENSE_VECTOR
from visrag_integrations.store.info import describe_all
from visrag_integrations.types import Page

Embedders = PageEmbedder | Sequence[PageEmbedder]


class EmbedsPages(Protocol):
    """What filling a store needs of an embedder."""

    @property
    def name(self) -> str: ...
    def embed_pages(self, pages: Iterable[Page]) -> list[Any]: ...


class JointEmbedder:
    """Embeds pages by each of the embedders, as `{"page": ..., "patches": ...}`."""

    def __init__(self, embedders: Sequence[PageEmbedder]) -> None:
        self.embedders = tuple(embedders)
        self.name = " and ".join(embedder.name for embedder in embedders)

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        pages = list(pages)
        embeddings: list[dict[str, Any]] = [{} for _ in pages]
        for embedder in self.embedders:
            vectors = list(embedder.embed_pages(pages))
            if len(vectors) != len(pages):
                raise EmbedderError(
                    f"The embedder {embedder.name!r} gave {len(vectors)} vectors for {len(pages)} pages."
                )
            # One dict a page, of all its vectors: {"page": (dim,)} first, then "patches": (n, dim) is added to it.
            for embedding, vector in zip(embeddings, vectors, strict=True):
                embedding[DENSE_VECTOR[embedder.kind]] = vector
        return embeddings


def as_list(embedder: Embedders) -> list[PageEmbedder]:
    """One or several embedders, as a list."""
    if not isinstance(embedder, Sequence):
        return [embedder]
    embedders: list[PageEmbedder] = list(embedder)
    if not embedders:
        raise SettingError("There is no embedder in the list. Give one, or one of each kind.")
    return embedders


def prepare_store(store: QdrantPageStore, embedders: Sequence[PageEmbedder], reader: Mapping[str, Any]) -> EmbedsPages:
    """Create the collection for these embedders, or check it against them; gives what embeds its pages.

    Raises:
        StoreMismatchError: Others fill the collection, or others too: their vectors would be missing.
    """
    # A collection of two embedders that gets pages from one alone would lose them in searches by the other.
    store.prepare(embedders[0], reader, also=embedders[1:])
    assert store.info is not None
    if len(store.info.embedders) > len(embedders):
        raise StoreMismatchError(
            f"The collection {store.collection!r} holds {describe_all(store.info)}; pages added by "
            f"{embedders[0].name!r} alone could not be found by the other. "
            "Give both to index_documents: embedder=[..., ...]."
        )
    if len(embedders) == 1:
        return embedders[0]
    return JointEmbedder(embedders)
