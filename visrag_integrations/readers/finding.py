"""Which documents a path, a folder or a URL holds, and what in them is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DocumentNotFoundError, SettingError, printable
from visrag_integrations.readers import remote
from visrag_integrations.readers.sources import SUFFIXES, suffix_of

_INDEX_MARKER = "visrag.json"


@dataclass(frozen=True)
class LeftOut:
    """A file that is not read, or a folder that cannot be looked into.

    Attributes:
        source: Its path or URL.
        unreadable: Why a folder cannot be looked into; "" for a file whose kind is not read.
    """

    source: str
    unreadable: str = ""


OnLeftOut = Callable[[LeftOut], None]


def _ignore(_: LeftOut) -> None:
    pass


def find_documents(sources: Any, on_left_out: OnLeftOut = _ignore) -> Iterator[Path | str | bytes]:
    """Every document of a path, a URL, bytes, a folder, or an iterable of these, in order; folders are walked, sorted.

    Args:
        sources: Where to look.
        on_left_out: Called with each file of a folder that is not read. Hidden files and locks are passed over.

    Raises:
        DocumentNotFoundError: A folder holds no document.
    """
    if isinstance(sources, bytes):
        yield sources
    elif is_open_file(sources):
        named = printable(str(sources)) or type(sources).__name__
        raise SettingError(f"{named} is an open file. Give its path, or its bytes: file.read().")
    elif remote.is_url(sources):
        yield from _below_url(sources, on_left_out)
    elif isinstance(sources, (str, os.PathLike)):
        if os.path.isdir(sources):
            yield from _files_under(Path(sources), on_left_out)
        else:
            # Anything else that knows its path becomes a Path, so that every reader can take it.
            yield sources if isinstance(sources, (str, Path)) else Path(sources)
    elif isinstance(sources, Iterable):
        for source in sources:
            yield from find_documents(source, on_left_out)
    else:
        raise SettingError(
            f"Documents are given as paths, bytes, folders or lists of these, not {type(sources).__name__}."
        )


def is_open_file(source: Any) -> bool:
    """Whether `source` is a file that was opened, whose lines are no documents: also a temporary one, or an upload.

    >>> import io
    >>> is_open_file(io.BytesIO(b"")), is_open_file("a.pdf")
    (True, False)
    """
    if isinstance(source, IOBase):
        return True
    # What tempfile and web frameworks give only passes calls on to a file, and is none by its class.
    return hasattr(source, "read") and not isinstance(source, (str, bytes, os.PathLike))


def is_one_document(source: Any) -> bool:
    """Whether `source` is bytes or the path or URL of anything but a folder."""
    if remote.is_url(source):
        return _files_at(source) is None
    return isinstance(source, bytes) or (isinstance(source, (str, os.PathLike)) and not os.path.isdir(source))


def _files_under(folder: Path, on_left_out: OnLeftOut) -> Iterator[Path]:
    """Supported files below a folder, sorted, without hidden ones and indexes; no folder is entered twice (links)."""
    entered: set[tuple[int, int]] = set()
    found = False

    def unreadable(err: OSError) -> None:
        on_left_out(LeftOut(os.fspath(err.filename), err.strerror or str(err)))

    for root, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        info = os.stat(root)
        if (info.st_dev, info.st_ino) in entered:  # a link that leads back up would be followed for ever
            folders.clear()
            continue
        entered.add((info.st_dev, info.st_ino))
        if _INDEX_MARKER in files:  # the pictures in an index are no documents
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            # "~$report.docx" is the lock that Word leaves beside an open file.
            if name.startswith((".", "~$")):
                continue
            if suffix_of(name) in SUFFIXES:
                found = True
                yield Path(root, name)
            else:
                on_left_out(LeftOut(os.path.join(root, name)))
    if not found:
        raise _no_document(str(folder))


def _below_url(url: str, on_left_out: OnLeftOut) -> Iterator[str]:
    """Supported files below the folder that a URL names; the URL itself where it is none."""
    found = _files_at(url)
    if found is None:
        yield url
        return
    empty = True
    for name in found:
        if name.rpartition("/")[2].startswith("."):
            continue
        if suffix_of(name) in SUFFIXES:
            empty = False
            yield name
        else:
            on_left_out(LeftOut(name))
    if empty:
        raise _no_document(url)


def _files_at(url: str) -> Iterator[str] | None:
    """All files below a URL; None where it names a document. Asked only where it may be a folder: HTTP downloads it."""
    is_document = suffix_of(url) in SUFFIXES and not url.endswith("/")
    if is_document or url.lower().startswith(("http://", "https://")):
        return None
    return remote.files_under(url)


def _no_document(folder: str) -> DocumentNotFoundError:
    return DocumentNotFoundError(
        folder, f"the folder holds no document. Files with these endings are read: {', '.join(SUFFIXES)}."
    )
