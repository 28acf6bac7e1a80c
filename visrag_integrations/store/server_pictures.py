"""Which storage the pictures of a collection on a server are in: what its operator names, and what it remembers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import PictureError, SettingError, StoreError
from visrag_integrations.store.kept_picture import KeptPicture
from visrag_integrations.store.picture_collection import MAX_PICTURE, SUFFIX, PictureCollection
from visrag_integrations.store.picture_files import (
    PagePictures,
    PictureFiles,
    PictureFolder,
    is_reference,
    open_pictures,
)

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource
    from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

# Pictures that are read together: some 3 MB of 200 KB each. Result lists are seldom longer, and more would be held in
# memory for pages that nobody opens.
_READ_AT_ONCE = 16


def check_not_pictures(collection: str) -> None:
    """Nothing when a collection on a server may have this name.

    Raises:
        SettingError: It is that of another one's pictures.
    """
    if collection.endswith(SUFFIX):
        raise SettingError(
            f"The collection name {collection!r} is not allowed: {SUFFIX!r} at its end is for the page pictures of "
            f"{collection.removesuffix(SUFFIX)!r}. Choose another name."
        )


class ServerPictures(PagePictures):
    """The pictures of a collection's pages behind a client: in a collection beside it, a folder, below a URL, or none.

    Whoever may write to a collection must not be able to point its readers at their own disk. So the collection says
    only of what kind its picture storage is, and a folder or a URL is used only where the operator names it.

    Args:
        beside: The collection for pictures beside the pages'.
        wanted: A folder, a URL, False for none, True for the collection; None does as the pages' collection remembers.
        collection: The name of the pages' collection.
        format: As for `PagePictures`.
        quality: Likewise.
    """

    def __init__(
        self, beside: PictureCollection, wanted: str | Path | bool | None, collection: str, format: str, quality: int
    ) -> None:
        super().__init__(None, collection, format, quality)
        self._beside, self._wanted = beside, wanted
        self._warned = False
        self._remembered = ""  # where the collection's pictures are, as it says itself
        self._named: PictureFiles | None = None
        if isinstance(wanted, (str, Path)):
            self._named = open_pictures(wanted)
        self.settle_new()

    def settle_new(self) -> None:
        """Do as in a new collection."""
        wanted = self._wanted
        if wanted is False:
            self.files, self.kind = None, "none"
        elif self._named is not None:
            self.files = self._named
            self.kind = "url" if isinstance(wanted, str) and "://" in wanted else "folder"
        else:
            self.files, self.kind = self._beside, "server"

    def settle(self, kind: str) -> None:
        """Do as the collection remembers it.

        Raises:
            SettingError: It keeps its pictures elsewhere than was asked for.
        """
        self.settle_new()
        self._remembered = kind
        if self._wanted is None and kind != "server":
            # A collection from before this was remembered goes on as it was: without a place that somebody names.
            self.files, self.kind = None, kind
            return
        # From a folder to a URL the operator may have moved them; where there were none, some may come.
        on_server = [place == "server" for place in (kind, self.kind) if place not in ("", "none")]
        if len(set(on_server)) == 2:
            say = "Leave pictures out (--pictures)." if kind == "server" else "Name it: pictures=... (--pictures)."
            raise SettingError(
                f"The collection {self.collection!r} {_place_of(kind)}, and pictures={self._wanted!r} was given. {say} "
                "To move them: export() it, and import it into a new collection with the other pictures."
            )

    def save_all(self, pages: Iterable[Page]) -> list[str | None]:
        """Keep the pages' pictures; gives the reference of each.

        Raises:
            SettingError: They belong into a folder or below a URL that was not named.
            PictureError: One is too large for a server.
        """
        if self.files is not self._beside:
            return super().save_all(self._checked(pages))
        references: list[str | None] = []
        self._beside.save_all(self._encoded_of(pages, references))
        return references

    def _checked(self, pages: Iterable[Page]) -> list[Page]:
        """The pages, unless their pictures would be lost without anybody having wanted it."""
        pages = list(pages)
        if self.files is not None or self._wanted is False:
            return pages
        if self.kind in ("folder", "url") and any(page.picture is not None for page in pages):
            raise SettingError(
                f"The collection {self.collection!r} {_place_of(self.kind)}, which this store was not told. Name it, "
                "or the pages would lose theirs: pictures=... (--pictures); False keeps none."
            )
        if self.kind == "" and not self._warned:
            self._warned = True
            logger.warning(
                "The collection %r keeps no page pictures, as when it was made. pictures=True (--pictures server) "
                "keeps those of pages that are added from now on; pictures=False says nothing of it.",
                self.collection,
            )
        return pages

    def _encoded_of(self, pages: Iterable[Page], references: list[str | None]) -> Iterator[tuple[bytes, str]]:
        """The pages' pictures as they are kept, one after the other; notes the reference of each page."""
        for page in pages:
            if page.picture is None:
                references.append(None)
                continue
            data, reference = self.encoded(page.picture)
            if len(data) > MAX_PICTURE:
                raise PictureError(
                    f"The picture of page {page.number} of {page.source or page.doc_id!r} has {len(data) / 1e6:.1f} "
                    f"MB; on a server it may have {MAX_PICTURE / 1e6:.0f} MB. Read the document with fewer pixels, or "
                    "give pictures=a folder or a URL (--pictures)."
                )
            references.append(reference)
            yield data, reference

    def sources(self, references: Sequence[Any]) -> list[PictureSource | None]:
        """Where the pictures are; of those in a collection, 16 are read in one request."""
        sources = [self.source(reference) for reference in references]
        if self.files is not self._beside:
            return sources
        kept = [place for place, source in enumerate(sources) if isinstance(source, KeptPicture)]
        for start in range(0, len(kept), _READ_AT_ONCE):
            together = kept[start : start + _READ_AT_ONCE]
            made = self._beside.sources([references[place] for place in together])
            for place, source in zip(together, made, strict=True):
                sources[place] = source
        return sources

    def source(self, reference: Any) -> PictureSource | None:
        """Where the picture is; one that cannot be read raises when it is opened."""
        if reference is None or self.files is not None or self.kind not in ("folder", "url"):
            return super().source(reference)
        return functools.partial(_not_named, self.collection, self.kind)

    def read_all(self, references: Sequence[str]) -> dict[str, bytes]:
        """The encoded pictures by reference, many in one request; those that cannot be read are left out."""
        if self.files is not self._beside:
            return super().read_all(references)
        found: dict[str, bytes] = {}
        known = list(filter(is_reference, references))
        for start in range(0, len(known), _READ_AT_ONCE):
            found |= self._beside.read_all(known[start : start + _READ_AT_ONCE])
        return found

    def for_others(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """These settings of a store, for a process that may be in another folder: pictures are where they are here."""
        if isinstance(self._named, PictureFolder) and settings.get("pictures") == self._wanted:
            return {**settings, "pictures": self._named.root}
        return dict(settings)

    @property
    def deletes(self) -> bool:
        """Whether pictures that no page shows any more can be removed."""
        return self.files is not None or self._is_beside

    @property
    def _is_beside(self) -> bool:
        """Whether the pages have pictures in the collection; a store that keeps none itself removes them too."""
        return self.files is self._beside or (self.files is None and self._remembered == "server")

    def delete(self, references: Iterable[str]) -> None:
        """Remove pictures; in a collection, those that were saved just now are left for later."""
        if not self._is_beside:
            super().delete(references)
            return
        try:
            self._beside.delete_all(filter(is_reference, references))
        except StoreError as err:
            logger.warning("Pictures could not be removed: %s", err)

    def due(self) -> set[str]:
        """Pictures that were spared when their last page went, and need not be any more."""
        if not self._is_beside:
            return set()
        try:
            return set(self._beside.due())
        except StoreError as err:  # whoever may not look leaves it to others
            logger.info("What pictures are due to be removed cannot be read: %s", err)
            return set()

    def keep(self, references: Iterable[str]) -> None:
        """Of those that were due: these are shown again."""
        if self._is_beside:
            self._beside.keep(references)


def _place_of(kind: str) -> str:
    places = {"server": "keeps its pictures on the server", "url": "keeps its pictures below a URL"}
    return places.get(kind, "keeps its pictures in a folder")


def _not_named(collection: str, kind: str) -> bytes:
    raise PictureError(
        f"The collection {collection!r} {_place_of(kind)}, which this store was not told. Open it with "
        "pictures=that place (--pictures)."
    )
