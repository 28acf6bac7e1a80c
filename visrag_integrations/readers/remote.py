"""Documents behind URLs: http and https by `fetching`, all others by fsspec (`s3://bucket/a.pdf`, `file:///shared`)."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from visrag_integrations import fetching
from visrag_integrations.errors import (
    DocumentError,
    DocumentLimitError,
    DocumentNotFoundError,
    DocumentTimeoutError,
    FetchError,
)

# At least two letters before the colon: "C:/a.pdf" is a drive of Windows.
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
FETCH_SECONDS = 300.0
"""For all of one document: half a gigabyte on a line of 15 Mbit/s. A server that drips bytes gets no more."""
_BLOCK = 1 << 20  # bytes fetched at a time, so that a file too large is noticed before it fills the disk


_INSTALL = (
    'Install it with: pip install "visrag-integrations[remote]", and the package for this kind of URL, such as s3fs or '
    "gcsfs."
)


def is_url(source: Any) -> bool:
    """Whether a source is a URL.

    >>> is_url("s3://bucket/a.pdf"), is_url("C:/a.pdf"), is_url(b"s3://")
    (True, False, False)
    """
    return isinstance(source, str) and _URL.match(source) is not None


def named(url: str) -> str:
    """The URL as it names a document: without user and password (of other schemes than http: where it has a password).

    What names a document is kept in indexes and stands in errors and reports.

    >>> named("https://ada:secret@host/a.pdf"), named("sftp://ada@host/a.pdf"), named("s3://bucket/a@b.pdf")
    ('https://host/a.pdf', 'sftp://ada@host/a.pdf', 's3://bucket/a@b.pdf')
    """
    scheme, separator, rest = url.partition("://")
    end = next((place for place, letter in enumerate(rest) if letter in "/?#"), len(rest))
    user, at, host = rest[:end].rpartition("@")
    if at and (is_web(url) or ":" in user):
        return scheme + separator + host + rest[end:]
    return url


def files_under(url: str) -> Iterator[str] | None:
    """The URLs of all files below a folder, sorted; None where the URL is no folder.

    Raises:
        DocumentError: Its protocol cannot be used, or the place cannot be reached.
    """
    with _reaching(url):
        files, path = _open(url)
        if not files.isdir(path):
            return None
        found = sorted(files.find(path))
    scheme = url.partition("://")[0]
    return (_absolute(files.unstrip_protocol(name), scheme) for name in found)


@dataclass(frozen=True)
class Origin:
    """Where a document came from in the end, and what the server called it; empty where nobody says."""

    url: str = ""
    content_type: str = ""


def fetch(url: str, file: BinaryIO, max_bytes: int, seconds: float = FETCH_SECONDS) -> Origin:
    """Write the document behind a URL into a file, as far as it is no larger than `max_bytes`.

    A URL that is given here is the operator's own, so it may lead anywhere; where an http server redirects to, only
    public addresses are asked.

    Raises:
        DocumentError: It cannot be reached, is missing, too large, or takes too long; a class for each.
    """
    if is_web(url):
        return _fetch_http(url, file, max_bytes, seconds)
    with _reaching(url):
        files, path = _open(url)
        left = max_bytes
        end = time.monotonic() + seconds
        with files.open(path, "rb") as remote:
            while block := remote.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    raise _too_large(url, max_bytes)
                if time.monotonic() > end:
                    raise _too_slow(url, seconds)
                file.write(block)
    return Origin()


def is_web(url: str) -> bool:
    """Whether it is an http or https URL."""
    return url.lower().startswith(("http://", "https://"))


def _fetch_http(url: str, file: BinaryIO, max_bytes: int, seconds: float) -> Origin:
    try:
        found = fetching.fetch(
            url, max_bytes=max_bytes, seconds=seconds, destination=fetching.Destination(private=True), file=file
        )
    except FetchError as err:
        if err.missing:
            raise DocumentNotFoundError(named(url), err.reason) from err
        if err.too_large:
            raise _too_large(url, max_bytes) from err
        if err.late:
            raise _too_slow(url, seconds) from err
        raise DocumentError(named(url), err.reason) from err
    return Origin(named(found.url), found.headers.get("content-type", ""))


def _too_large(url: str, max_bytes: int) -> DocumentLimitError:
    return DocumentLimitError(named(url), f"has more than max_bytes={max_bytes}. Raise max_bytes to read it.")


def _too_slow(url: str, seconds: float) -> DocumentTimeoutError:
    return DocumentTimeoutError(
        named(url), f"did not come within {seconds:g} seconds. Raise fetch_timeout, or download it and index the file."
    )


def size_of(url: str) -> int:
    """Bytes of a document; 0 where the server or the file system does not say."""
    if is_web(url):
        try:
            found = fetching.fetch(
                url, max_bytes=0, seconds=10, destination=fetching.Destination(private=True), method="HEAD"
            )
        except FetchError:
            return 0
        length = found.headers.get("content-length", "")
        return int(length) if length.isdigit() and len(length) < 20 else 0
    try:
        with _reaching(url):
            files, path = _open(url)
            return int(files.size(path) or 0)
    except DocumentError:
        return 0


def suffix_of(url: str) -> str:
    """The ending of its file name, in small letters.

    >>> suffix_of("https://host/a/Report.PDF?version=3")
    '.pdf'
    """
    return Path(re.split(r"[?#]", url, maxsplit=1)[0]).suffix.lower()


def _open(url: str) -> tuple[Any, str]:
    try:
        import fsspec  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as err:
        raise DocumentError(named(url), f"is a URL that is read through fsspec. {_INSTALL}") from err
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as err:
        raise DocumentError(named(url), f"needs a package of its own: {err}. {_INSTALL}") from err
    except ValueError as err:
        raise DocumentError(named(url), f"cannot be opened: {err}. Check the URL.") from err
    return files, str(path)


@contextlib.contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Whatever a file system raises becomes a DocumentError."""
    try:
        yield
    except DocumentError:
        raise
    except FileNotFoundError as err:
        raise DocumentNotFoundError(named(url), "there is no such file. Check the URL.") from err
    except Exception as err:  # every file system has errors of its own
        raise DocumentError(named(url), f"cannot be read: {str(err).strip() or type(err).__name__}") from err


def _absolute(url: str, scheme: str) -> str:
    """The URL under the scheme it was asked for, where a file system has several ("s3", "s3a")."""
    return f"{scheme}://{url.partition('://')[2]}"
