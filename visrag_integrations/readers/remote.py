"""Documents behind URLs that fsspec understands (`s3://bucket/report.pdf`, `file:///shared/reports`)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from visrag_integrations.errors import DocumentError, DocumentLimitError, DocumentNotFoundError

# At least two letters before the colon: "C:/a.pdf" is a drive of Windows.
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_BLOCK = 1 << 20  # bytes fetched at a time, so that a file too large is noticed before it fills the disk


def is_url(source: Any) -> bool:
    """Whether a source is a URL.

    >>> is_url("s3://bucket/a.pdf"), is_url("C:/a.pdf"), is_url(b"s3://")
    (True, False, False)
    """
    return isinstance(source, str) and _URL.match(source) is not None


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


def fetch(url: str, file: BinaryIO, max_bytes: int) -> None:
    """Write the document behind a URL into a file, as far as it is no larger than `max_bytes`.

    Raises:
        DocumentError: It cannot be reached, is missing, or is too large; a class for each.
    """
    with _reaching(url):
        files, path = _open(url)
        left = max_bytes
        with files.open(path, "rb") as remote:
            while block := remote.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    raise DocumentLimitError(url, f"has more than max_bytes={max_bytes}. Raise max_bytes to read it.")
                file.write(block)


def size_of(url: str) -> int:
    """Bytes of a document; 0 where the file system does not say."""
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
        raise DocumentError(
            url, "is a URL, for which fsspec is needed and its package for this kind of URL: pip install fsspec s3fs"
        ) from err
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as err:
        raise DocumentError(url, f"cannot be opened: {err}") from err
    return files, str(path)


@contextlib.contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Whatever a file system raises becomes a DocumentError."""
    try:
        yield
    except DocumentError:
        raise
    except FileNotFoundError as err:
        raise DocumentNotFoundError(url, "there is no such file. Check the URL.") from err
    except Exception as err:  # every file system has errors of its own
        raise DocumentError(url, f"cannot be read: {str(err).strip() or type(err).__name__}") from err


def _absolute(url: str, scheme: str) -> str:
    """The URL under the scheme it was asked for, where a file system has several ("s3", "s3a")."""
    return f"{scheme}://{url.partition('://')[2]}"
