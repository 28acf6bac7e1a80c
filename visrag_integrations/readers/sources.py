"""What a caller may hand to a reader, told apart by content: files, bytes, folders, and lists of them."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

from visrag_integrations.errors import (
    DocumentError,
    DocumentLimitError,
    DocumentNotFoundError,
    SettingError,
    UnsupportedDocumentError,
    printable,
)
from visrag_integrations.images import sniff_format
from visrag_integrations.readers import remote

FileKind = Literal["pdf", "image", "office", "text"]
PathLike = Union[str, "os.PathLike[str]"]

SUFFIXES: dict[str, FileKind] = {
    ".pdf": "pdf",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp"), "image"),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pptx", ".ppt", ".odp", ".xlsx", ".xls", ".ods"), "office"),
    **dict.fromkeys((".txt", ".md"), "text"),
}
"""What is looked for in folders, and how each kind is read."""
_INDEX_MARKER = "visrag.json"
_HEAD = 1024  # bytes in which "%PDF-" may stand, as in Adobe's own reader: other bytes may come before it


@dataclass(frozen=True)
class Source:
    """One document, checked and known by its content.

    Attributes:
        name: The path as it was given, or the name of a document that came as bytes.
        kind: How it is read.
        doc_id: sha256 of its bytes, in hex.
        path: Where it is; None when it came as bytes.
        data: Its bytes when they came as bytes.
        suffix: Of its name, in small letters.
    """

    name: str
    kind: FileKind
    doc_id: str
    path: Path | None = None
    data: bytes = field(default=b"", repr=False)
    suffix: str = ""

    def read_bytes(self) -> bytes:
        """All of it, wherever it is."""
        if self.path is None:
            return self.data
        return self.path.read_bytes()


def identify(source: PathLike | bytes, *, max_bytes: int, name: str | None = None) -> Source:
    """The document behind a path, a URL or bytes, with its id and kind.

    Raises:
        DocumentError: Missing, empty, unreadable, too large, or of a type that cannot be read; a class for each.
    """
    if isinstance(source, bytes):
        digest = hashlib.sha256(source).hexdigest()
        name = name or f"bytes:{digest[:12]}"
        _check_size(name, len(source), max_bytes)
        kind = sniff_kind(name, source[:_HEAD], lambda: source)
        return Source(name, kind, digest, data=source, suffix=_suffix(name))
    if remote.is_url(source):
        fetched = io.BytesIO()
        remote.fetch(str(source), fetched, max_bytes)
        return identify(fetched.getvalue(), max_bytes=max_bytes, name=name or str(source))
    path = Path(source)
    name = name or os.fspath(source)
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise UnsupportedDocumentError(name, "is a folder; read its files with PageReader().read(folder).")
        if not stat.S_ISREG(info.st_mode):
            raise UnsupportedDocumentError(
                name, "is not a regular file (a pipe, socket or device); save it to a file first."
            )
        _check_size(name, info.st_size, max_bytes)
        with path.open("rb") as file:
            kind = sniff_kind(name, file.read(_HEAD), path.read_bytes)
            file.seek(0)
            return Source(name, kind, _digest(file), path=path, suffix=path.suffix.lower())
    except FileNotFoundError as err:
        raise DocumentNotFoundError(name, "there is no such file. Check the spelling and the working folder.") from err
    except (OSError, ValueError) as err:
        if isinstance(err, DocumentError):
            raise
        reason = getattr(err, "strerror", None) or str(err)  # "Permission denied", without number and path
        raise DocumentError(name, f"cannot be read: {reason}. Check its permissions.") from err


def sniff_kind(name: str, head: bytes, whole: Any) -> FileKind:
    """How to read a document: by its first bytes, then by its name; `whole()` gives all its bytes.

    Raises:
        UnsupportedDocumentError: This type of file cannot be read, or it is not what its name says.
    """
    if b"%PDF-" in head:
        return "pdf"
    if sniff_format(head) is not None:
        return "image"
    kind = SUFFIXES.get(_suffix(name))
    beginning = f"it begins with {printable(head[:16].decode('latin-1'))}"
    if kind == "pdf" and b" obj" not in whole():  # broken headers can be repaired, other files cannot
        raise UnsupportedDocumentError(name, f"is not a PDF, whatever its name says: {beginning}.")
    if kind == "image":
        raise UnsupportedDocumentError(name, f"is not a picture that can be read: {beginning}.")
    if kind is None:
        raise UnsupportedDocumentError(name, f"This type of file cannot be read. Supported: {', '.join(SUFFIXES)}.")
    return kind


def find_documents(sources: Any) -> Iterator[Path | str | bytes]:
    """Every document of a path, a URL, bytes, a folder, or an iterable of these, in order; folders are walked, sorted.

    Raises:
        DocumentNotFoundError: A folder holds no document.
    """
    if isinstance(sources, bytes):
        yield sources
    elif remote.is_url(sources):
        yield from _below_url(sources)
    elif isinstance(sources, (str, os.PathLike)):
        if os.path.isdir(sources):
            yield from _files_under(Path(sources))
        else:
            # Anything else that knows its path becomes a Path, so that every reader can take it.
            yield sources if isinstance(sources, (str, Path)) else Path(sources)
    elif isinstance(sources, Iterable):
        for source in sources:
            yield from find_documents(source)
    else:
        raise SettingError(
            f"Documents are given as paths, bytes, folders or lists of these, not {type(sources).__name__}."
        )


def is_one_document(source: Any) -> bool:
    """Whether `source` is bytes or the path or URL of anything but a folder."""
    if remote.is_url(source):
        return _files_at(source) is None
    return isinstance(source, bytes) or (isinstance(source, (str, os.PathLike)) and not os.path.isdir(source))


def _files_under(folder: Path) -> Iterator[Path]:
    """Supported files below a folder, sorted, without hidden ones and indexes; no folder is entered twice (links)."""
    entered: set[tuple[int, int]] = set()
    found = False
    for root, folders, files in os.walk(folder, followlinks=True):
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
            if not name.startswith((".", "~$")) and Path(name).suffix.lower() in SUFFIXES:
                found = True
                yield Path(root, name)
    if not found:
        raise _no_document(str(folder))


def _below_url(url: str) -> Iterator[str]:
    """Supported files below the folder that a URL names; the URL itself where it is none."""
    found = _files_at(url)
    if found is None:
        yield url
        return
    empty = True
    for name in found:
        hidden = name.rpartition("/")[2].startswith(".")
        if _suffix(name) in SUFFIXES and not hidden:
            empty = False
            yield name
    if empty:
        raise _no_document(url)


def _files_at(url: str) -> Iterator[str] | None:
    """All files below a URL; None where it names a document. Asked only where it may be a folder: HTTP downloads it."""
    is_document = _suffix(url) in SUFFIXES and not url.endswith("/")
    if is_document or url.lower().startswith(("http://", "https://")):
        return None
    return remote.files_under(url)


def _no_document(folder: str) -> DocumentNotFoundError:
    return DocumentNotFoundError(
        folder, f"the folder holds no document. Files with these endings are read: {', '.join(SUFFIXES)}."
    )


def _suffix(name: str) -> str:
    if remote.is_url(name):
        return remote.suffix_of(name)
    return Path(name).suffix.lower()


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size == 0:
        raise DocumentError(name, "the file is empty (0 bytes).")
    if size > max_bytes:
        raise DocumentLimitError(name, f"{size} bytes are more than max_bytes={max_bytes}. Raise max_bytes to read it.")


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):  # 1 MiB: a file of any size, in little memory
        digest.update(block)
    return digest.hexdigest()
