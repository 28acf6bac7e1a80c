"""Small documents, drawn while a test runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw_pdf(path: Path, texts: Sequence[str]) -> Path:
    """A PDF with one page per text (Latin letters)."""
    import pymupdf

    with pymupdf.open() as document:
        for text in texts:
            page = document.new_page(width=300, height=200)
            page.insert_textbox(pymupdf.Rect(20, 20, 280, 180), text, fontsize=12)
        document.save(path)
    return path
