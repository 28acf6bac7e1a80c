"""Office and text files: LibreOffice makes a PDF of them, and the PDF is read.

Plain text is set on pages by PyMuPDF where there is no LibreOffice; office files then are an error that says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DocumentError, DocumentTimeoutError, UnsupportedDocumentError
from visrag_integrations.readers.content import DocumentContent, PageContent, RenderSettings
from visrag_integrations.readers.pdf import Backend, PdfDocument
from visrag_integrations.readers.sources import Source


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
        return OfficeDocument(source, settings, backend, [program, timeout, text])
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
        self._folder = tempfile.TemporaryDirectory(prefix="visrag-office-", ignore_cleanup_errors=True)
        try:
            printed = convert(source, Path(self._folder.name), *conversion)
            unlocked = replace(settings, password=None)  # what was printed has no password any more
            self._pdf = PdfDocument(replace(source, path=printed, data=b"", kind="pdf"), unlocked, backend)
        except BaseException:
            self._folder.cleanup()
            raise

    @property
    def total_pages(self) -> int:
        return self._pdf.total_pages

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._pdf.metadata

    def page(self, number: int) -> PageContent:
        return self._pdf.page(number)

    def close(self) -> None:
        self._pdf.close()
        self._folder.cleanup()


def convert(source: Source, folder: Path, program: str, timeout: float, text: bytes | None = None) -> Path:
    """The PDF that LibreOffice makes of a document, in `folder`; its own name and profile are never touched."""
    # A profile of its own: a LibreOffice that the user has open would otherwise answer, or be waited for.
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    options = [profile, "--headless", "--norestore", "--nolockcheck", "--nodefault"]
    given = folder / f"document{source.suffix}"
    if text is not None:
        given = folder / "document.txt"
        given.write_bytes(text)
        options.append("--infilter=Text (encoded):UTF8,LF,,,")
    elif source.path is None:
        given.write_bytes(source.data)
    else:
        shutil.copyfile(source.path, given)
    log = folder / "log.txt"
    try:
        code = _run([program, *options, "--convert-to", "pdf", "--outdir", str(folder), str(given)], log, timeout)
    except subprocess.TimeoutExpired as err:
        raise DocumentTimeoutError(
            source.name,
            f"LibreOffice took longer than {timeout:g} seconds. Raise office_timeout, or convert it to PDF.",
        ) from err
    printed = folder / "document.pdf"
    if not printed.exists():
        said = log.read_text(encoding="utf-8", errors="replace").strip()[-300:]  # the end says what went wrong
        raise DocumentError(source.name, f"LibreOffice made no PDF of it (exit code {code}). {said}".strip())
    return printed


def _run(command: list[str], log: Path, timeout: float) -> int:
    """The exit code; what the program started is ended with it."""
    # A reading process leads a group that is ended as a whole; anywhere else the program gets a group of its own.
    own_group = os.getpgrp() != os.getpid()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=own_group
        )
    try:
        return process.wait(timeout)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if own_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


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
