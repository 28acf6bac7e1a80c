"""`PageReader`: documents in, pages out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from visrag_integrations import images
from visrag_integrations.errors import (
    DocumentError,
    MissingExtraError,
    PageError,
    PictureError,
    SettingError,
    VisRAGError,
)
from visrag_integrations.interfaces.reader_versions import READER_VERSION
from visrag_integrations.interfaces.speaker_notes import NOTES_KEY, with_notes
from visrag_integrations.ocr import OCR_PIXELS, TextAssembly
from visrag_integrations.readers import finding, sources
from visrag_integrations.readers.content import DocumentContent, RenderSettings
from visrag_integrations.readers.machine_faults import advice_for, reason_of
from visrag_integrations.readers.page_selection import PageSelection, normalise_pages, select_pages
from visrag_integrations.readers.page_text import read_text, warn_suspect
from visrag_integrations.readers.pdf import Backend, PdfDocument, engine_version
from visrag_integrations.readers.remote import FETCH_SECONDS
from visrag_integrations.types import Failure, Page

logger = logging.getLogger(__name__)

OcrMode = Literal["auto", "never", "always"]
_CHOICES = {
    "backend": ("pymupdf", "pdfium"),
    "ocr": ("auto", "never", "always"),
    "text_assembly": ("adjacent_merging", "layout_preserving"),
    "picture_format": (None, "JPEG", "PNG", "WEBP"),
}
_ABOVE_ZERO = (
    *("max_pixels", "max_pages", "max_bytes", "max_image_pixels", "max_memory"),
    *("office_timeout", "fetch_timeout", "web_timeout", "ocr_pixels"),
)


@dataclass(frozen=True)
class PageReader:
    """Reads PDF, picture, office and text files into pages: RGB pixels within a budget, text, word boxes.

    Attributes:
        backend: The PDF engine; where it fails and the other is installed, the other is tried.
        max_pixels: The pixel budget of a page; the default is what VisRAG-Ret can use of one.
        ocr: "auto" reads pages without a usable text layer with OCR, where it is installed, and adds what it reads to
            the text of a scan that carries little more than a stamp; "always"; "never".
        text_assembly: How OCR's lines become a page's text.
        password: For encrypted files.
        pages: Which pages: "1-3,7", "5-", range(1, 4), [1, 7]; all when None.
        max_pages: At most so many pages of a document are read; the rest is left out, with a warning in the log.
        max_bytes: Larger files are refused.
        max_image_pixels: Picture files that declare more are refused before they are decoded; 178,956,970 at most.
        picture_format: "JPEG", "PNG" or "WEBP" gives pages encoded bytes instead of pixels (a tenth of the memory).
        max_memory: Bytes that each reading process may take; a page that needs more is an error. None: what the machine
            has, shared among the processes. Only pools read in processes.
        office_timeout: Seconds LibreOffice may take for one file.
        ocr_pixels: OCR reads large pages (drawings, posters, long receipts) in parts, at so many pixels in all.
        fetch_timeout: Seconds a document behind a URL may take to come.
        web_scripts: Whether the scripts of web pages run; without, a page is what its HTML says.
        web_hosts: Hosts, beside a page's own, whose pictures, style sheets and fonts are fetched.
        web_timeout: Seconds for loading a web page, and again for each tile of it.
    """

    backend: Backend = "pymupdf"
    max_pixels: int = 9 * 448 * 448  # VisRAG-Ret cuts a page into at most 9 slices of 448 x 448
    ocr: OcrMode = "auto"
    text_assembly: TextAssembly = "adjacent_merging"
    password: str | None = field(default=None, repr=False)
    pages: PageSelection = None
    max_pages: int | None = 10_000  # so that one file cannot fill a store unasked
    max_bytes: int = 2 << 30  # 2 GiB; the file's digest is computed first, and takes seconds there
    max_image_pixels: int = images.MAX_PIXELS
    picture_format: str | None = None
    max_memory: int | None = None
    office_timeout: float = 120.0
    ocr_pixels: int = OCR_PIXELS
    fetch_timeout: float = FETCH_SECONDS
    web_scripts: bool = False
    web_hosts: tuple[str, ...] = ()
    web_timeout: float = 60.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name}={getattr(self, name)!r}; use one of {', '.join(map(repr, allowed))}.")
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SettingError(f"{name}={value!r}; it must be more than 0.")
        if self.max_image_pixels > images.MAX_PIXELS:  # Pillow refuses these, whatever is set here
            raise SettingError(
                f"max_image_pixels={self.max_image_pixels!r}; it can be at most {images.MAX_PIXELS}. Scale larger "
                "pictures down, or cut them into several files."
            )
        # A generator of page numbers could be read only once; as pairs the selection also goes to other processes.
        object.__setattr__(self, "pages", normalise_pages(self.pages))

    def read(
        self,
        source: Any,
        *,
        password: str | None = None,
        pages: PageSelection = None,
        name: str | None = None,
        on_error: Callable[[Failure], None] | None = None,
    ) -> Iterator[Page]:
        """The pages of a path, bytes, a folder, or an iterable of these, lazily and in order.

        A bad document raises when it is the only one given; among several it is logged, handed to `on_error`, and
        the rest is read. So is a bad page, always.

        Raises:
            DocumentError: The one document given cannot be read; its class says why.
        """
        reader = self
        if password:
            reader = replace(reader, password=password)
        if pages is not None:
            reader = replace(reader, pages=pages)
        report = _Report(on_error)
        if finding.is_one_document(source):
            with reader.open(source, name=name) as document:
                yield from document.read_pages(report)
                inner = document.embedded
            yield from reader._read_embedded(inner, report)
            return
        for item in finding.find_documents(source):
            try:
                with reader.open(item) as document:
                    yield from document.read_pages(report)
                    inner = document.embedded
            except DocumentError as err:
                report(Failure(err.source, err.reason))
            else:
                yield from reader._read_embedded(inner, report)

    def _read_embedded(self, inner: tuple[sources.Source, ...], report: Callable[[Failure], None]) -> Iterator[Page]:
        """The pages of the files in a document, whose own pages were chosen by number or not."""
        for source in inner:
            try:
                with self.open(source) as document:
                    yield from document.read_pages(report)
            except DocumentError as err:
                report(Failure(err.source, err.reason))

    def find(self, source: Any) -> Iterator[Any]:
        """The documents of a path, folder or iterable, as `read` would take them, unopened."""
        return finding.find_documents(source)

    def open(self, source: sources.PathLike | bytes | sources.Source, *, name: str | None = None) -> OpenDocument:
        """One document, opened: a context manager that reads any of its pages.

        Raises:
            DocumentError: It cannot be read; the class says why.
        """
        known = source
        if not isinstance(known, sources.Source):
            known = sources.identify(known, max_bytes=self.max_bytes, name=name, seconds=self.fetch_timeout)
        return OpenDocument(self, known, _open_content(known, self))

    def describe(self) -> dict[str, Any]:
        """What decides the pixels and the text of a page, JSON-like; a collection remembers it."""
        return {
            "backend": self.backend,
            "engine": engine_version(self.backend),
            "max_pixels": self.max_pixels,
            "ocr": self.ocr,
            "text_assembly": self.text_assembly,
            "ocr_pixels": self.ocr_pixels,
            "reader_version": READER_VERSION,
        }


class OpenDocument:
    """A document whose pages can be read in any order.

    Attributes:
        source: The path or name, as it was given.
        doc_id: sha256 of the file's bytes.
        total_pages: How many pages the document has.
        numbers: The pages that are to be read.
        warnings: What must be said about it as a whole.
        embedded: Files inside of it that are documents of their own.
    """

    def __init__(self, reader: PageReader, known: sources.Source, content: DocumentContent) -> None:
        self._reader, self._content = reader, content
        about = dict(content.metadata)
        self.warnings: tuple[str, ...] = tuple(about.pop("warnings", ()))
        self._metadata = about
        self.embedded: tuple[sources.Source, ...] = ()
        if isinstance(content, PdfDocument):
            found = content.attachments(reader.max_bytes)
            self.embedded, self.warnings = tuple(found.sources), (*self.warnings, *found.warnings)
        self.source, self.doc_id, self.total_pages = known.name, known.doc_id, content.total_pages
        self.numbers = self._choose()

    def __enter__(self) -> OpenDocument:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; pages that were read stay good."""
        self._content.close()

    def read_pages(self, report: Callable[[Failure], None]) -> Iterator[Page]:
        """The chosen pages in order; one that fails is reported instead."""
        for warning in self.warnings:
            logger.warning("%r: %s", self.source, warning)
        for number in self.numbers:
            try:
                page = self.page(number)
            except PageError as err:
                report(Failure(err.source, err.reason, err.number))
            else:
                yield page

    def page(self, number: int) -> Page:
        """One page.

        Raises:
            PageError: It cannot be rendered or decoded.
        """
        try:
            content = self._content.page(number)
            reader = self._reader
            found = read_text(content, reader.ocr, reader.text_assembly, reader.ocr_pixels)
            picture: images.PictureSource = content.picture
            if self._reader.picture_format is not None:
                picture = images.encode(picture, self._reader.picture_format)
        except MissingExtraError:
            raise
        except MemoryError as err:
            reason = "needs more memory than a reading process may take. Raise max_memory, or scale it down."
            raise PageError(self.source, number, reason) from err
        except Exception as err:
            raise PageError(self.source, number, f"cannot be read: {str(err).strip() or type(err).__name__}") from err
        text, warnings = found.text, list(content.warnings)
        metadata = {"total_pages": self.total_pages, **found.metadata, **self._metadata}
        if content.notes:
            # Searched with the slide, and kept apart for whoever wants to know what is on the picture.
            text = with_notes(text, content.notes)
            metadata[NOTES_KEY] = content.notes
        if found.suspect:
            warn_suspect(self.source)
            warnings.append(f"its text may not be what the page shows: {found.suspect}")
        if warnings:
            metadata["warnings"] = warnings
        if content.label:
            metadata["page_label"] = content.label
        return Page(self.doc_id, number, text, self.source, metadata, found.words, picture=picture)

    def _choose(self) -> list[int]:
        reader = self._reader
        numbers = select_pages(reader.pages, self.total_pages)
        if not numbers:
            self._content.close()
            raise DocumentError(self.source, _none_chosen(self.total_pages))
        if reader.max_pages is not None and len(numbers) > reader.max_pages:
            logger.warning("%s: only the first %d of %d pages are read.", self.source, reader.max_pages, len(numbers))
            numbers = numbers[: reader.max_pages]
        return numbers


def _none_chosen(total: int) -> str:
    """What is said where a document has none of the pages that were asked for."""
    there, named = f"{total} pages", f"1-{total}"
    if total == 1:
        there, named = "1 page", "1"
    return (
        f"has {there}; none of the pages asked for is among them. Ask for others: --pages {named} "
        f'(PageReader(pages="{named}")).'
    )


class _Report:
    """Logs every failure and hands it on."""

    def __init__(self, on_error: Callable[[Failure], None] | None) -> None:
        self._on_error = on_error

    def __call__(self, failure: Failure) -> None:
        where = failure.source
        if failure.page is not None:
            where += f", page {failure.page}"
        logger.warning("%r: %s", where, failure.error)
        if self._on_error is not None:
            self._on_error(failure)


def _open_content(known: sources.Source, reader: PageReader) -> DocumentContent:
    settings = RenderSettings(reader.max_pixels, reader.max_image_pixels, reader.password)
    try:
        if known.kind == "pdf":
            return PdfDocument(known, settings, reader.backend)
        if known.kind == "image":
            from visrag_integrations.readers.image_files import ImageDocument

            return ImageDocument(known, settings)
        if known.kind == "web":
            from visrag_integrations.readers.web_page import WebDocument
            from visrag_integrations.readers.web_parts import WebSettings

            return WebDocument(known, settings, WebSettings(reader.web_scripts, reader.web_hosts, reader.web_timeout))
        from visrag_integrations.readers.office import open_office

        return open_office(known, settings, reader.backend, reader.office_timeout)
    except PictureError as err:
        if advice := advice_for(err.__cause__):
            raise DocumentError(known.name, f"cannot be opened: {reason_of(err.__cause__ or err)}. {advice}") from err
        # The error has the document's name in front by itself.
        raise DocumentError(known.name, str(err).removeprefix(f"{known.path} ")) from err
    except VisRAGError:
        raise
    except images.DECODE_ERRORS as err:
        instead = "save it anew as PNG" if known.kind == "image" else "print it to a PDF and give that"
        advice = advice_for(err) or f"Copy or download it again, or {instead}."
        raise DocumentError(known.name, f"cannot be opened: {reason_of(err)}. {advice}") from err
