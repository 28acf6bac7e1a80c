"""The four plugs on one screen. Upper rooms know only these; an object of yours with the same members fits.

What a plug may have beside these members stands in `embedders`, `stores`, `retrievers` and `generators`, each with the
function that uses it or does the same without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from visrag_integrations.types import (
    Conversation,
    Generation,
    GenerationSettings,
    Mode,
    Page,
    Query,
    ScoredPage,
    StoredDocument,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Embedding = NDArray[np.float32]

Filter = Mapping[str, Any]
"""Metadata key -> value, list of allowed values, or a range such as `{"gte": 3, "lt": 9}`; all must hold."""


@runtime_checkable
class DocumentReader(Protocol):
    """Documents in, pages out, lazily and in order."""

    def read(self, source: Any) -> Iterator[Page]: ...


@runtime_checkable
class PageEmbedder(Protocol):
    """Pages and queries in, float32 vectors out: `(dim,)` each for kind "single", `(n, dim)` each for "multi".

    What an embedder may have beside these: `visrag_integrations.interfaces.embedders`.
    """

    # Properties, so that an attribute of a narrower type fits too: `kind: Literal["single"]`.
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Literal["single", "multi"]: ...
    @property
    def dimension(self) -> int: ...

    def embed_pages(self, pages: Iterable[Page]) -> list[Embedding]: ...
    def embed_queries(self, queries: Iterable[str | Query]) -> list[Embedding]: ...


@runtime_checkable
class PageStore(Protocol):
    """Pages and their vectors, kept and found again.

    What a store may have beside these: `visrag_integrations.interfaces.stores`.
    """

    def prepare(self, embedder: PageEmbedder) -> None:
        """Create the collection for this embedder, or check that it was filled by the same one."""

    def add_pages(self, pages: Sequence[Page], embeddings: Sequence[Embedding]) -> None: ...
    def search(
        self,
        vector: Embedding | None,
        *,
        text: str = "",
        top_k: int = 5,
        filter: Filter | None = None,
        mode: Mode = "dense",
    ) -> list[ScoredPage]: ...
    def get_pages(self, ids: Sequence[str]) -> list[Page]: ...
    def scroll(self, filter: Filter | None = None) -> Iterator[Page]: ...
    def delete(self, *, doc_id: str | None = None, filter: Filter | None = None) -> int: ...
    def count(self, filter: Filter | None = None) -> int: ...
    def documents(self) -> Iterable[StoredDocument]:
        """Every document, in any order; one after the other where there may be many, so that nobody has to hold all."""


@runtime_checkable
class Generator(Protocol):
    """Conversations with pictures in, text with log-probability and usage out.

    What a generator may have beside these: `visrag_integrations.interfaces.generators`.
    """

    @property
    def name(self) -> str: ...

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One batch, answers in the order of the conversations."""

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """Pieces as they are written; the last carries `logprob`, `usage` and `finish_reason`. Closing it cancels."""
