"""What a page store may have beside the members of `PageStore`, and what is done where it has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from visrag_integrations.types import Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder, PageStore


class GivesEmbeddings(Protocol):
    """Gives back stored vectors, so that they need not be made again."""

    def get_embeddings(
        self, ids: Sequence[str], embedder: PageEmbedder | None = None, *, as_made: bool = False
    ) -> Mapping[str, Embedding]: ...


class KnowsEquals(Protocol):
    """Gives the vectors of stored pages with the same picture and text, so that equal pages are embedded once."""

    def embeddings_of_equals(self, pages: Sequence[Page]) -> Mapping[str, Any]: ...


class HasInfo(Protocol):
    """Says who filled it; None as long as there is no collection."""

    @property
    def info(self) -> Any: ...


def gives_embeddings(store: object) -> bool:
    """Whether it gives stored vectors back (`GivesEmbeddings`)."""
    return callable(getattr(store, "get_embeddings", None))


def stored_embeddings(
    store: object, ids: Sequence[str], embedder: PageEmbedder | None = None, *, as_made: bool = False
) -> Mapping[str, Embedding]:
    """The stored vectors by id, of those ids that are stored; none where it gives none (`GivesEmbeddings`).

    Args:
        store: Any store.
        ids: Of pages (`Page.id`).
        embedder: Whose vectors, where two filled the collection.
        as_made: Every vector as the embedder made it, never pooled; an id without them is left out.
    """
    get_embeddings = getattr(store, "get_embeddings", None)
    if get_embeddings is None:
        return {}
    found: Mapping[str, Embedding] = (
        get_embeddings(ids, embedder, as_made=True) if as_made else get_embeddings(ids, embedder)
    )
    return found


def embeddings_of_equals(store: object, pages: Sequence[Page]) -> Mapping[str, Any]:
    """Vectors of stored pages that are equal to one of these, by `content_key`; none without `KnowsEquals`."""
    equals = getattr(store, "embeddings_of_equals", None)
    if equals is None:
        return {}
    found: Mapping[str, Any] = equals(pages)
    return found


def is_filled(store: PageStore) -> bool:
    """Whether it has a collection already; assumed where it does not say (`HasInfo`)."""
    return getattr(store, "info", True) is not None


def knows_who_filled_it(store: object) -> bool:
    """Whether it says who filled it, and somebody did (`HasInfo`)."""
    return getattr(store, "info", None) is not None
