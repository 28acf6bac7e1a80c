"""Page pictures as content-addressed files: `<collection>/<2 hex>/<62 hex>.jpg` under a root."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visrag_integrations import images
from visrag_integrations.errors import DiskFullError, PictureError, SettingError, StoreError
from visrag_integrations.files.whole import unfinished, write_whole
from visrag_integrations.store.due_pictures import DuePictures
from visrag_integrations.store.folder import PICTURES

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource
    from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
# Names joined by "/", none of which starts with a dot: neither absolute nor a URL, and no "..".
_REFERENCE = re.compile(r"(?!\.)[\w-][\w.-]*(/(?!\.)[\w-][\w.-]*)*", re.ASCII)


class PictureFiles(Protocol):
    """Where the pictures of a collection are kept. A reference is relative to the root."""

    def save(self, data: bytes, reference: str) -> None: ...
    def source(self, reference: str) -> PictureSource: ...
    def read(self, reference: str) -> bytes: ...
    def delete(self, reference: str) -> None: ...


def reference_of(data: bytes, collection: str, suffix: str) -> str:
    """The reference of a picture: the sha256 of its bytes, fanned out.

    >>> reference_of(b"", "pages", "jpg")
    'pages/e3/b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.jpg'
    """
    digest = hashlib.sha256(data).hexdigest()
    return f"{collection}/{digest[:2]}/{digest[2:]}.{suffix}"


def is_reference(reference: Any) -> bool:
    """Whether it is a path that stays under its root."""
    return isinstance(reference, str) and len(reference) <= 1024 and _REFERENCE.fullmatch(reference) is not None


def check_reference(reference: Any) -> str:
    """The reference, if it stays under its root.

    Raises:
        PictureError: It is absolute, a URL, or climbs out.
    """
    if is_reference(reference):
        return str(reference)
    raise PictureError(
        f"The picture reference {reference!r} is refused: it must be a path below the index's picture folder, "
        "such as 'pages/ab/cdef.jpg'. Index the document again."
    )


class PictureFolder:
    """Pictures as files below a folder, each written whole or not at all."""

    def __init__(self, root: str | Path) -> None:
        # A program may go to another folder while it is open. Not `abspath`, which takes "link/.." away unlooked at:
        # the folder above what a link leads to is another one.
        self.root = Path(root).absolute()

    def save(self, data: bytes, reference: str) -> None:
        path = self.root / check_reference(reference)
        with contextlib.suppress(OSError):
            if path.stat().st_size == len(data):
                return  # named by its content: the same name and size is the same picture
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not made durable: a thousand pages would wait a thousand times for the disk. What a power cut takes of the
            # newest pages is written again by the next run, for the engine forgets them too.
            write_whole(path, data, durable=False)
        except OSError as err:
            kind = DiskFullError if err.errno == errno.ENOSPC else StoreError
            raise kind(
                f"The picture {path} cannot be written: {err}. Make room, or give pictures=another folder."
            ) from err

    def source(self, reference: str) -> PictureSource:
        return self.root / check_reference(reference)

    def read(self, reference: str) -> bytes:
        path = self.root / check_reference(reference)
        try:
            return path.read_bytes()
        except OSError as err:
            raise PictureError(f"The picture {path} cannot be read: {err}. Index its document again.") from err

    def delete(self, reference: str) -> None:
        path = self.root / check_reference(reference)
        path.unlink(missing_ok=True)
        unfinished(path).unlink(missing_ok=True)  # where saving it was cut off by a kill
        with contextlib.suppress(OSError):  # the fan-out folder, when it is empty
            path.parent.rmdir()


class PictureMemory:
    """Pictures in this process's memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def save(self, data: bytes, reference: str) -> None:
        self.files[check_reference(reference)] = data

    def source(self, reference: str) -> PictureSource:
        return functools.partial(self.read, reference)

    def read(self, reference: str) -> bytes:
        try:
            return self.files[reference]
        except KeyError:
            raise PictureError(f"The picture {reference!r} is not in this process's memory any more.") from None

    def delete(self, reference: str) -> None:
        self.files.pop(reference, None)


class PictureURL:
    """Pictures below a URL that fsspec understands, such as `s3://bucket/pictures`."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as err:
            raise SettingError(
                f"pictures={url!r} needs fsspec and its package for that kind of URL. Install them, for example with: "
                "pip install fsspec s3fs"
            ) from err
        try:
            self.files, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as err:
            raise SettingError(f"pictures={url!r} cannot be opened: {err}") from err
        self.root = str(root).rstrip("/")

    def save(self, data: bytes, reference: str) -> None:
        path = self._path(reference)
        try:
            if self.files.exists(path):
                return
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self.files.transaction:  # whole or not at all, where the file system can
                self.files.pipe_file(path, data)
        except OSError as err:
            raise StoreError(f"The picture {path} cannot be written: {err}") from err

    def source(self, reference: str) -> PictureSource:
        check_reference(reference)
        return functools.partial(self.read, reference)

    def read(self, reference: str) -> bytes:
        path = self._path(reference)
        try:
            return bytes(self.files.cat_file(path))
        except OSError as err:
            raise PictureError(f"The picture {path} cannot be read: {err}") from err

    def delete(self, reference: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._path(reference))

    def _path(self, reference: str) -> str:
        return f"{self.root}/{check_reference(reference)}"


class PagePictures:
    """The pictures of one collection's pages: encoded, named by their content, found again.

    Args:
        files: Where they are kept; None keeps none.
        collection: The first part of every reference, so that collections may share a root.
        format: "JPEG", "PNG" or "WEBP".
        quality: From 1 to 100.

    Attributes:
        keep_formats: Encoded pictures of another of the formats are kept as they are too.
        kind: Of what kind their place is, as a collection on a server remembers it; "" where that need not be said.
        due_list: Of a collection in a folder: what goes unless a page shows it, after a kill too. None elsewhere.
    """

    def __init__(self, files: PictureFiles | None, collection: str, format: str = "JPEG", quality: int = 85) -> None:
        if format.upper() not in SUFFIXES:
            raise SettingError(f"picture_format is {format!r}; allowed: {', '.join(SUFFIXES)}.")
        self.files, self.collection, self.format, self.quality = files, collection, format.upper(), quality
        self.keep_formats = False
        self.kind = ""
        self.due_list: DuePictures | None = None

    def settle(self, kind: str) -> None:
        """Do as the collection remembers it; nothing where it is settled already."""

    def settle_new(self) -> None:
        """Do as in a new collection."""

    def save_all(self, pages: Iterable[Page]) -> list[str | None]:
        """Keep the pages' pictures; gives the reference of each."""
        return [self.save(page.picture) for page in pages]

    def save(self, picture: PictureSource | None) -> str | None:
        """Keep the picture; gives its reference."""
        if picture is None or self.files is None:
            return None
        data, reference = self.encoded(picture)
        self.note([reference])
        self.files.save(data, reference)
        return reference

    def encoded(self, picture: PictureSource) -> tuple[bytes, str]:
        """The picture as it is kept, and its reference."""
        kept_as = self.format
        if self.keep_formats and isinstance(picture, bytes):
            found = images.sniff_format(picture)
            if found in SUFFIXES:
                kept_as = found
        data = images.encode(picture, kept_as, self.quality)
        return data, reference_of(data, self.collection, SUFFIXES[kept_as])

    def sources(self, references: Sequence[Any]) -> list[PictureSource | None]:
        """Where the pictures of one result list are."""
        return [self.source(reference) for reference in references]

    def source(self, reference: Any) -> PictureSource | None:
        """Where the picture is; one that is refused raises when it is opened, not here."""
        if reference is None:
            return None
        if self.files is not None:
            with contextlib.suppress(PictureError):
                return self.files.source(reference)
        return functools.partial(refused, reference)

    def read(self, reference: str) -> bytes:
        """The encoded picture."""
        if self.files is None:
            return refused(reference)
        return self.files.read(reference)

    def read_all(self, references: Sequence[str]) -> dict[str, bytes]:
        """The encoded pictures by reference; those that cannot be read are left out."""
        found: dict[str, bytes] = {}
        for reference in references:
            with contextlib.suppress(PictureError):
                found[reference] = self.read(reference)
        return found

    def for_others(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """These settings of a store, for a process that may be in another folder."""
        return dict(settings)

    @property
    def deletes(self) -> bool:
        """Whether pictures that no page shows any more can be removed."""
        return self.files is not None

    def delete(self, references: Iterable[str]) -> None:
        """Remove pictures; one that cannot be removed is left, with a warning."""
        if self.files is None:
            return
        gone: list[str] = []
        for reference in references:
            try:
                self.files.delete(reference)
                gone.append(reference)
            except (OSError, PictureError) as err:
                logger.warning("The picture %s could not be removed: %s", reference, err)
        self.shown(gone)

    def note(self, references: Collection[str]) -> None:
        """Before a step after which perhaps no page shows these: a run after a kill looks at them again."""
        if self.due_list is not None:
            self.due_list.note(references)

    def shown(self, references: Iterable[str | None]) -> None:
        """Of those that were noted: pages show these, or they are gone."""
        if self.due_list is not None:
            self.due_list.strike([reference for reference in references if reference is not None])

    def due(self) -> set[str]:
        """Pictures whose pages may be gone: of a run that was killed, or spared when their last page went."""
        if self.due_list is None:
            return set()
        return self.due_list.left()

    def keep(self, references: Iterable[str]) -> None:
        """Of those that were due: these are shown again."""
        self.shown(references)


class BorrowedPictures(PagePictures):
    """Another collection's pictures: more are kept beside them, but none goes, for the other may show it."""

    def __init__(self, lender: PagePictures) -> None:
        super().__init__(lender.files, lender.collection, lender.format, lender.quality)
        self._lender = lender
        self.kind = lender.kind

    def save_all(self, pages: Iterable[Page]) -> list[str | None]:
        """Keep the pages' pictures beside the other's."""
        if self.due_list is not None:  # noted in the list of the version that will show them
            return super().save_all(pages)
        return self._lender.save_all(pages)

    def sources(self, references: Sequence[Any]) -> list[PictureSource | None]:
        """Where the pictures are."""
        return self._lender.sources(references)

    def read_all(self, references: Sequence[str]) -> dict[str, bytes]:
        """The encoded pictures by reference."""
        return self._lender.read_all(references)

    def delete(self, references: Iterable[str]) -> None:
        """Leaves every picture where it is."""

    def due(self) -> set[str]:
        """None: the lender looks at them when this version takes its place."""
        return set()


def refused(reference: Any) -> bytes:
    """Stands where a picture would be whose reference was refused; raises when it is opened."""
    check_reference(reference)
    raise PictureError(f"This store keeps no pictures; give it pictures=the folder or URL that holds {reference!r}.")


def open_pictures(location: str | Path) -> PictureFiles:
    """The pictures below a folder, or below a URL."""
    if isinstance(location, str) and "://" in location:
        return PictureURL(location)
    return PictureFolder(location)


def pictures_for(location: Any, folder: Path | None, wanted: str | Path | bool | None) -> PictureFiles | None:
    """Where a store on `location` keeps its pictures: where `wanted` says, else beside the index."""
    if wanted is False:
        return None
    if isinstance(wanted, (str, Path)):
        return open_pictures(wanted)
    if folder is not None:
        return PictureFolder(os.path.abspath(folder / PICTURES))  # as `EdgeEngine.open` finds the index
    if location == ":memory:":
        return PictureMemory()
    return None
