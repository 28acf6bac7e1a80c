"""Texts that a PDF gives in place of its letters (`ActualText`), taken off a page of PDFium."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

from visrag_integrations.readers.pdfium_calls import kinds_of, with_numbers

_KEY = b"ActualText"
_MOST_DEEP = 8  # forms inside of forms; real files have two or three


def remove_actual_text(objects: Sequence[int]) -> bool:
    """Take them off, so that the page's letters speak for themselves; False where there is none.

    The document in memory is changed, never the file. A text layer that was made before keeps its text.

    Args:
        objects: What the page draws.
    """
    marks_of = with_numbers("FPDFPageObj_CountMarks", ctypes.c_int, ctypes.c_void_p)
    removed = False
    for item in _text_objects(objects):
        for index in range(marks_of(item)):
            removed |= _is_taken_off(item, index)
    return removed


def _is_taken_off(item: int, index: int) -> bool:
    import pypdfium2.raw as pdfium

    letters = ctypes.cast(item, pdfium.FPDF_PAGEOBJECT)
    mark = pdfium.FPDFPageObj_GetMark(letters, index)
    if pdfium.FPDFPageObjMark_GetParamValueType(mark, _KEY) == pdfium.FPDF_OBJECT_UNKNOWN:
        return False
    pdfium.FPDFPageObjMark_RemoveParam(letters, mark, _KEY)
    return True


def _text_objects(objects: Sequence[int]) -> Iterator[int]:
    """What draws letters, also inside of forms."""
    import pypdfium2.raw as pdfium

    level = objects
    for depth in range(_MOST_DEEP + 1):
        inside: list[int] = []
        for item, kind in zip(level, kinds_of(level), strict=True):
            if kind == pdfium.FPDF_PAGEOBJ_TEXT:
                yield item
            elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < _MOST_DEEP:
                inside += _objects_in(item)
        level = inside


def _objects_in(form: int) -> list[int]:
    import pypdfium2.raw as pdfium

    pointer: Any = ctypes.cast(form, pdfium.FPDF_PAGEOBJECT)
    object_at = with_numbers("FPDFFormObj_GetObject", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong)
    return [object_at(form, index) for index in range(pdfium.FPDFFormObj_CountObjects(pointer))]
