"""Office packages (zip files of XML) on their way to LibreOffice: copied entry by entry, within limits, and cleaned.

LibreOffice only ever sees the copy, so that what is checked here and what it opens cannot differ: sizes are real ones,
names are unique and stay inside, and what a document would load by itself is gone (see `office_links`).
"""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import xml.sax
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from visrag_integrations.errors import DocumentError, DocumentLimitError, printable
from visrag_integrations.readers.office_book import Book, look_through
from visrag_integrations.readers.office_links import PartWatch, clean_xml, ids_used_by_others
from visrag_integrations.readers.office_notice import Notice
from visrag_integrations.readers.office_sheets import SheetEdits

# Bytes of all entries when they are unpacked. A report of a thousand photos has some hundred million; LibreOffice needs
# several times as much memory for XML as it has bytes.
MAX_UNPACKED = 1 << 30
# Entries. A deck of a thousand slides has some ten thousand; each costs LibreOffice an entry of its own.
_MAX_ENTRIES = 30_000
# Packages inside of packages (the sheet behind a chart): deeper ones are left out.
_MAX_DEPTH = 2
_BLOCK = 1 << 20
_ZIP = b"PK\x03\x04"
# What is XML by its name must be well-formed: LibreOffice might make more of it than we do.
_XML_ENDINGS = (".xml", ".rels", ".vml", ".rdf", ".svg", ".xba", ".xlb")
# Macros, their dialogs and toolbars: nothing of them is printed.
_MACROS = ("basic/", "scripts/", "dialogs/", "configurations2/")
# Formats that load things and that nobody can clean: RTF, PostScript (plain, and with a preview), HTML as mail.
_REFUSED_HEADS = (b"{\\rtf", b"%!PS", b"\xc5\xd0\xd3\xc6", b"MIME-Version", b"From:")


@dataclass
class Cleaning:
    """What one document may still unpack, and what was taken out of it.

    Attributes:
        name: Of the document, for errors.
        left: Bytes that it may still unpack.
        links: How many things it would have loaded by itself.
        cut_rows: Rows of its sheets beyond what is read.
        dropped: Entries that were left out, by name.
        notice: What was noticed on the way.
        book: What is known of its sheets.
    """

    name: str
    left: int = MAX_UNPACKED
    links: int = 0
    cut_rows: int = 0
    dropped: list[str] = field(default_factory=list)
    notice: Notice = field(default_factory=Notice)
    book: Book = field(default_factory=Book)

    def spend(self, size: int) -> None:
        """Count unpacked bytes.

        Raises:
            DocumentLimitError: There are too many.
        """
        self.left -= size
        if self.left < 0:
            raise DocumentLimitError(
                self.name, f"unpacks to more than {MAX_UNPACKED >> 20} MiB. Save it anew, or in several files."
            )


def is_package(head: bytes) -> bool:
    """Whether a file is a zip file, by its first bytes.

    >>> is_package(b"PK\\x03\\x04..."), is_package(b"{\\\\rtf1")
    (True, False)
    """
    return head.startswith(_ZIP)


def clean_package(source: BinaryIO, target: Path, cleaning: Cleaning, edit: EntryEdit | None = None) -> None:
    """Copy a package without what it would load by itself.

    Args:
        source: The package.
        target: Where the copy goes.
        cleaning: Counts.
        edit: Changes entries after they were cleaned.

    Raises:
        DocumentError: It is damaged.
        DocumentLimitError: It is a bomb.
    """
    try:
        with target.open("wb") as copy:
            _copy(source, copy, cleaning, 0, edit)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as err:
        raise DocumentError(cleaning.name, f"is damaged: {printable(str(err))}. Open it and save it anew.") from err


def _copy(source: BinaryIO, copy: BinaryIO, cleaning: Cleaning, depth: int, edit: EntryEdit | None = None) -> None:
    # Packed quickly: the copy is thrown away.
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(copy, "w", compresslevel=1) as made:
        infos = _entries(given, cleaning)
        names = _with_folders(infos)
        if depth == 0:
            cleaning.book = look_through(given, infos)
        for info in infos.values():
            with given.open(info) as entry, tempfile.SpooledTemporaryFile(_BLOCK * 8) as cleaned:
                if not _clean_entry(_EntryPlace(given, infos, names, info), entry, cleaned, cleaning, depth):
                    cleaning.dropped.append(info.filename)
                    continue
                cleaned.seek(0)
                out: IO[bytes] = cleaned
                if edit is not None:
                    out = edit(info.filename, cleaned)
                _write(made, info, out)


EntryEdit = Callable[[str, IO[bytes]], IO[bytes]]
"""Takes an entry's name and content, gives the content that is written."""


def _entries(given: zipfile.ZipFile, cleaning: Cleaning) -> dict[str, zipfile.ZipInfo]:
    """The entries that are copied, by name: each name once, none that leads outside."""
    infos = given.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise DocumentLimitError(cleaning.name, f"has {len(infos)} parts; {_MAX_ENTRIES} are allowed.")
    # What is declared is checked first: it costs nothing. What is really unpacked is counted again.
    if sum(info.file_size for info in infos) > cleaning.left:
        cleaning.spend(cleaning.left + 1)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.is_dir() or info.filename.lower().startswith(_MACROS):
            continue
        if _is_hostile(info.filename):
            cleaning.dropped.append(info.filename)
        else:
            found[info.filename] = info
    return found


def _is_hostile(name: str) -> bool:
    """Whether a name in a package is none that an office program writes.

    >>> [_is_hostile(name) for name in ("word/document.xml", "../a", "/etc/passwd", "a//b", "a\\\\b", "C:a")]
    [False, True, True, True, True, True]
    """
    parts = name.split("/")
    return any(part in {"", ".", ".."} for part in parts) or any(sign in name for sign in "\\:\x00")


def _with_folders(infos: dict[str, zipfile.ZipInfo]) -> frozenset[str]:
    """Names of entries and of the folders they are in: an object of OpenDocument is a folder."""
    names = set(infos)
    for name in infos:
        folder = name.rpartition("/")[0]
        if folder:
            names.add(folder)
    return frozenset(names)


@dataclass
class _EntryPlace:
    """An entry, and the package around it."""

    package: zipfile.ZipFile
    infos: dict[str, zipfile.ZipInfo]
    names: frozenset[str]
    info: zipfile.ZipInfo

    def refused_hyperlinks(self) -> set[str] | None:
        """Ids of hyperlinks that something else than a hyperlink uses; None: all, because nobody owns them."""
        name = self.info.filename.lower()
        if not name.endswith(".rels"):
            return set()
        # "word/_rels/document.xml.rels" belongs to "word/document.xml".
        owner = name.replace("_rels/", "", 1).removesuffix(".rels")
        if owner == "":
            return None
        for other in self.infos:
            if other.lower() == owner:
                try:
                    with self.package.open(other) as part:
                        return ids_used_by_others(part)  # type: ignore[arg-type]
                except xml.sax.SAXException:
                    return None
        return None


def _clean_entry(place: _EntryPlace, entry: IO[bytes], cleaned: IO[bytes], cleaning: Cleaning, depth: int) -> bool:
    """Write what is kept of an entry; whether it is kept at all."""
    with tempfile.SpooledTemporaryFile(_BLOCK * 8) as whole:
        while block := entry.read(_BLOCK):
            cleaning.spend(len(block))
            whole.write(block)
        whole.seek(0)
        head = whole.read(64)
        whole.seek(0)
        source: IO[bytes] = whole
        if head.startswith(b"\x1f\x8b") and _unpacked_head(head).lstrip().startswith(b"<"):
            source = _bounded_gunzip(whole, cleaning)  # a compressed SVG
            head = b"<"
        if head.startswith(_REFUSED_HEADS):
            return False
        if head.startswith(_ZIP):
            return _copy_inner(source, cleaned, cleaning, depth)
        if not _looks_like_xml(head, place.info.filename):
            _copy_all(source, cleaned)
            return True
        return _clean_xml_entry(place, source, cleaned, cleaning)


def _clean_xml_entry(place: _EntryPlace, source: IO[bytes], cleaned: IO[bytes], cleaning: Cleaning) -> bool:
    if place.info.filename.lower().endswith(".vml"):
        # Excel writes this one tag of HTML into its comments, which is no XML.
        source = io.BytesIO(source.read().replace(b"<br>", b"<br/>"))
    try:
        sheets = SheetEdits(cleaning.book, place.info.filename)
        if sheets.cut_bytes is not None:
            source = WithoutRows(source, *sheets.cut_bytes)  # type: ignore[assignment]
        watch = PartWatch(sheets, cleaning.notice)
        cleaning.links += clean_xml(source, cleaned, place.names, place.refused_hyperlinks(), watch)  # type: ignore[arg-type]
    except (xml.sax.SAXException, ValueError, LookupError):
        return False
    cleaning.cut_rows += sheets.cut_rows
    return True


class WithoutRows:
    """A sheet without the bytes of the rows that are not read."""

    def __init__(self, file: IO[bytes], begins: int, ends: int) -> None:
        self._file, self._begins, self._ends = file, begins, ends

    def read(self, size: int) -> bytes:
        place = self._file.tell()
        if place < self._begins:
            return self._file.read(min(size, self._begins - place))
        if place < self._ends:
            self._file.seek(self._ends)
        return self._file.read(size)


def _copy_inner(source: IO[bytes], cleaned: IO[bytes], cleaning: Cleaning, depth: int) -> bool:
    if depth >= _MAX_DEPTH:
        return False
    try:
        _copy(source, cleaned, cleaning, depth + 1)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return False
    return True


def _looks_like_xml(head: bytes, name: str) -> bool:
    plain = head.removeprefix(b"\xef\xbb\xbf").replace(b"\x00", b"")
    if plain.startswith((b"\xff\xfe<", b"\xfe\xff<")):
        return True
    return plain.lstrip().startswith(b"<") or (name.lower().endswith(_XML_ENDINGS) and bool(head))


def _unpacked_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 64)
    except zlib.error:
        return b""


def _bounded_gunzip(packed: IO[bytes], cleaning: Cleaning) -> IO[bytes]:
    unpacked: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the last use of it
    with gzip.GzipFile(fileobj=packed) as stream:
        while block := stream.read(_BLOCK):
            cleaning.spend(len(block))
            unpacked.write(block)
    unpacked.seek(0)
    return unpacked


def _copy_all(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(_BLOCK):
        target.write(block)


def _write(made: zipfile.ZipFile, info: zipfile.ZipInfo, content: IO[bytes]) -> None:
    """One entry of the copy: OpenDocument wants its "mimetype" first and unpacked, all else is packed quickly."""
    entry = zipfile.ZipInfo(info.filename, (2000, 1, 1, 0, 0, 0))
    if info.filename != "mimetype":
        entry.compress_type = zipfile.ZIP_DEFLATED
    with made.open(entry, "w") as target:
        _copy_all(content, target)
