"""What a caller may hand to a reader, told apart by content: files, bytes, folders, and lists of them."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Union

from visrag_integrations.errors import (
    DocumentError,
    DocumentLimitError,
    DocumentNotFoundError,
    UnsupportedDocumentError,
    printable,
)
from visrag_integrations.images import sniff_format
from visrag_integrations.readers import remote

FileKind = Literal["pdf", "image", "office", "text", "web"]
PathLike = Union[str, "os.PathLike[str]"]

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
_NEWER_PICTURES = (".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif")
_TEXTS = (".docx", ".doc", ".docm", ".dotx", ".dotm", ".odt", ".ott", ".fodt", ".rtf")
_DECKS = (".pptx", ".ppt", ".pptm", ".ppsx", ".ppsm", ".potx", ".potm", ".odp", ".otp", ".fodp")
_SHEETS = (".xlsx", ".xls", ".xlsm", ".xltx", ".xltm", ".ods", ".ots", ".fods", ".csv", ".tsv")
SUFFIXES: dict[str, FileKind] = {
    ".pdf": "pdf",
    **dict.fromkeys((*_PICTURES, *_NEWER_PICTURES), "image"),
    **dict.fromkeys((*_TEXTS, *_DECKS, *_SHEETS), "office"),
    **dict.fromkeys((".txt", ".md"), "text"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "web"),
}
"""What is looked for in folders, and how each kind is read."""
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
"""How a web page begins, whatever it is called."""
_WEB_TYPES = ("text/html", "application/xhtml+xml")
_BLOCK = 1 << 20
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
        url: Where a web page came from in the end: its links lead from there. "" for a file.
        content_type: What the server called it, with its character set.
        embedded: It lies inside of another document, whose name its own begins with.
    """

    name: str
    kind: FileKind
    doc_id: str
    path: Path | None = None
    data: bytes = field(default=b"", repr=False)
    suffix: str = ""
    url: str = ""
    content_type: str = ""
    embedded: bool = False

    def read_bytes(self) -> bytes:
        """All of it, wherever it is."""
        if self.path is None:
            return self.data
        return self.path.read_bytes()


def identify(
    source: PathLike | bytes,
    *,
    max_bytes: int,
    name: str | None = None,
    origin: remote.Origin | None = None,
    seconds: float = remote.FETCH_SECONDS,
) -> Source:
    """The document behind a path, a URL or bytes, with its id and kind.

    Args:
        source: Which.
        max_bytes: More are refused.
        name: What it is called, instead of its path or URL.
        origin: Where a file was downloaded from; a server says what it sends.
        seconds: How long a document behind a URL may take to come.

    Raises:
        DocumentError: Missing, empty, unreadable, too large, or of a type that cannot be read; a class for each.
    """
    origin = origin or remote.Origin()
    if isinstance(source, bytes):
        digest = hashlib.sha256(source).hexdigest()
        name = name or f"bytes:{digest[:12]}"
        _check_size(name, len(source), max_bytes)
        kind = sniff_kind(name, source[:_HEAD], io.BytesIO(source), origin.content_type)
        return Source(
            name, kind, digest, data=source, suffix=suffix_of(name), url=origin.url, content_type=origin.content_type
        )
    if remote.is_url(source):
        fetched = io.BytesIO()
        origin = remote.fetch(str(source), fetched, max_bytes, seconds)
        return identify(fetched.getvalue(), max_bytes=max_bytes, name=name or remote.named(str(source)), origin=origin)
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
            kind = sniff_kind(name, file.read(_HEAD), file, origin.content_type)
            file.seek(0)
            return Source(
                name,
                kind,
                _digest(file),
                path=path,
                suffix=path.suffix.lower(),
                url=origin.url,
                content_type=origin.content_type,
            )
    except FileNotFoundError as err:
        raise DocumentNotFoundError(name, "there is no such file. Check the spelling and the working folder.") from err
    except (OSError, ValueError) as err:
        if isinstance(err, DocumentError):
            raise
        reason = getattr(err, "strerror", None) or str(err)  # "Permission denied", without number and path
        raise DocumentError(name, f"cannot be read: {reason}. Check its permissions.") from err


_RENAME = "Give it the ending that it should have, or copy or download it again."


def sniff_kind(name: str, head: bytes, whole: BinaryIO, content_type: str = "") -> FileKind:
    """How to read a document: by its first bytes, then by its name, then by what its server calls it.

    Args:
        name: Its path or URL.
        head: Its first bytes.
        whole: All of it, to be read from its start.
        content_type: Of a server; "" for a file.

    Raises:
        UnsupportedDocumentError: This type of file cannot be read, or it is not what its name says.
    """
    if b"%PDF-" in head:
        return "pdf"
    if sniff_format(head) is not None:
        return "image"
    kind = SUFFIXES.get(suffix_of(name))
    if kind is None and (_HTML.match(head) is not None or content_type.lower().startswith(_WEB_TYPES)):
        return "web"
    beginning = f"it begins with {printable(head[:16].decode('latin-1'))}"
    if kind == "pdf" and not _holds(whole, b" obj"):  # broken headers can be repaired, other files cannot
        raise UnsupportedDocumentError(name, f"is not a PDF, whatever its name says: {beginning}. {_RENAME}")
    if kind == "image":
        raise UnsupportedDocumentError(name, f"is not a picture that can be read: {beginning}. {_RENAME}")
    if kind is None:
        raise UnsupportedDocumentError(name, f"This type of file cannot be read. Supported: {', '.join(SUFFIXES)}.")
    return kind


def _holds(file: BinaryIO, wanted: bytes) -> bool:
    """Whether a file holds these bytes; looked for in pieces, because files may be larger than the memory."""
    file.seek(0)
    before = b""
    while block := file.read(_BLOCK):
        if wanted in before + block:
            return True
        before = block[1 - len(wanted) :]  # the bytes may lie across two pieces
    return False


def suffix_of(name: str) -> str:
    if remote.is_url(name):
        return remote.suffix_of(name)
    return Path(name).suffix.lower()


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size == 0:
        raise DocumentError(
            name, "the file is empty (0 bytes). Copy or download it again; if it is empty on purpose, delete it."
        )
    if size > max_bytes:
        raise DocumentLimitError(name, f"{size} bytes are more than max_bytes={max_bytes}. Raise max_bytes to read it.")


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):  # 1 MiB: a file of any size, in little memory
        digest.update(block)
    return digest.hexdigest()
