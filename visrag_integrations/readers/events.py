"""What a `ReaderPool` reports while it reads: pages, and how each document ended."""

from __future__ import annotations

from dataclasses import dataclass

from visrag_integrations.types import Failure, Page


@dataclass(frozen=True)
class ReadingWarning:
    """Something in a document that was read is not as its owner would expect: a missing font, a file that was left out.

    Attributes:
        source: The document, as it was given.
        text: What is so, and what to do about it.
        page: Where; None where all of the document is meant.
    """

    source: str
    text: str
    page: int | None = None


@dataclass(frozen=True)
class PageRead:
    """A page.

    Attributes:
        page: With an encoded picture (JPEG unless the reader says otherwise), or drawn pixels where those are wanted.
        stored: The same with its picture as it is stored, encoded where it was read.
    """

    page: Page
    stored: Page


@dataclass(frozen=True)
class PageFailed:
    """A page that could not be read; its document goes on."""

    failure: Failure


@dataclass(frozen=True)
class DocumentDone:
    """A document whose pages have all been reported; also one that was known already.

    Attributes:
        source: The document, as it was given.
        doc_id: Its id.
        total_pages: How many pages it has; None when it was not opened, because all of it was known.
        pages: How many were read now.
        warnings: What must be said about it.
        embedded: It lies inside of another document, "outer.pdf/inner.pdf".
    """

    source: str
    doc_id: str
    total_pages: int | None = None
    pages: int = 0
    warnings: tuple[ReadingWarning, ...] = ()
    embedded: bool = False


@dataclass(frozen=True)
class DocumentFailed:
    """A document that could not be opened, or was given up."""

    failure: Failure


ReaderEvent = PageRead | PageFailed | DocumentDone | DocumentFailed
