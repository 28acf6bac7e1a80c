"""PDF by two engines: where the first cannot open, render, or see a page, the other is asked."""

from __future__ import annotations

import functools
import importlib.util
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from visrag_integrations.errors import DocumentError, MissingExtraError, PasswordError, VisRAGError
from visrag_integrations.readers.attachments import Attachments
from visrag_integrations.readers.content import DocumentContent, PageContent, RenderSettings
from visrag_integrations.readers.machine_faults import advice_for, reason_of

if TYPE_CHECKING:
    from visrag_integrations.readers.sources import Source

logger = logging.getLogger(__name__)

Backend = Literal["pymupdf", "pdfium"]
_PACKAGES: dict[Backend, str] = {"pymupdf": "pymupdf", "pdfium": "pypdfium2"}


class PdfDocument:
    """An open PDF; see `DocumentContent`. The second engine is opened when it is needed, and only then."""

    def __init__(self, source: Source, settings: RenderSettings, backend: Backend) -> None:
        self._source, self._settings = source, settings
        self._other: DocumentContent | None = None
        self._other_backend = other_backend(backend)
        try:
            self._first = _open(source, settings, backend)
        except MissingExtraError:
            raise
        except Exception as err:  # noqa: BLE001  engines raise anything on broken files
            self._first = self._open_other(err)
            self._other_backend = None  # there is no third one to ask
        self.total_pages, self.metadata = self._first.total_pages, self._first.metadata

    def page(self, number: int) -> PageContent:
        try:
            content = self._first.page(number)
        except Exception as err:
            other = self._ask_other(number)
            if other is None:
                raise
            logger.debug("%s, page %d: read by the other engine after %s", self._source.name, number, err)
            return other
        if not content.blank:
            return content
        # Some pictures (JBIG2) come out blank in one engine only.
        other = self._ask_other(number)
        if other is None or other.blank:
            return content
        return replace(other, warnings=(*content.warnings, *other.warnings))

    def attachments(self, max_bytes: int) -> Attachments:
        """What lies inside of it: PyMuPDF looks, whichever engine reads the pages."""
        from visrag_integrations.readers.pymupdf_engine import PyMuPDFDocument

        if isinstance(self._first, PyMuPDFDocument):
            return self._first.attachments(self._source, max_bytes)
        try:
            document = PyMuPDFDocument(self._source, self._settings)
        except Exception as err:  # noqa: BLE001  engines raise anything on broken files
            reason = str(err).strip(" .") or type(err).__name__
            return Attachments(warnings=[f"may hold files that are not read: PyMuPDF cannot open it ({reason})."])
        try:
            found = document.attachments(self._source, max_bytes)
            # PDFium repairs without a word; where MuPDF had to, the file is damaged for both.
            found.warnings[:0] = document.metadata.get("warnings", ())
            return found
        finally:
            document.close()

    def close(self) -> None:
        self._first.close()
        if self._other is not None:
            self._other.close()

    def _ask_other(self, number: int) -> PageContent | None:
        if self._other_backend is None:
            return None
        try:
            if self._other is None:
                self._other = _open(self._source, self._settings, self._other_backend)
            return self._other.page(number)
        except Exception as err:  # noqa: BLE001
            logger.debug("%s, page %d: the other engine failed too: %s", self._source.name, number, err)
            return None

    def _open_other(self, first_error: Exception) -> DocumentContent:
        errors = [first_error]
        if self._other_backend is not None:
            try:
                return _open(self._source, self._settings, self._other_backend)
            except Exception as err:  # noqa: BLE001
                errors.append(err)
        # The most telling one: that it is encrypted, else that it has no pages, else that the machine lacks something,
        # else what the chosen engine said.
        error = min(errors, key=_rank)
        raise _document_error(self._source.name, error) from error


class _NoPages(ValueError):
    """The engine can open it, and finds no page in it."""


def _rank(error: Exception) -> int:
    if _asks_for_password(error):
        return 0
    if isinstance(error, _NoPages):
        return 1
    return 2 if advice_for(error) else 3


def _asks_for_password(error: Exception) -> bool:
    """Whether an engine's error is about the password; what the system forbids has a number."""
    return isinstance(error, PermissionError) and error.errno is None


def other_backend(backend: Backend) -> Backend | None:
    """The other PDF engine, when it is installed."""
    other: Backend = "pdfium" if backend == "pymupdf" else "pymupdf"
    if importlib.util.find_spec(_PACKAGES[other]) is None:
        return None
    return other


def engine_version(backend: Backend) -> str:
    """The engine's name and version; "" when it is not installed.

    >>> engine_version("pymupdf").split()[0]
    'pymupdf'
    """
    from importlib.metadata import PackageNotFoundError

    try:
        return _found_version(backend)
    except PackageNotFoundError:
        return ""


# Finding a package reads its description, some milliseconds, and every run asks. One that is missing is looked for
# again, because it may be installed meanwhile (in a notebook): what raises is not kept.
@functools.cache
def _found_version(backend: Backend) -> str:
    from importlib import metadata

    return f"{_PACKAGES[backend]} {metadata.version(_PACKAGES[backend])}"


def _open(source: Source, settings: RenderSettings, backend: Backend) -> DocumentContent:
    content: DocumentContent
    if backend == "pdfium":
        from visrag_integrations.readers.pdfium_engine import PdfiumDocument

        content = PdfiumDocument(source, settings)
    else:
        from visrag_integrations.readers.pymupdf_engine import PyMuPDFDocument

        content = PyMuPDFDocument(source, settings)
    if content.total_pages < 1:
        content.close()
        raise _NoPages("it has no pages")
    return content


def _document_error(name: str, err: Exception) -> VisRAGError:
    if isinstance(err, VisRAGError):
        return err
    if _asks_for_password(err):
        reason = 'is encrypted. Give its password: PageReader(password="..."), or --password on the command line.'
        if "wrong" in str(err):
            reason = "is encrypted and the password is wrong. Check it and try again."
        return PasswordError(name, reason)
    advice = advice_for(err)
    if not advice:
        advice = "Copy or download it again, or print it to a new PDF from a program that shows it."
    return DocumentError(name, f"cannot be opened as a PDF: {reason_of(err)}. {advice}")
