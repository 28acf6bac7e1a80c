"""Files inside of PDFs: attachments, portfolios, and forms (XFA) that only Adobe's own reader draws.

An embedded file of a kind that is read becomes a document of its own, "outer.pdf/inner.pdf"; the names of all others
are told. Names are labels: nothing is ever written or opened by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from visrag_integrations.errors import DocumentError, printable
from visrag_integrations.readers.sources import Source, identify

# Files of one PDF, and bytes of all of them: portfolios of mail have some hundred; they are held in memory.
MAX_FILES = 200
MAX_BYTES = 256 << 20
# Letters of a label.
_LONGEST_LABEL = 120
# Pages that are looked at for files pinned to a place: each costs a look at its annotations.
_MAX_PAGES = 2000


@dataclass
class Attachments:
    """What lies inside of a PDF, beside its pages.

    Attributes:
        sources: Files that are read, named "outer/inner".
        warnings: What is not read, and why.
    """

    sources: list[Source] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look_inside(document: Any, outer: Source, max_bytes: int) -> Attachments:
    """The files embedded in an open PDF of PyMuPDF, as far as they are read; what is broken is told and passed over."""
    found = Attachments()
    try:
        _look_at_form(document, found)
        _take_files(document, outer, found, min(max_bytes, MAX_BYTES))
    except (RuntimeError, ValueError, OSError, KeyError, IndexError, TypeError) as err:
        reason = str(err).strip(" .") or type(err).__name__
        found.warnings.append(f"may hold files that are not read: its list of them is broken ({reason}).")
    return found


def _look_at_form(document: Any, found: Attachments) -> None:
    catalog = document.pdf_catalog()
    kind, parts = document.xref_get_key(catalog, "AcroForm/XFA")
    if kind in {"null", ""} or parts == "[]":
        return
    _, rendering = document.xref_get_key(catalog, "NeedsRendering")
    if rendering == "true" or not document.is_form_pdf:
        found.warnings.append(
            "is a form (XFA) that only Adobe's own reader draws: its pages show what was put there for others. "
            "Print it to a PDF there, and index that."
        )
    else:
        found.warnings.append("is a form of two kinds (XFA beside AcroForm); what the second shows is read.")


def _take_files(document: Any, outer: Source, found: Attachments, room: int) -> None:
    used: set[str] = set()
    count = 0
    for name, declared, read in (*_embedded(document), *_pinned(document)):
        count += 1
        if count > MAX_FILES:
            found.warnings.append(f"holds more than {MAX_FILES} files; the others are not read.")
            return
        label = _label(name, used)
        if outer.embedded:
            found.warnings.append(f"holds {label}, which is not read: only files of the outermost document are.")
            continue
        if declared > room:
            found.warnings.append(f"holds {label}, which is not read: {declared} bytes are beyond the limit.")
            continue
        data = read()
        if len(data) > room:
            found.warnings.append(f"holds {label}, which is not read: {len(data)} bytes are beyond the limit.")
            continue
        try:
            inner = identify(data, max_bytes=room, name=f"{outer.name}/{label}")
        except DocumentError as err:
            found.warnings.append(f"holds {label}, which is not read: {err.reason.partition('.')[0]}.")
            continue
        room -= len(data)
        found.sources.append(replace(inner, embedded=True))


def _embedded(document: Any) -> Iterator[tuple[str, int, Any]]:
    """Name, declared bytes, and what reads it, of files in the list of the document; of a portfolio too."""
    for place in range(document.embfile_count()):
        info = document.embfile_info(place)
        name = info.get("ufilename") or info.get("filename") or info.get("name") or f"file {place + 1}"
        yield str(name), int(info.get("length") or 0), lambda place=place: document.embfile_get(place)


def _pinned(document: Any) -> Iterator[tuple[str, int, Any]]:
    """The same of files that are pinned to a place on a page."""
    import pymupdf

    if not document.has_annots():
        return
    for page in document.pages(0, min(_MAX_PAGES, document.page_count)):
        for annotation in page.annots(types=[pymupdf.PDF_ANNOT_FILE_ATTACHMENT]):
            info = annotation.file_info
            yield (
                str(info.get("filename") or "file"),
                int(info.get("length") or 0),
                lambda annotation=annotation: annotation.get_file(),
            )


def _label(name: str, used: set[str]) -> str:
    """A name without folders and control characters, that no other file of the document has.

    >>> used = set()
    >>> [_label(name, used) for name in ("../../etc/passwd", "a.pdf", "a.pdf", "C:\\\\x\\\\a.pdf", "")]
    ['passwd', 'a.pdf', 'a (2).pdf', 'a (3).pdf', 'file']
    """
    plain = printable(name.replace("\\", "/").rpartition("/")[2]).strip(" .") or "file"
    stem, dot, suffix = plain.rpartition(".")
    if not dot:
        stem, suffix = plain, ""
    stem, suffix = stem[:_LONGEST_LABEL], suffix[:10]
    label, number = f"{stem}{dot}{suffix}", 1
    while label in used:
        number += 1
        label = f"{stem} ({number}){dot}{suffix}"
    used.add(label)
    return label
