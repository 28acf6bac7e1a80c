"""Text files of any size and the usual encodings, read in pieces; what is beyond the limit is left out and told."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from visrag_integrations.errors import UnsupportedDocumentError
from visrag_integrations.readers.sources import Source

MAX_BYTES = 4 << 20
"""Bytes of a text file that are read: some 1,200 pages. Log files have more, and would fill an index with one file. Of
8 MiB LibreOffice makes no PDF within its two minutes on a busy machine."""
MAX_LINES = 50_000
"""Lines of it: of short ones a page is full after some fifty, however few bytes they have."""
_BLOCK = 1 << 20
_HEAD = 4096
# Byte order marks; that of UTF-32 begins like that of UTF-16, so it is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Of every second byte of a text in UTF-16 without a mark: so many are zero where most letters are Latin.
_ZERO_SHARE = 0.6


def copy_as_utf8(source: Source, target: Path) -> list[str]:
    """Write a text file in UTF-8, as far as it is read; gives what must be said about it.

    Raises:
        UnsupportedDocumentError: It is not text.
    """
    lines_left = MAX_LINES
    with open_text(source, MAX_BYTES) as text, target.open("w", encoding="utf-8", newline="\n") as copy:
        while lines_left > 0 and (block := text.read(_BLOCK)):
            lines = block.count("\n")
            if lines > lines_left:
                block = "\n".join(block.split("\n")[:lines_left]) + "\n"
            lines_left -= lines
            copy.write(block)
    size = size_of(source)
    if lines_left < 0:
        return [f"only its first {MAX_LINES} lines are read; the rest was left out. Split the file to read it."]
    if size > MAX_BYTES:
        return [
            f"only its first {MAX_BYTES >> 20} MiB are read, of {size >> 20} MiB; the rest was left out. Split the "
            "file to read it."
        ]
    return []


@contextmanager
def open_text(source: Source, limit: int) -> Iterator[TextIO]:
    """The text of a file, decoded, at most `limit` bytes of it.

    Raises:
        UnsupportedDocumentError: It is not text.
    """
    with _opened(source) as file:
        encoding = encoding_of(file, source.name, limit)
        file.seek(0)
        # Line ends become one kind, as everybody expects of a text.
        yield io.TextIOWrapper(io.BufferedReader(cast("Any", _Beginning(file, limit))), encoding, errors="replace")


def encoding_of(file: BinaryIO, name: str, limit: int) -> str:
    """The encoding of a text: by its mark, else UTF-8 where it is valid, else Windows' western code page.

    Raises:
        UnsupportedDocumentError: It is not text.
    """
    head = file.read(_HEAD)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\x00" in head:
        for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if zeros.count(0) >= _ZERO_SHARE * len(zeros):
                return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8 = True
    block = head
    left = limit
    while block and left > 0:
        if b"\x00" in block:
            raise UnsupportedDocumentError(
                name,
                "is not text, whatever its name says: it holds zero bytes. Give it the ending that it should have.",
            )
        if is_utf8:
            try:
                decoder.decode(block[:left])
            except UnicodeDecodeError:
                is_utf8 = False
        left -= len(block)
        block = file.read(_BLOCK)
    return "utf-8" if is_utf8 else "cp1252"


def size_of(source: Source) -> int:
    """Bytes of a file."""
    if source.path is None:
        return len(source.data)
    return source.path.stat().st_size


def _opened(source: Source) -> BinaryIO:
    if source.path is None:
        return io.BytesIO(source.data)
    return source.path.open("rb")


class _Beginning(io.RawIOBase):
    """The first bytes of a file."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._left = file, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        block = self._file.read(min(len(buffer), self._left))
        self._left -= len(block)
        buffer[: len(block)] = block
        return len(block)
