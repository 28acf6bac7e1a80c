"""A path in, pages out, lazily: PDF, pictures, office and text files, with OCR where there is no text."""

from visrag_integrations.readers.pool import ReaderPool
from visrag_integrations.readers.reader import OpenDocument, PageReader

__all__ = ["OpenDocument", "PageReader", "ReaderPool"]
