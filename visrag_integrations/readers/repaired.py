"""What is said of a PDF that is damaged, and that the engine put together again as far as it could."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visrag_integrations.readers.sources import Source

_END = b"%%EOF"
_LAST = 1024  # bytes in which readers look for the end: mail and web servers leave lines of their own behind it

CUT_OFF = (
    "is cut off: the end of its file is missing, and what is left was repaired. Pages may be missing or empty; copy or "
    "download it again."
)
REPAIRED = (
    "is damaged, and was repaired when it was opened, mostly without a loss. Where pages are missing or empty, copy or "
    "download it again."
)


def repair_warning(source: Source) -> str:
    """What must be said of a PDF that had to be repaired: the worse, where the end of its file is missing.

    >>> from visrag_integrations.readers.sources import Source
    >>> repair_warning(Source("a.pdf", "pdf", "", data=b"%PDF-1.7 1 0 obj"))[:14]
    'is cut off: th'
    """
    return REPAIRED if _END in _last_bytes(source) else CUT_OFF


def _last_bytes(source: Source) -> bytes:
    if source.path is None:
        return source.data[-_LAST:]
    with source.path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LAST))
        return file.read()
