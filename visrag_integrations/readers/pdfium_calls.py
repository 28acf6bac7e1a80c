"""PDFium's functions that are asked hundreds of times a page, called with whole numbers for its pointers.

A call of pypdfium2's own functions takes a third to a half longer: each makes an object of what it gives, or takes one
apart. Numbers can also go through `map`, which calls without a line of Python in between.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POINTER = ctypes.c_void_p
_EDGES = 4  # of a box, each a float of four bytes


def address_of(pointer: Any) -> int:
    """Where a pointer of pypdfium2 points, 0 for nowhere."""
    return ctypes.cast(pointer, _POINTER).value or 0


@functools.cache
def with_numbers(name: str, gives: Any, *takes: Any) -> Callable[..., Any]:
    """One of PDFium's functions by its name and types, where pointers are numbers."""
    import pypdfium2.raw as pdfium

    known: Any = getattr(pdfium, name)
    function = type(known)(address_of(known))  # called by the same convention
    function.restype = gives
    if takes:
        function.argtypes = takes
    return function  # type: ignore[no-any-return]


def objects_on(page: Any) -> list[int]:
    """What a page draws itself, in the order of painting, as pointers; the insides of forms are no part of it."""
    import pypdfium2.raw as pdfium

    object_at = with_numbers("FPDFPage_GetObject", _POINTER, _POINTER, ctypes.c_int)
    count = pdfium.FPDFPage_CountObjects(page.raw)
    return list(map(object_at, itertools.repeat(address_of(page.raw)), range(count)))


def kinds_of(objects: Sequence[int]) -> list[int]:
    """Of each object its kind, as PDFium numbers them."""
    return list(map(with_numbers("FPDFPageObj_GetType", ctypes.c_int, _POINTER), objects))


class Letters:
    """The characters of a text layer, by their places in it.

    Args:
        layer: Must stay open while this is used.
    """

    def __init__(self, layer: Any) -> None:
        import pypdfium2.raw as pdfium

        self._layer = layer.raw
        self.count = max(0, pdfium.FPDFText_CountChars(layer.raw))

    @functools.cached_property
    def text(self) -> str:
        """One character for each place, so that places in the text are PDFium's own; U+FFFD where there is none.

        `FPDFText_GetText` gives all in one call, but cuts each to 16 bits: it makes a plain "A" of U+10041, a letter of
        Linear B. So each is asked for.
        """
        # Without types of arguments a call takes half of the time: a reference and a small number go as they are.
        code_of = with_numbers("FPDFText_GetUnicode", ctypes.c_uint)
        asked = map(code_of, itertools.repeat(ctypes.byref(self._layer.contents)), range(self.count))
        codes = np.fromiter(asked, dtype="<u4", count=self.count)
        half_a_pair = (codes >= 0xD800) & (codes <= 0xDFFF)
        codes[(codes == 0) | half_a_pair | (codes > sys.maxunicode)] = 0xFFFD
        return codes.tobytes().decode("utf-32-le")

    def boxes(self, places: Sequence[int]) -> NDArray[np.float64]:
        """Left, bottom, right, top of each of these, `(n, 4)` in the file's own units, where up is more.

        All are zero for a character that has no box.
        """
        box_of = with_numbers("FPDFText_GetLooseCharBox", ctypes.c_int, _POINTER, ctypes.c_int, _POINTER)
        found = np.zeros((len(places), _EDGES), dtype=np.float32)  # PDFium writes left, top, right, bottom into it
        first, size = found.ctypes.data, _EDGES * found.itemsize
        targets = range(first, first + size * len(places), size)
        for _ in map(box_of, itertools.repeat(address_of(self._layer)), places, targets):
            pass
        return found[:, [0, 3, 2, 1]].astype(np.float64)
