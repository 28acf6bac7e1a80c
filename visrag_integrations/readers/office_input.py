"""What LibreOffice is given in place of a document: a copy that loads nothing."""

from __future__ import annotations

import contextlib
import io
import shutil
import xml.sax
from pathlib import Path
from typing import BinaryIO

from visrag_integrations.errors import DocumentError, printable
from visrag_integrations.readers.office_book import MAX_ROWS
from visrag_integrations.readers.office_html import clean_page, is_web_page, plain_head
from visrag_integrations.readers.office_links import PartWatch, clean_xml
from visrag_integrations.readers.office_notice import Notice
from visrag_integrations.readers.office_open_document import unlock_open_document
from visrag_integrations.readers.office_package import Cleaning, clean_package, is_package
from visrag_integrations.readers.office_password import NEEDED, OLE, unlock
from visrag_integrations.readers.sources import Source

# Formats that are packages; also their flat forms, which are one XML file. A file of such a name that is neither is
# refused: LibreOffice would take it for what it looks like, a web page for instance.
PACKAGES = frozenset(
    [
        ".docx",
        ".docm",
        ".dotx",
        ".dotm",
        ".xlsx",
        ".xlsm",
        ".xltx",
        ".xltm",
        ".pptx",
        ".pptm",
        ".ppsx",
        ".ppsm",
        ".potx",
        ".potm",
        ".odt",
        ".ott",
        ".ods",
        ".ots",
        ".odp",
        ".otp",
        ".odg",
        ".fodt",
        ".fods",
        ".fodp",
    ]
)
# Bytes. The fonts of an RTF file are named in them.
_HEAD = 16 << 10
# Bytes of a web page that is read; the rest of a longer one is cut off. Tables that programs export have some million.
MAX_WEB_PAGE = 64 << 20


def prepare(source: Source, given: Path, password: str | None = None, notice: Notice | None = None) -> list[str]:
    """Write the copy of a document that LibreOffice may see; gives what must be said about it.

    Args:
        source: The document.
        given: Where the copy goes.
        password: Of the document.
        notice: Told what the document uses.

    Raises:
        PasswordError: It is encrypted, and the password is missing or wrong.
        DocumentError: It is damaged, or not what its name says.
        DocumentLimitError: It unpacks to too much.
    """
    cleaning = Cleaning(source.name, notice=notice or Notice())
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(_opened(source))
        head = file.read(_HEAD)
        unlocked = given.with_name("unlocked")
        is_unlocked = False
        if head.startswith(OLE):
            is_unlocked = unlock(source.name, file, unlocked, password)
        elif is_package(head):
            is_unlocked = unlock_open_document(source.name, file, unlocked, password, NEEDED)
        if is_unlocked:
            file = opened.enter_context(unlocked.open("rb"))
            opened.callback(unlocked.unlink)
            head = file.read(_HEAD)
        file.seek(0)
        if is_package(head):
            clean_package(file, given, cleaning)
        elif is_web_page(head):
            given.write_bytes(clean_page(file.read(MAX_WEB_PAGE)))
        elif plain_head(head).startswith(b"<"):
            _clean_flat(source, file, given, cleaning)
        elif source.suffix in PACKAGES:
            raise _other_format(source, head)
        else:
            cleaning.notice.rich_text(head)
            with given.open("wb") as copy:
                shutil.copyfileobj(file, copy)
    return _said(cleaning)


def is_exported_text(source: Source, given: Path) -> bool:
    """Whether what LibreOffice is given is a web page under the name of a text."""
    with given.open("rb") as file:
        return source.suffix in {".doc", ".rtf", ".dot"} and is_web_page(file.read(_HEAD))


def _opened(source: Source) -> BinaryIO:
    if source.path is None:
        return io.BytesIO(source.data)
    return source.path.open("rb")


def _clean_flat(source: Source, file: BinaryIO, given: Path, cleaning: Cleaning) -> None:
    try:
        with given.open("wb") as copy:
            cleaning.links += clean_xml(file, copy, refused=None, watch=PartWatch(notice=cleaning.notice))
    except (xml.sax.SAXException, ValueError, LookupError) as err:
        raise DocumentError(
            source.name, f"is damaged XML: {printable(str(err))}. Open it and save it anew, or convert it to PDF."
        ) from err


def _other_format(source: Source, head: bytes) -> DocumentError:
    return DocumentError(
        source.name,
        f"is no {source.suffix} file, whatever its name says: it begins with {printable(head[:16].decode('latin-1'))}. "
        "Give it the ending that it should have.",
    )


def _said(cleaning: Cleaning) -> list[str]:
    said: list[str] = []
    if cleaning.links:
        said.append(
            f"{cleaning.links} links to things outside of it were cut out (pictures, objects, templates, data): what "
            "is not inside of a document is not shown."
        )
    if cleaning.cut_rows:
        said.append(
            f"only the first {MAX_ROWS} rows of each sheet are read; {cleaning.cut_rows} rows were left out. Split the "
            "sheet to read them."
        )
    if cleaning.dropped:
        names = ", ".join(printable(name) for name in cleaning.dropped[:5])
        said.append(f"{len(cleaning.dropped)} of its parts were left out: {names}.")
    return said
