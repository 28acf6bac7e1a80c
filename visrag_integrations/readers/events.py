"""What a `ReaderPool` reports while it reads: pages, and how each document ended."""

from __future__ import annotations

from dataclasses import dataclass

from visrag_integrations.types import Failure, Page


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
    """

    source: str
    doc_id: str
    total_pages: int | None = None
    pages: int = 0


@dataclass(frozen=True)
class DocumentFailed:
    """A document that could not be opened, or was given up."""

    failure: Failure


ReaderEvent = PageRead | PageFailed | DocumentDone | DocumentFailed
