"""What a collection says of who filled it, as one store knows it, and whether that still holds.

Another process may index a collection on a server again with another embedder, or remove it, while a store is open. The
vectors of the old embedder would be compared with those of the new one, and any page would come first. So each page
brings a mark of the description that its vectors were made for; one that this store does not expect lets it read the
description again. In a folder, which belongs to one process, none of this is needed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from visrag_integrations.errors import StoreError, StoreMismatchError, StoreSwitchedError
from visrag_integrations.interfaces.reader_versions import outdated_note
from visrag_integrations.scores import lexical
from visrag_integrations.store.engine import Engine
from visrag_integrations.store.info import CollectionInfo, EmbedderInfo, check_info, describe_all, read_info
from visrag_integrations.store.parts import CollectionParts
from visrag_integrations.store.picture_files import PagePictures
from visrag_integrations.store.refusals import is_missing, is_refused

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

# Who adds pages reads the description again when it is older than this: vectors that were made for another one go into
# the collection for no longer, and thousands of small adds cost one request more in that time.
TRUSTED_S = 10.0
"""Seconds for which a writer believes what it read."""
# A collection of the layout before versions is away for a moment while a re-index ends: between two requests.
_AWAY_TRIES, _AWAY_WAIT_S = 4, 0.5


class DescribedCollection:
    """Knows who filled a collection; `Collection` adds its life, `QdrantPageStore` its pages."""

    _engine: Engine
    _pictures: PagePictures
    _guard: threading.RLock
    _info: CollectionInfo | None
    _read_at: float
    _indexes_checked: bool
    _strays: frozenset[str]

    if TYPE_CHECKING:

        def _parts(self, info: CollectionInfo) -> CollectionParts: ...

    @property
    def info(self) -> CollectionInfo | None:
        """Who filled the collection, as this store last read it; None while there is none."""
        return self._info

    def refresh(self) -> CollectionInfo | None:
        """Read again who fills the collection, and go by that from now on; None where there is none.

        Searches with the vectors of an embedder that does not fill it any more are refused until this is called, or
        `prepare` or `check` with one that does.
        """
        with self._guard:
            if self._info is None or self._engine.is_shared:
                found = self._read()
                if found is None:
                    self._info = None
                else:
                    self._adopt(found)
            return self._info

    def read_info(self) -> CollectionInfo | None:
        """Who fills the collection now; this store goes on by what it knew. See `refresh`."""
        if self._info is not None and not self._engine.is_shared:
            return self._info
        return self._read()

    def check(self, embedder: PageEmbedder) -> None:
        """Nothing when this embedder fills the collection, or nobody does yet; writes nothing, unlike `prepare`.

        Raises:
            StoreMismatchError: Others fill it.
        """
        info = self._load_info()
        if info is None or info.of(embedder) is not None:
            return
        info = self.refresh()  # another process may have made it anew, for this embedder
        if info is not None:
            check_info(info, embedder, self._engine.where)

    def check_alias(self) -> None:
        """Nothing, unless there is no collection because its alias was lost, as after a restored snapshot.

        Raises:
            StoreError: That is so; the message has the command that sets it.
        """
        lost = self._engine.without_name()
        if lost:
            raise StoreError(lost)

    # --- reading it -------------------------------------------------------------------------------------------------

    def _load_info(self) -> CollectionInfo | None:
        """What is known, or else what the collection says."""
        if self._info is None:
            with self._guard:
                found = self._read()
                if found is not None:
                    self._adopt(found)
        return self._info

    def _to_read(self) -> CollectionInfo | None:
        """What is known, for whoever is about to read pages; None where nothing was indexed yet."""
        info = self._load_info()
        if info is None:
            self.check_alias()
        return info

    def _read(self) -> CollectionInfo | None:
        """What the collection says now."""
        stored = self._engine.load_info()
        return None if stored is None else read_info(stored, self._engine.where)

    def _adopt(self, info: CollectionInfo) -> None:
        """Go by what was read."""
        known = self._info
        self._read_at = time.monotonic()
        if known is not None and info.as_dict() == known.as_dict():
            return
        self._pictures.settle(info.pictures)
        self._info = info
        if known is not None:
            if known.created != info.created:
                self._indexes_checked, self._strays = False, frozenset()
            return
        if not info.complete:
            logger.warning("%s: an import did not finish; import it again", self._engine.where)
        if info.text_rules < lexical.RULES and not outdated_note(info.reader):  # else one command mends both
            logger.warning(
                "%s: its words were indexed by an older version: numbers in another spelling and words divided "
                "at line ends are not found by words. Everything else is. To mend it: visrag reindex, or "
                "reindex(store, embedder)",
                self._engine.where,
            )

    def _look(self) -> CollectionInfo | None:
        """What the collection says now.

        Raises:
            StoreSwitchedError: This is the next version of a re-index, and another run of it has put it into use.
        """
        info = self.refresh()
        if self._engine.is_staged and info is not None and not self._engine.is_unfinished and self._engine.is_in_use():
            raise StoreSwitchedError(f"{self._engine.where}: another run of the same re-index was first.")
        return info

    def _prepared(self) -> CollectionInfo:
        info = self._load_info()
        if info is None:
            raise StoreError(f"{self._engine.where} has no collection yet. Call store.prepare(embedder) first.")
        return info

    def _to_write(self) -> CollectionInfo:
        """What the collection remembers, read again where that was some time ago.

        Raises:
            StoreMismatchError: It was filled anew: the vectors at hand are for what it was before.
        """
        info = self._prepared()
        if not self._engine.is_shared or time.monotonic() - self._read_at < TRUSTED_S:
            return info
        with self._guard:
            found = self._read_for_sure()
            if found.mark != info.mark:
                raise self._filled_anew(found, info, "No pages were added.")
            self._adopt(found)
        if self._engine.is_staged:
            self._look()
        return found

    def _read_for_sure(self) -> CollectionInfo:
        """What a collection that was there says now.

        Raises:
            StoreError: It is gone.
        """
        for left in reversed(range(_AWAY_TRIES)):
            found = self._read()
            if found is not None:
                return found
            if left:
                time.sleep(_AWAY_WAIT_S)
        raise StoreError(
            f"{self._engine.where} was removed since this store was opened. Index again: prepare(embedder) makes it."
        )

    # --- whether it still holds -------------------------------------------------------------------------------------

    def _while_it_holds(
        self,
        kind: str,
        ask: Callable[[CollectionParts], Found],
        payloads: Callable[[Found], Iterable[Mapping[str, Any]]],
    ) -> tuple[Found, CollectionInfo]:
        """What `ask` finds by vectors, once it is sure that they are compared with those of the same embedder.

        Args:
            kind: Of the vectors: "single" or "multi".
            ask: Searches; called again where the collection was made anew for the same embedder.
            payloads: The payloads of what was found.

        Raises:
            StoreMismatchError: Another embedder fills the collection by now.
        """
        info = self._prepared()
        if not self._engine.is_shared:
            return ask(self._parts(info)), info
        try:
            found = ask(self._parts(info))
        except StoreError as err:
            fresh = self._after(err, info, kind)
            return ask(self._parts(fresh)), fresh
        doubted = self._doubted([mark_in(payload) for payload in payloads(found)], info)
        if doubted is None:
            return found, info
        fresh = self._still_filled_by(info, kind)
        if fresh.mark != info.mark:
            return ask(self._parts(fresh)), fresh
        self._strays |= doubted
        return found, info

    def _doubted(self, marks: Sequence[str], info: CollectionInfo) -> frozenset[str] | None:
        """The marks that this store does not expect; None where nothing says that the collection was filled anew."""
        if not marks:
            # Nothing to tell by: the pages may be another embedder's, and none of them near.
            is_old = time.monotonic() - self._read_at > TRUSTED_S
            return frozenset() if is_old else None
        doubted = frozenset(marks) - {info.mark, ""} - self._strays
        # Strays alone are no answer: there may be nothing else by now.
        if doubted or not {info.mark, ""} & set(marks):
            return doubted
        return None

    def _after(self, err: StoreError, info: CollectionInfo, kind: str) -> CollectionInfo:
        """What to ask again with, after a search that failed.

        Raises:
            StoreMismatchError: The collection is another embedder's by now.
            StoreError: It is not, and the error is what it was.
        """
        cause = err.__cause__
        if cause is None or not is_refused(cause):
            raise err
        fresh = self._still_filled_by(info, kind)
        if fresh.mark == info.mark and not is_missing(cause):
            raise err
        return fresh

    def _still_filled_by(self, known: CollectionInfo, kind: str) -> CollectionInfo:
        """What the collection says now, where the embedder whose vectors are asked for still fills it.

        Raises:
            StoreMismatchError: It does not.
        """
        with self._guard:
            found = self._read_for_sure()
            mine = _of_kind(known, kind)
            if found.mark != known.mark and (mine is None or not any(_same(mine, other) for other in found.embedders)):
                raise self._filled_anew(found, known, "Nothing was searched.")
            self._adopt(found)
            return found

    def _filled_anew(self, found: CollectionInfo, known: CollectionInfo, what: str) -> StoreMismatchError:
        return StoreMismatchError(
            f"{self._engine.where} was filled anew since this store was opened: it holds {describe_all(found)} now, "
            f"and held {describe_all(known)}. {what} Go on with the embedder that fills it now, or open another "
            "collection."
        )

    def _own(self, hits: Sequence[Any], info: CollectionInfo) -> list[Any]:
        """The hits without those whose vectors a writer added for another embedder, after it had been replaced."""
        if not self._strays:
            return list(hits)
        kept = [hit for hit in hits if mark_in(hit.payload) in ("", info.mark)]
        if len(kept) < len(hits):
            logger.warning(
                "%s: %d of %d pages that were found have vectors of another embedder, and are left out: they were "
                "added while the collection was made anew. Remove their documents, then index them again.",
                self._engine.where,
                len(hits) - len(kept),
                len(hits),
            )
        return kept


def mark_in(payload: Mapping[str, Any]) -> str:
    """The mark of a page; "" where it has none, as from an older version of this library."""
    mark = (payload.get("visrag") or {}).get("mark")
    return mark if isinstance(mark, str) else ""


def _of_kind(info: CollectionInfo, kind: str) -> EmbedderInfo | None:
    for embedder in info.embedders:
        if embedder.kind == kind:
            return embedder
    return None


def _same(one: EmbedderInfo, other: EmbedderInfo) -> bool:
    """Whether two descriptions are of one embedder, however its vectors are kept."""
    names = ("embedder", "kind", "dimension", "fingerprint", "instruction")
    return all(getattr(one, name) == getattr(other, name) for name in names)
