"""Office and text files: LibreOffice makes a PDF of them, and the PDF is read.

Plain text is set on pages by PyMuPDF where there is no LibreOffice; office files then are an error that says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DocumentError, UnsupportedDocumentError
from visrag_integrations.files import ScratchFolder
from visrag_integrations.readers.content import DocumentContent, PageContent, RenderSettings
from visrag_integrations.readers.office_input import is_exported_text, prepare
from visrag_integrations.readers.office_notes import speaker_notes
from visrag_integrations.readers.office_program import LibreOffice
from visrag_integrations.readers.pdf import Backend, PdfDocument
from visrag_integrations.readers.sources import Source

_DECKS = frozenset([".pptx", ".pptm", ".ppsx", ".ppsm", ".potx", ".potm", ".ppt", ".odp", ".otp"])
_OTHER_SHEETS = frozenset([".xls", ".ods", ".ots", ".csv"])


def open_office(source: Source, settings: RenderSettings, backend: Backend, timeout: float) -> DocumentContent:
    """An office or text file as the document that LibreOffice prints.

    Raises:
        DocumentError: LibreOffice is not installed, or fails on the file, or takes longer than `timeout` seconds.
    """
    text = None
    if source.kind == "text":
        text = _as_utf8(source)
    program = shutil.which("soffice") or shutil.which("libreoffice")  # distributions name it differently
    if program is not None:
        return OfficeDocument(source, settings, backend, [program, timeout, text, settings.password])
    if text is None:
        raise DocumentError(
            source.name,
            f"{source.suffix} files are read through LibreOffice, which is not on the PATH. Install it (for example "
            "apt-get install libreoffice), or convert the file to PDF.",
        )
    from visrag_integrations.readers.pymupdf_engine import PyMuPDFDocument

    return PyMuPDFDocument(replace(source, path=None, data=text), settings, filetype="txt")


class OfficeDocument:
    """The PDF that LibreOffice makes of a file, in a folder that goes when it is closed; see `DocumentContent`."""

    def __init__(self, source: Source, settings: RenderSettings, backend: Backend, conversion: list[Any]) -> None:
        self._folder = ScratchFolder("office")
        try:
            printed, self._warnings, self._notes = convert(source, self._folder.path, *conversion)
            unlocked = replace(settings, password=None)  # what was printed has no password any more
            self._pdf = PdfDocument(replace(source, path=printed, data=b"", kind="pdf"), unlocked, backend)
        except BaseException:
            self._folder.close()
            raise

    @property
    def total_pages(self) -> int:
        return self._pdf.total_pages

    @property
    def metadata(self) -> Mapping[str, Any]:
        return {**self._pdf.metadata, "warnings": self._warnings}

    def page(self, number: int) -> PageContent:
        content = self._pdf.page(number)
        return replace(content, notes=self._notes.get(number, ""))

    def close(self) -> None:
        self._pdf.close()
        self._folder.close()


def convert(
    source: Source, folder: Path, program: str, timeout: float, text: bytes | None = None, password: str | None = None
) -> tuple[Path, tuple[str, ...], dict[int, str]]:
    """The PDF that LibreOffice makes of a document, in `folder`, what must be said about it, and notes by slide."""
    # The document's own name never reaches a command line.
    given = folder / f"document{source.suffix}"
    options: list[str] = []
    warnings: list[str] = []
    target = "pdf"
    if text is not None:
        given = folder / "document.txt"
        given.write_bytes(text)
        options.append("--infilter=Text (encoded):UTF8,LF,,,")
    else:
        warnings += prepare(source, given, password)
        if is_exported_text(source, given):
            # By itself LibreOffice takes a web page for one that is shown, not printed, and prints white pages.
            options.append("--infilter=HTML (StarWriter)")
            target = "pdf:writer_web_pdf_Export"
    office = LibreOffice(program, folder, source.name, timeout)
    notes: dict[int, str] = {}
    if source.suffix in _DECKS:
        notes = speaker_notes(given)
        # Hidden slides are printed: so page numbers are those of the slides, and nothing is left out.
        target = 'pdf:impress_pdf_Export:{"ExportHiddenSlides":{"type":"boolean","value":"true"}}'
    elif source.suffix in _OTHER_SHEETS:
        # As a workbook of Excel first, in which the pages can be set; a name of its own, for the first is still needed.
        made = office.convert(given, "xlsx")
        workbook = folder / "sheets.xlsx"
        warnings += prepare(replace(source, path=made, suffix=".xlsx"), workbook)
        given = workbook
    printed = office.convert(given, target, *options)
    return printed, (*warnings, *office.warnings), notes


def _as_utf8(source: Source) -> bytes:
    """A text file's bytes in UTF-8, whatever it was in."""
    data = source.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # the byte order marks of UTF-16
        return data.decode("utf-16", errors="replace").encode()
    if b"\x00" in data:
        raise UnsupportedDocumentError(source.name, "is not text, whatever its name says: it holds zero bytes.")
    try:
        return data.decode("utf-8-sig").encode()
    except UnicodeDecodeError:  # Windows' western code page has a letter for nearly every byte
        return data.decode("cp1252", errors="replace").encode()
