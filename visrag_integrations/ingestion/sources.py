"""The given sources on their way to the readers: how much there is, what changes meanwhile, what is gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DocumentError
from visrag_integrations.readers import remote
from visrag_integrations.readers.events import DocumentDone
from visrag_integrations.readers.finding import LeftOut, find_documents, is_open_file
from visrag_integrations.readers.remote import is_url
from visrag_integrations.readers.sources import identify
from visrag_integrations.types import Failure

_Stamp = tuple[int, int, int]
"""When a file was changed, its size, and its inode: what differs after any ordinary way to change it."""


@dataclass(frozen=True)
class EndedDocument:
    """How a document ended.

    Attributes:
        done: What its reader says.
        changed: The file is not any more what was read.
        before: How many of its pages the store held when the run began, where other processes read.
        copy: Another document of the run has the same content, and is read instead.
    """

    done: DocumentDone
    changed: bool = False
    before: int = 0
    copy: bool = False


class GivenSources:
    """Every document of the given files, folders and bytes, lazily; iterate it once.

    Attributes:
        total_bytes: Of all files; None where it was not asked for, or the sources come from an iterator.
        total_documents: How many there are; None where the bytes are.
        left_out: Files of given folders whose kind is not read, as far as the folders were walked.
        unreadable: Folders that could not be looked into.
        folders: The absolute paths of the given folders, but not of those in which no document was found.
        beside: Those of the folders in which given files are.
    """

    def __init__(self, sources: Any, *, measure: bool) -> None:
        # An iterator can be read only once, and the run itself has to.
        measure = measure and not isinstance(sources, Iterator)
        if measure:
            sources = _held(sources)
        self._sources = sources
        self._stamps: dict[str, _Stamp] = {}
        self.folders: set[str] = set()
        self.beside: set[str] = set()
        self.left_out: list[str] = []
        self.unreadable: list[Failure] = []
        self.total_bytes: int | None = None
        self.total_documents: int | None = None
        if measure:
            sizes = [size_of(document) for document in self._documents()]
            self.total_bytes, self.total_documents = sum(sizes), len(sizes)

    def __iter__(self) -> Iterator[Path | str | bytes]:
        self.left_out.clear()
        self.unreadable.clear()
        for document in self._documents():
            if not isinstance(document, bytes):
                stamp = _stamp(document)
                if stamp is not None:
                    self._stamps[os.fspath(document)] = stamp
            yield document

    def _documents(self) -> Iterator[Path | str | bytes]:
        for given in _flatten(self._sources):
            path = self._remember(given)
            try:
                yield from find_documents(given, self._leave_out)
            except DocumentError:
                self.folders.discard(path)  # empty, perhaps not mounted: that proves nothing about its files
                yield given  # the readers say what is wrong with it

    def _leave_out(self, found: LeftOut) -> None:
        if found.unreadable:
            reason = f"the folder cannot be looked into: {found.unreadable}. Check its permissions."
            self.unreadable.append(Failure(found.source, reason))
        else:
            self.left_out.append(found.source)

    def _remember(self, given: Any) -> str:
        """The path of a given file or folder, remembered for `gone`; "" for bytes and URLs."""
        if not isinstance(given, (str, os.PathLike)) or is_url(given):
            return ""
        path = os.path.abspath(given)
        if os.path.isdir(path):
            self.folders.add(path)
        else:
            self.beside.add(os.path.dirname(path))
        return path

    def ended(self, done: DocumentDone, max_bytes: int) -> EndedDocument:
        """How the document ended; to be asked once, because what was remembered of its file is dropped here."""
        before = self._stamps.pop(done.source, None)
        if done.embedded:  # it travelled as bytes
            return EndedDocument(done)
        return EndedDocument(done, done.pages > 0 and _changed(done, before, max_bytes))

    def gone(self, source: str) -> bool:
        """Whether a stored source was below a given folder that is not empty, or beside a given file, and is gone."""
        if "://" in source or source.startswith("bytes:"):
            return False
        path = os.path.abspath(source)
        spellings = {path, _as_on_disk(path)}
        return any(map(self._is_in_reach, spellings)) and all(map(_is_gone, spellings))

    def _is_in_reach(self, path: str) -> bool:
        if os.path.dirname(path) in self.beside:
            return True
        return any(path.startswith(os.path.join(folder, "")) for folder in self.folders)


def _is_gone(path: str) -> bool:
    """Whether neither the file is there, nor one that it lies inside of."""
    try:
        os.stat(outer_file(path) or path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # not to be seen is not gone
        return False
    return False


def _as_on_disk(path: str) -> str:
    """A stored path with the bytes that are no UTF-8 as the system has them: a store writes them out (`storable`).

    >>> _as_on_disk("caf" + chr(92) + "udce9.pdf") == "caf" + chr(0xDCE9) + ".pdf"
    True
    """
    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), path)


def outer_file(path: str) -> str | None:
    """The file that a stored source lies inside of ("a.pdf" of "a.pdf/b.pdf"); None where it lies in folders."""
    above = os.path.dirname(path)
    while above and above != os.path.dirname(above):
        if os.path.isfile(above):
            return above
        if os.path.isdir(above):
            return None
        above = os.path.dirname(above)
    return None


def name_of(document: Path | str | bytes) -> str:
    """What a document is called in reports and in the store.

    >>> name_of("a.pdf"), name_of(b"")
    ('a.pdf', 'bytes:e3b0c44298fc')
    """
    if isinstance(document, bytes):
        return f"bytes:{sha256(document).hexdigest()[:12]}"
    if is_url(document):
        return remote.named(str(document))
    return os.fspath(document)


def _changed(done: DocumentDone, before: _Stamp | None, max_bytes: int) -> bool:
    """Whether the file is not what it was when it was identified."""
    # Bytes and downloads are copies: nobody else can change what was read.
    copied = done.source.startswith("bytes:") or is_url(done.source)
    if copied or (before is not None and _stamp(done.source) == before):
        return False
    # A stamp may change without the content (touch, a restored backup), so the content decides.
    try:
        return identify(done.source, max_bytes=max_bytes).doc_id != done.doc_id
    except DocumentError:
        return True


def size_of(document: Path | str | bytes) -> int:
    """Bytes of a document; 0 when it cannot be seen."""
    if isinstance(document, bytes):
        return len(document)
    if is_url(document):
        return remote.size_of(str(document))
    stamp = _stamp(document)
    if stamp is None:
        return 0
    return stamp[1]


def _stamp(path: Path | str) -> _Stamp | None:
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def _held(sources: Any) -> Any:
    """The sources with iterators inside of lists as lists: they are gone through twice, to measure and to read."""
    if is_open_file(sources):
        return sources
    if isinstance(sources, Iterator):
        return list(map(_held, sources))
    if isinstance(sources, (list, tuple)):
        return list(map(_held, sources))
    return sources


def _flatten(sources: Any) -> Iterator[Any]:
    one = isinstance(sources, (str, bytes, os.PathLike)) or not isinstance(sources, Iterable)
    if one or is_open_file(sources):
        yield sources
    else:
        for source in sources:
            yield from _flatten(source)
