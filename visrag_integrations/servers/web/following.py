"""Searches that follow their collection: where another embedder fills it anew, that one is loaded and asked instead."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import StoreMismatchError, VisRAGError
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.embedders import default_mode_of
from visrag_integrations.retrieval import EmbeddedSearch, PageRetriever, Search

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.types import Mode, ScoredPage

logger = logging.getLogger(__name__)

# An embedder that could not be loaded is tried again after this: loading may take a minute and much of a machine, and
# every search would begin it.
_TRIED_AGAIN_S = 30.0


@dataclass(frozen=True)
class _EmbeddedBy(EmbeddedSearch):
    """A search that says which embedder made its vector."""

    embedder: Any = None


def _embedded_by(embedder: PageEmbedder, search: EmbeddedSearch) -> _EmbeddedBy:
    values = {each.name: getattr(search, each.name) for each in fields(EmbeddedSearch)}
    return _EmbeddedBy(**values, embedder=embedder)


class FollowingRetriever(PageRetriever):
    """A `PageRetriever` whose embedder was chosen by the collection, and changes with it.

    The new one is loaded beside the old one, which is closed when its last search has ended. Searches that come
    meanwhile wait for it.

    Args:
        embedder: What fills the store now; closed by `close`, or when another one takes its place.
        store: Where the pages are.
        load: Loads an embedder by the name that a collection remembers.
        mode: Of searches; None takes each embedder's own.
        **settings: Of `PageRetriever`.
    """

    def __init__(
        self,
        embedder: PageEmbedder,
        store: QdrantPageStore,
        *,
        load: Callable[[str], PageEmbedder],
        mode: Mode | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(embedder, store, mode=mode, **settings)
        self._collection: Any = self.store
        self._load, self._given_mode = load, mode
        self._following = threading.RLock()
        self._counting = threading.Lock()
        self._users: dict[int, int] = {}
        self._retired: list[PageEmbedder] = []
        self._failed: tuple[float, StoreMismatchError] | None = None

    def embed(self, searches: Sequence[Search]) -> list[EmbeddedSearch]:
        """The first half of searches, by the embedder that fills the store now."""
        while True:
            embedder = self.embedder
            try:
                with self._used(embedder):
                    embedded = super().embed(searches)
            except StoreMismatchError as err:
                self._follow(embedder, err)
                continue
            if embedder is self.embedder:  # else another one took its place in the middle
                return [_embedded_by(embedder, search) for search in embedded]

    def find(self, search: EmbeddedSearch) -> list[ScoredPage]:
        """The second half of a search; its query is embedded again where the collection was filled anew meanwhile."""
        embedder = search.embedder if isinstance(search, _EmbeddedBy) else self.embedder
        if embedder is self.embedder:
            try:
                found = super().find(search)
            except StoreMismatchError as err:
                self._follow(embedder, err)
            else:
                if embedder is self.embedder:
                    return found
        # The filter is the retriever's own and the call's already: joined with its own again, it asks for the same.
        again = Search(search.query, search.top_k, search.filter, search.mode, search.score_threshold)
        (embedded,) = self.embed([again])
        return super().find(embedded)

    def close(self) -> None:
        """Let go of the embedder that is in use."""
        close(self.embedder)

    def _follow(self, stale: PageEmbedder, why: StoreMismatchError) -> None:
        """Take the embedder that fills the collection now.

        Raises:
            StoreMismatchError: It cannot be loaded, or makes other vectors here.
        """
        with self._following:
            if self.embedder is not stale:
                return  # another search has done it
            if self._fills(stale):
                raise why  # another collection's, such as a reranker's own: a new embedder would not help
            if self._failed is not None and time.monotonic() - self._failed[0] < _TRIED_AGAIN_S:
                raise self._failed[1]
            try:
                embedder = self._loaded(why)
            except StoreMismatchError as err:
                self._failed = (time.monotonic(), err)
                raise
            self._failed = None
            self.mode = self._given_mode or default_mode_of(embedder)
            self.embedder = embedder
            with self._counting:
                self._retired.append(stale)
            self._close_unused()

    def _fills(self, embedder: PageEmbedder) -> bool:
        """Whether it makes the vectors of the collection, which nobody filled anew since the store was opened."""
        known, now = self._collection.info, self._collection.read_info()
        if known is None or now is None or known.mark != now.mark:
            return False
        try:
            self._collection.check(embedder)
        except StoreMismatchError:
            return False
        return True

    def _loaded(self, why: StoreMismatchError) -> PageEmbedder:
        # Not `refresh`: until the new embedder is here, searches with the old one must be refused.
        info = self._collection.read_info()
        if info is None:
            raise why
        logger.warning("the collection was filled anew by %r; loading that embedder", info.embedder)
        try:
            embedder = self._load(info.embedder)
            try:
                self._collection.check(embedder)
                embedder.embed_queries(["warm up"])  # loads what is loaded late, before anybody waits for it
            except BaseException:
                close(embedder)
                raise
        except (VisRAGError, OSError, RuntimeError, ValueError, ImportError) as err:
            raise StoreMismatchError(
                f"The collection was filled anew by {info.embedder!r}, which cannot be used here: {err}"
            ) from err
        logger.warning("searches go on with the embedder %r", info.embedder)
        return embedder

    @contextlib.contextmanager
    def _used(self, embedder: PageEmbedder) -> Iterator[None]:
        """A block in which this embedder works, and is not closed."""
        with self._counting:
            self._users[id(embedder)] = self._users.get(id(embedder), 0) + 1
        try:
            yield
        finally:
            with self._counting:
                self._users[id(embedder)] -= 1
            self._close_unused()

    def _close_unused(self) -> None:
        """Close embedders that were replaced, once nobody uses them."""
        with self._counting:
            unused = [embedder for embedder in self._retired if not self._users.get(id(embedder))]
            for embedder in unused:
                self._retired.remove(embedder)
        for embedder in unused:
            close(embedder)
