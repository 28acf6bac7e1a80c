"""A page's picture in a collection on a server, as a `PictureSource`: read late, together with its neighbours."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from visrag_integrations.errors import PictureError, StoreError


class ReadsPictures(Protocol):
    """Where kept pictures are read from; `key` says in every process which collection it is."""

    key: str

    @property
    def is_open(self) -> bool: ...
    def read(self, reference: str) -> bytes: ...
    def read_all(self, references: Sequence[str]) -> dict[str, bytes]: ...


open_collections: weakref.WeakSet[ReadsPictures] = weakref.WeakSet()
"""Those of this process: a page that came from another process finds its picture through the one that is open here."""


class PictureBatch:
    """Pictures that are read together when the first of them is opened: those of one result list.

    Args:
        files: Where they are.
        references: All of them.
    """

    def __init__(self, files: ReadsPictures, references: Sequence[str]) -> None:
        self._files, self._references = files, list(dict.fromkeys(references))
        self._read: dict[str, bytes] | None = None

    def read(self, reference: str) -> bytes:
        """The encoded picture."""
        if self._read is None:  # two threads at once read twice, and get the same
            self._read = self._files.read_all(self._references)
        data = self._read.get(reference)
        if data is None:
            return self._files.read(reference)  # it was saved since, or this says why it cannot be read
        return data


class KeptPicture:
    """A picture in a picture collection; called, it gives the encoded bytes.

    Sent to another process it holds no client, address or key: there it is read through a store that is open on the
    same collection.
    """

    def __init__(self, key: str, collection: str, reference: str, batch: PictureBatch | None = None) -> None:
        self._key, self.collection, self.reference, self._batch = key, collection, reference, batch

    def __call__(self) -> bytes:
        trouble: StoreError | None = None
        for read in self._ways():
            try:
                return read(self.reference)
            except StoreError as err:  # another store on the same collection may still reach it
                trouble = err
        if trouble is not None:
            raise PictureError(f"The picture {self.reference!r} cannot be read: {trouble}") from trouble
        raise PictureError(
            f"The picture {self.reference!r} is in the collection {self.collection!r} on a server, and no store is "
            "open on it in this process. Open one and keep it open: "
            f"store = QdrantPageStore(url, {self.collection.rpartition('.')[0]!r})."
        )

    def _ways(self) -> Iterator[Callable[[str], bytes]]:
        if self._batch is not None:
            yield self._batch.read
        for files in list(open_collections):
            if files.key == self._key and files.is_open:
                yield files.read

    def __repr__(self) -> str:
        return f"KeptPicture({self.collection!r}, {self.reference!r})"

    def __copy__(self) -> KeptPicture:
        return self  # it never changes

    def __deepcopy__(self, _: dict[int, Any]) -> KeptPicture:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptPicture, (self._key, self.collection, self.reference)
