"""A path in, pages out, lazily: PDF, pictures, office and text files, with OCR where there is no text."""

from typing import TYPE_CHECKING, Any

from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.readers.pool import ReaderPool
    from visrag_integrations.readers.reader import OpenDocument, PageReader

# Imported when they are asked for: `kept` starts a reading process before its caller imports what reads.
_HOMES = {"OpenDocument": "reader", "PageReader": "reader", "ReaderPool": "pool"}

__all__ = ["OpenDocument", "PageReader", "ReaderPool"]


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name)
