"""Pages by one model, queries by another that was trained to hit the same vectors.

A small query model, such as NanoVDR, lets a machine without a GPU search what a large model embedded on one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from visrag_integrations.embedders.async_embedder import AsyncEmbedder
from visrag_integrations.errors import EmbedderError
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.embedders import PAIR, fingerprint_of, instruction_of

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder

OF_PAGES = frozenset({"reads", "pooling", "patch_grid", "embed_texts"})
"""Optional members of a page embedder that say something of pages."""


@dataclass(frozen=True)
class Described:
    """What the files of a checkpoint say of it, before it is loaded; None where they do not say it."""

    fingerprint: str | None = None
    kind: Literal["single", "multi"] | None = None
    dimension: int | None = None


class Half:
    """One of the two models, loaded when it is first needed.

    Args:
        name: As `load_embedder` takes it.
        load: Loads it.
        describe: Says what its files say.
    """

    def __init__(
        self, name: str, load: Callable[[], PageEmbedder], describe: Callable[[], Described] = Described
    ) -> None:
        self.name = name
        self._load, self._describe = load, describe
        self._lock = threading.Lock()
        self._described: Described | None = None
        self.loaded: PageEmbedder | None = None

    def open(self) -> PageEmbedder:
        """The model, loaded now if it was not."""
        with self._lock:
            if self.loaded is None:
                self.loaded = self._load()
            return self.loaded

    @property
    def described(self) -> Described:
        """What is known of it: from the model where it is loaded, else from its files, looked at once."""
        if self.loaded is not None:
            return Described(fingerprint_of(self.loaded), self.loaded.kind, self.loaded.dimension)
        with self._lock:
            if self._described is None:
                self._described = self._describe()
            return self._described

    def close(self) -> None:
        """Let go of the model."""
        with self._lock:
            model, self.loaded = self.loaded, None
        close(model)


class PairedEmbedder(AsyncEmbedder):
    """Embeds pages by one model and queries by another; each is loaded when it is first needed.

    Attributes:
        name: "PAGES|QUERIES".
        kind: Of both.
        dimension: Of both.
    """

    def __init__(self, pages: Half, queries: Half, made_from: tuple[str, Mapping[str, Any]]) -> None:
        """Put two models together.

        Args:
            pages: What embeds pages.
            queries: What embeds queries.
            made_from: What `load_embedder` was called with, for a copy in another process.
        """
        self.name = f"{pages.name}{PAIR}{queries.name}"
        self._pages, self._queries, self._made_from = pages, queries, made_from
        self._closed = False
        super().__init__()

    @property
    def kind(self) -> Literal["single", "multi"]:
        """How many vectors a page: "single" or "multi"."""
        kind: Literal["single", "multi"] = self._known().kind
        return kind

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        dimension: int = self._known().dimension
        return dimension

    @property
    def fingerprint(self) -> str:
        """Those of both, "PAGES|QUERIES"; one is left empty where the model is neither loaded nor lies here."""
        of_pages, of_queries = self._pages.described.fingerprint, self._queries.described.fingerprint
        return f"{of_pages or ''}{PAIR}{of_queries or ''}"

    @property
    def instruction(self) -> str | None:
        """What the query model puts before queries; None while it is not loaded."""
        if self._queries.loaded is None:
            return None
        return instruction_of(self._queries.loaded)

    def open_pages(self) -> PageEmbedder:
        """What embeds pages, loaded now if it was not.

        Raises:
            EmbedderError: The two models make other vectors.
        """
        self.check_open()
        opened = self._pages.open()
        self._check_fit()
        return opened

    def embed_pages(self, pages: Iterable[Any]) -> list[Embedding]:
        """Vectors of each page, by the page model.

        Raises:
            EmbedderError: The two models make other vectors.
        """
        return self.open_pages().embed_pages(pages)

    def embed_queries(self, queries: Iterable[Any]) -> list[Embedding]:
        """Vectors of each query, by the query model.

        Raises:
            EmbedderError: The two models make other vectors.
        """
        self.check_open()
        opened = self._queries.open()
        self._check_fit()
        return opened.embed_queries(queries)

    def check_open(self) -> None:
        """Nothing, unless this was closed, which raises EmbedderError."""
        if self._closed:
            raise EmbedderError("This embedder was closed. Load it again with load_embedder(...).")

    def close(self) -> None:
        """Let go of both models; the embedder cannot be used after."""
        self._closed = True
        for half in (self._pages, self._queries):
            half.close()
        super().close()

    def _known(self) -> Any:
        """What says kind and dimension, with as little loaded as possible."""
        if self._pages.loaded is not None:
            return self._pages.loaded
        described = self._queries.described
        if described.kind is not None and described.dimension is not None:
            return described
        self.check_open()
        return self._queries.open()

    def _check_fit(self) -> None:
        of_pages, of_queries = self._pages.loaded, self._queries.described
        if of_pages is None:
            return
        for what, one, other in (
            ("kind", of_pages.kind, of_queries.kind),
            ("dimension", of_pages.dimension, of_queries.dimension),
        ):
            if other is not None and one != other:
                raise EmbedderError(
                    f"Pages by {self._pages.name!r} and queries by {self._queries.name!r} cannot be compared: their "
                    f"{what} is {one!r} and {other!r}. Name a query model that was trained for these pages."
                )

    def __getattr__(self, name: str) -> Any:
        # What only the page model knows. Copy and pickle ask for other names, before there is a model.
        if name not in OF_PAGES:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        return getattr(self.open_pages(), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, self._made_from

    def __repr__(self) -> str:
        return f"<{self.name!r}>"


def _again(name: str, settings: Mapping[str, Any]) -> PageEmbedder:
    """The same in another process; its models are loaded there, from where they lie."""
    from importlib import import_module

    found: PageEmbedder = import_module("visrag_integrations").load_embedder(name, **settings)
    return found
