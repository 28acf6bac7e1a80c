"""Office and text files: LibreOffice makes a PDF of them, and the PDF is read.

Plain text is set on pages by PyMuPDF where there is no LibreOffice; office files then are an error that says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DocumentError
from visrag_integrations.files import ScratchFolder
from visrag_integrations.readers import fonts
from visrag_integrations.readers.content import DocumentContent, PageContent, RenderSettings
from visrag_integrations.readers.office_components import advice, is_missing
from visrag_integrations.readers.office_input import is_exported_text, prepare
from visrag_integrations.readers.office_notes import speaker_notes
from visrag_integrations.readers.office_notice import Notice
from visrag_integrations.readers.office_program import LibreOffice
from visrag_integrations.readers.pdf import Backend, PdfDocument
from visrag_integrations.readers.plain_tables import TABLES, write_workbook
from visrag_integrations.readers.plain_text import copy_as_utf8
from visrag_integrations.readers.sources import Source

_DECKS = frozenset([".pptx", ".pptm", ".ppsx", ".ppsm", ".potx", ".potm", ".ppt", ".odp", ".otp"])
_OTHER_SHEETS = frozenset([".xls", ".ods", ".ots", ".fods"])
# Characters of a page that are looked at for letters without a font; a page of print has some thousand.
_MOST_CHARACTERS = 100_000


def open_office(source: Source, settings: RenderSettings, backend: Backend, timeout: float) -> DocumentContent:
    """An office or text file as the document that LibreOffice prints.

    Raises:
        DocumentError: LibreOffice is not installed, or fails on the file, or takes longer than `timeout` seconds.
    """
    program = shutil.which("soffice") or shutil.which("libreoffice")  # distributions name it differently
    if program is not None:
        return OfficeDocument(source, settings, backend, Conversion(program, timeout, settings.password))
    if source.kind != "text":
        raise DocumentError(
            source.name,
            f"{source.suffix} files are read through LibreOffice, which is not on the PATH. Install it (for example "
            "apt-get install libreoffice), or convert the file to PDF.",
        )
    return _set_by_pymupdf(source, settings)


def _set_by_pymupdf(source: Source, settings: RenderSettings) -> DocumentContent:
    from visrag_integrations.readers.pymupdf_engine import PyMuPDFDocument

    with ScratchFolder("text") as folder:
        plain = folder / "document.txt"
        warnings = copy_as_utf8(source, plain)
        document = PyMuPDFDocument(replace(source, path=None, data=plain.read_bytes()), settings, filetype="txt")
    about: dict[str, Any] = {**document.metadata, "warnings": tuple(warnings)}
    document.metadata = about
    return document


@dataclass(frozen=True)
class Conversion:
    """How a file is converted.

    Attributes:
        program: LibreOffice.
        timeout: Seconds for all of it.
        password: Of the file.
    """

    program: str
    timeout: float
    password: str | None = None


@dataclass
class Printed:
    """What LibreOffice made of a file.

    Attributes:
        path: A PDF.
        warnings: What must be said about it.
        notes: Of speakers, by slide.
        notice: What the file uses.
    """

    path: Path
    warnings: tuple[str, ...] = ()
    notes: dict[int, str] = field(default_factory=dict)
    notice: Notice = field(default_factory=Notice)


class OfficeDocument:
    """The PDF that LibreOffice makes of a file, in a folder that goes when it is closed; see `DocumentContent`."""

    def __init__(self, source: Source, settings: RenderSettings, backend: Backend, conversion: Conversion) -> None:
        self._folder = ScratchFolder("office")
        try:
            printed = convert(source, self._folder.path, conversion)
            unlocked = replace(settings, password=None)  # what was printed has no password any more
            self._pdf = PdfDocument(replace(source, path=printed.path, data=b"", kind="pdf"), unlocked, backend)
            missing = fonts.missing_families(printed.notice.fonts, _drawn_fonts(printed.path))
        except BaseException:
            self._folder.close()
            raise
        self._notes = printed.notes
        self._warnings = printed.warnings
        if missing:
            self._warnings = (*printed.warnings, fonts.families_warning(missing))

    @property
    def total_pages(self) -> int:
        return self._pdf.total_pages

    @property
    def metadata(self) -> Mapping[str, Any]:
        return {**self._pdf.metadata, "warnings": self._warnings}

    def page(self, number: int) -> PageContent:
        content = self._pdf.page(number)
        warnings = content.warnings
        boxes = fonts.undrawable(content.text[:_MOST_CHARACTERS])
        if boxes:
            warnings = (*warnings, fonts.undrawable_warning(boxes, "are drawn as empty boxes"))
        return replace(content, notes=self._notes.get(number, ""), warnings=warnings)

    def close(self) -> None:
        self._pdf.close()
        self._folder.close()


def convert(source: Source, folder: Path, conversion: Conversion) -> Printed:
    """The PDF that LibreOffice makes of a document, in `folder`."""
    # The document's own name never reaches a command line.
    given = folder / f"document{source.suffix}"
    office = LibreOffice(conversion.program, folder, source.name, conversion.timeout)
    office.needs(source.suffix)
    if source.kind == "text":
        given = folder / "document.txt"
        warnings = copy_as_utf8(source, given)
        printed = office.convert(given, "pdf", "--infilter=Text (encoded):UTF8,LF,,,")
        return Printed(printed, (*warnings, *office.warnings))
    notice = Notice()
    if source.suffix in TABLES:
        warnings = write_workbook(source, given := folder / "table.xlsx")
        source = replace(source, path=given, data=b"", suffix=".xlsx")
        given = folder / "sheets.xlsx"
        warnings += prepare(source, given)
    else:
        warnings = prepare(source, given, conversion.password, notice)
    notes: dict[int, str] = {}
    target = "pdf"
    options: list[str] = []
    if source.suffix in _DECKS:
        notes = speaker_notes(given)
        # Hidden slides are printed: so page numbers are those of the slides, and nothing is left out.
        target = 'pdf:impress_pdf_Export:{"ExportHiddenSlides":{"type":"boolean","value":"true"}}'
    elif source.suffix in _OTHER_SHEETS:
        # As a workbook of Excel first, in which the pages can be set; a name of its own, for the first is still needed.
        made = office.convert(given, "xlsx")
        given = folder / "sheets.xlsx"
        warnings += prepare(replace(source, path=made, suffix=".xlsx"), given, notice=notice)
    elif is_exported_text(source, given):
        # By itself LibreOffice takes a web page for one that is shown, not printed, and prints white pages.
        options.append("--infilter=HTML (StarWriter)")
        target = "pdf:writer_web_pdf_Export"
    printed = office.convert(given, target, *options)
    if notice.formulas and is_missing("math", conversion.program):
        warnings.append(f"{notice.formulas} formulas are not shown: {advice('math')}.")
    return Printed(printed, (*warnings, *office.warnings), notes, notice)


def _drawn_fonts(printed: Path) -> set[str]:
    """The fonts in a PDF; that of no font at all where PyMuPDF, which tells them, is not installed."""
    try:
        import pymupdf
    except ImportError:
        return {"unknown"}
    from visrag_integrations.readers.pymupdf_engine import LOCK

    with LOCK, pymupdf.open(printed) as document:
        pages = range(min(document.page_count, _MOST_PAGES))
        return {font[3] for number in pages for font in document.get_page_fonts(number)}


# Pages whose fonts are looked at: what stands in for a font does so from the first pages on.
_MOST_PAGES = 50
