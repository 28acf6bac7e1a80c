"""Texts that a PDF gives in place of its letters (`ActualText`), taken off a page of PDFium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_KEY = b"ActualText"
_MOST_DEEP = 8  # forms inside of forms; real files have two or three


def remove_actual_text(page: Any) -> bool:
    """Take them off, so that the page's letters speak for themselves; False where there is none.

    The document in memory is changed, never the file. A text layer that was made before keeps its text.
    """
    import pypdfium2.raw as pdfium

    removed = False
    for item in _text_objects(page):
        for index in range(pdfium.FPDFPageObj_CountMarks(item)):
            mark = pdfium.FPDFPageObj_GetMark(item, index)
            if pdfium.FPDFPageObjMark_GetParamValueType(mark, _KEY) != pdfium.FPDF_OBJECT_UNKNOWN:
                pdfium.FPDFPageObjMark_RemoveParam(item, mark, _KEY)
                removed = True
    return removed


def _text_objects(page: Any) -> Iterator[Any]:
    """What draws letters on a page, also inside of its forms."""
    import pypdfium2.raw as pdfium

    waiting: list[tuple[Any, int]] = []
    for index in range(pdfium.FPDFPage_CountObjects(page.raw)):
        waiting.append((pdfium.FPDFPage_GetObject(page.raw, index), 0))
    while waiting:
        item, depth = waiting.pop()
        kind = pdfium.FPDFPageObj_GetType(item)
        if kind == pdfium.FPDF_PAGEOBJ_TEXT:
            yield item
        elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < _MOST_DEEP:
            for index in range(pdfium.FPDFFormObj_CountObjects(item)):
                waiting.append((pdfium.FPDFFormObj_GetObject(item, index), depth + 1))
