"""Pixels in, words and text out, by RapidOCR.

The models that come with RapidOCR read Latin scripts, Chinese and Japanese well. They do not read Korean (a fifth of
the words come out right) and read Russian poorly: give such scans a text layer with another tool, or search them by
their pictures.
"""

from visrag_integrations.ocr.assembly import ASSEMBLIES, TextAssembly, assemble
from visrag_integrations.ocr.engine import (
    MIN_SCORE,
    PIXELS,
    count_cores,
    is_installed,
    limit_threads,
    read_line,
    warn_missing,
)
from visrag_integrations.ocr.page import OCR_PIXELS, OcrPage, read_page, read_words
from visrag_integrations.ocr.turning import Detail

__all__ = [
    "ASSEMBLIES",
    "MIN_SCORE",
    "OCR_PIXELS",
    "PIXELS",
    "Detail",
    "OcrPage",
    "TextAssembly",
    "assemble",
    "count_cores",
    "is_installed",
    "limit_threads",
    "read_line",
    "read_page",
    "read_words",
    "warn_missing",
]
