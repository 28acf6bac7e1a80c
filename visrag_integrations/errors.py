"""Every error this library raises on purpose: one tree, each also the builtin a caller would catch.

    VisRAGError
    ├── MissingExtraError         (ImportError)        an optional dependency is not installed
    ├── UnknownNameError          (ValueError)         a name that is in no table; lists the names there are
    ├── SettingError              (ValueError)         an argument outside what is allowed
    ├── DocumentError             (ValueError)         one document cannot be read; names it and says why
    │   ├── DocumentNotFoundError (FileNotFoundError)  no such file, or a folder without documents
    │   ├── UnsupportedDocumentError                   not a kind of file this library reads
    │   ├── PasswordError                              encrypted: no password, or the wrong one
    │   ├── DocumentLimitError                         beyond a limit on bytes, pixels or pages
    │   └── DocumentTimeoutError  (TimeoutError)       the time limit passed, or the engine crashed
    ├── PageError                 (ValueError)         one page of a readable document failed
    ├── DatasetError              (ValueError)         questions, pages or judgements to evaluate with cannot be read
    ├── FetchError                (ConnectionError)    a URL that cannot be fetched within the limits, or must not be
    ├── PictureError              (ValueError)         a picture that cannot be opened or decoded
    ├── CheckpointError           (ValueError)         weights, config or tokenizer files are not what they should be
    ├── EmbedderError             (ValueError)         vectors that do not fit what was asked of them
    │   └── EndpointError         (ConnectionError)    a server that embeds cannot be reached, or refuses
    │       └── RerankerEndpointError                  the same of a server that reranks
    ├── RerankerError             (ValueError)         scores that do not fit the pages that were to be scored
    ├── StoreError                (RuntimeError)       the vector store failed or cannot be reached
    │   ├── StoreLockedError                           another process holds the embedded folder
    │   ├── DiskFullError         (OSError)            the disk has no room for what was to be written
    │   ├── StoreMismatchError    (ValueError)         another embedder filled this collection
    │   ├── StoreSwitchedError                         another run of the same re-index was first
    │   ├── StoreFormatError      (ValueError)         written by a newer version, or not an index at all
    │   └── FilterError           (ValueError)         a filter that cannot be understood
    ├── TraceError                (ValueError)         a kept run of the agent that cannot be read
    ├── TrainingError             (RuntimeError)       training cannot go on: a loss that is no number, memory, the disk
    └── GenerationError           (RuntimeError)       a generator failed; model text itself never raises

Messages say what happened, with which value, what is allowed, and what to type next.
"""

from __future__ import annotations

import errno
from typing import Any


class VisRAGError(Exception):
    """Base of every error raised on purpose by this library."""


class MissingExtraError(VisRAGError, ImportError):
    """An optional dependency is missing; the message holds the pip command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} is not installed. Install it with: pip install "visrag-integrations[{extra}]"')
        self.what, self.extra = what, extra

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.what, self.extra)


class UnknownNameError(VisRAGError, ValueError):
    """A name that is in no table of this library."""


class SettingError(VisRAGError, ValueError):
    """An argument whose value is not allowed."""


class DocumentError(VisRAGError, ValueError):
    """One document cannot be read.

    Attributes:
        source: The path or name of the document, as the caller gave it.
        reason: Why, without the name.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{printable(source)}: {reason}")
        self.source, self.reason = source, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.source, self.reason)


class DocumentNotFoundError(DocumentError, FileNotFoundError):
    """No such file, or a folder that holds no document."""


class UnsupportedDocumentError(DocumentError):
    """This type of file cannot be read."""


class PasswordError(DocumentError):
    """The document is encrypted and no password, or a wrong one, was given."""


class DocumentLimitError(DocumentError):
    """The document is beyond a limit on bytes, pixels or pages."""


class DocumentTimeoutError(DocumentError, TimeoutError):
    """Reading took longer than the time limit, or crashed the process that read."""


class PageError(VisRAGError, ValueError):
    """One page of an otherwise readable document failed.

    Attributes:
        source: The document, as the caller gave it.
        number: The page, from 1.
        reason: Why, without the names.
    """

    def __init__(self, source: str, number: int, reason: str) -> None:
        super().__init__(f"{printable(source)}, page {number}: {reason}")
        self.source, self.number, self.reason = source, number, reason

    def __reduce__(self) -> tuple[type, tuple[str, int, str]]:
        return type(self), (self.source, self.number, self.reason)


class DatasetError(VisRAGError, ValueError):
    """A file or folder to evaluate with is not what it should be.

    Attributes:
        source: Which one, as the caller gave it.
        reason: Why, without the name.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{printable(source)}: {reason}")
        self.source, self.reason = source, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.source, self.reason)


class FetchError(VisRAGError, ConnectionError):
    """What stands behind a URL cannot be had within the limits, or must not be asked for.

    Attributes:
        url: Which one, without user and password.
        reason: Why, without the URL.
        missing: Whether the server says that there is no such thing.
        too_large: Whether it has more bytes than allowed.
        late: Whether it took longer than allowed.
    """

    def __init__(
        self, url: str, reason: str, *, missing: bool = False, too_large: bool = False, late: bool = False
    ) -> None:
        authority, slash, rest = url.partition("://")[2].partition("/")
        self.url = printable(url.partition("://")[0] + "://" + authority.rpartition("@")[2] + slash + rest)
        self.reason = reason
        self.missing, self.too_large, self.late = missing, too_large, late
        super().__init__(f"{self.url}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _fetch_error, (self.url, self.reason, self.missing, self.too_large, self.late)


def _fetch_error(url: str, reason: str, missing: bool, too_large: bool, late: bool) -> FetchError:
    return FetchError(url, reason, missing=missing, too_large=too_large, late=late)


class PictureError(VisRAGError, ValueError):
    """A picture that cannot be opened or decoded, or is larger than the limit."""


class CheckpointError(VisRAGError, ValueError):
    """A checkpoint whose weights, config or tokenizer are missing or do not fit."""


class EmbedderError(VisRAGError, ValueError):
    """Vectors that do not fit what was asked of them."""


class EndpointError(EmbedderError, ConnectionError):
    """A server that embeds cannot be reached, refuses, or fails, after all the tries that were allowed."""


class RerankerEndpointError(EndpointError):
    """A server that reranks cannot be reached, refuses, or fails; nothing was reranked."""


class RerankerError(VisRAGError, ValueError):
    """What a reranker gave are no scores, one a page."""


class StoreError(VisRAGError, RuntimeError):
    """The vector store failed or cannot be reached."""


class StoreLockedError(StoreError):
    """Another process has the embedded folder open."""


class DiskFullError(StoreError, OSError):
    """The disk that an embedded index or its pictures are on has too little room; nothing of what is there was lost."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


class StoreMismatchError(StoreError, ValueError):
    """The collection was filled by another embedder."""


class StoreSwitchedError(StoreError):
    """What this run of a re-index was making is in use already: another run of it was first."""


class StoreFormatError(StoreError, ValueError):
    """The index was written by a newer version, or is not an index of this library."""


class FilterError(StoreError, ValueError):
    """A metadata filter that cannot be understood."""


class TraceError(VisRAGError, ValueError):
    """A folder that holds no run of the agent, or one that is damaged or of a newer version."""


class TrainingError(VisRAGError, RuntimeError):
    """Training cannot go on: the loss is no number, memory does not suffice, or the disk is full."""


class GenerationError(VisRAGError, RuntimeError):
    """A generator failed. What a model writes never raises; an engine that dies does."""


def printable(text: str) -> str:
    """A file name made safe for one line of a terminal: control characters are escaped.

    >>> printable("a\\nb.pdf")
    'a\\\\nb.pdf'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """A text of several lines made safe for a terminal: what a document or a model wrote may hold commands for it.

    >>> printable_lines("one\\ntwo \\x1b[2J")
    'one\\ntwo \\\\x1b[2J'
    """
    return "\n".join(printable(line.replace("\t", " ")) for line in text.split("\n"))


def storable(text: str) -> str:
    """The text in characters that every engine can keep: half surrogates are written out.

    >>> storable("caf\\udce9")
    'caf\\\\udce9'
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text
