"""Marks of the font ZapfDingbats, which MuPDF gives by their codes: a ticked box as "4", a bullet as "l"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# The font's own encoding (ISO 32000-1, annex D.6): mostly the block of Unicode that was made after it, in its order.
_BLOCK = 0x2700 - 0x20
_ELSEWHERE = {
    **{"%": "☎", "*": "☛", "+": "☞", "H": "★", "l": "●", "n": "■"},
    **{"s": "▲", "t": "▼", "u": "◆", "w": "◗"},
}


# All letters that the font has a mark for.
_CODES = frozenset(map(chr, range(ord("!"), ord("~") + 1)))
# Drawings on a page, and inside of those, that are looked into; a hostile one may hold itself.
_MOST_DRAWINGS = 500


def dingbat(letter: str) -> str:
    """The mark that a letter of this font draws.

    >>> dingbat("4"), dingbat("8"), dingbat("l")
    ('✔', '✘', '●')
    """
    if letter not in _CODES:
        return letter
    return _ELSEWHERE.get(letter, chr(ord(letter) + _BLOCK))


def with_dingbats(words: Sequence[str], boxes: Sequence[Sequence[float]], page: Any, layer: Any) -> Sequence[str]:
    """The words of a page of MuPDF with marks in place of their codes.

    Args:
        words: The page's.
        boxes: Of these, in points.
        page: The page.
        layer: Its text.
    """
    if _CODES.isdisjoint(words):
        return words
    if not _may_draw_dingbats(page):
        return words
    marks = _marks_of_spans(layer)
    if marks is None:
        marks = _marks_of_letters(layer)
    mended = list(words)
    for place, word in enumerate(words):
        left, top, *_ = boxes[place]
        if (word, round(left, 1), round(top, 1)) in marks:
            mended[place] = dingbat(word)
    return mended


_Mark = tuple[str, float, float]  # a code, and where it begins, in tenths of a point


def _marks_of_spans(layer: Any) -> set[_Mark] | None:
    """The marks of a page, where each is a span of its own; None where several stand in one."""
    marks: set[_Mark] = set()
    for block in layer.extractDICT()["blocks"]:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                if "Dingbats" not in span["font"]:
                    continue
                if len(span["text"]) != 1:
                    return None
                marks.add((span["text"], round(span["bbox"][0], 1), round(span["bbox"][1], 1)))
    return marks


def _marks_of_letters(layer: Any) -> set[_Mark]:
    """The marks of a page, letter by letter: four times as long as by spans."""
    marks: set[_Mark] = set()
    for block in layer.extractRAWDICT()["blocks"]:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                if "Dingbats" in span["font"]:
                    for letter in span["chars"]:
                        marks.add((letter["c"], round(letter["bbox"][0], 1), round(letter["bbox"][1], 1)))
    return marks


def _may_draw_dingbats(page: Any) -> bool:
    """Whether something on the page may be drawn in the font: many programs name it everywhere and use it nowhere."""
    import pymupdf

    if page.first_widget is not None:
        return True  # a page's own fonts are listed; those that draw its form fields are not
    # Asked for here and not by `page.get_fonts()`, which opens every font: that took a tenth of a page's reading.
    resources = pymupdf.mupdf.pdf_page_resources(pymupdf.mupdf.pdf_page_from_fz_page(page.this))
    names = _names_of_dingbats(resources)
    if _is_in_drawings(resources):
        return True
    if not names:
        return False
    drawn: bytes = page.read_contents()
    if b"#" in drawn:
        return True  # a name may be written otherwise: "/F#35" is "/F5"
    wanted = b"|".join(re.escape(name.encode()) for name in names)
    return re.search(rb"/(?:%b)(?![^\s/()<>\[\]])" % wanted, drawn) is not None


def _names_of_dingbats(resources: Any) -> list[str]:
    """By which names the page, or a drawing, knows the font."""
    from pymupdf import mupdf

    fonts = mupdf.pdf_dict_gets(resources, "Font")
    names: list[str] = []
    for place in range(mupdf.pdf_dict_len(fonts)):
        font = mupdf.pdf_dict_get_val(fonts, place)
        if "Dingbats" in mupdf.pdf_to_name(mupdf.pdf_dict_gets(font, "BaseFont")):
            names.append(mupdf.pdf_to_name(mupdf.pdf_dict_get_key(fonts, place)))
    return names


def _is_in_drawings(resources: Any) -> bool:
    """Whether a drawing inside of the page, or inside of another one, knows the font."""
    from pymupdf import mupdf

    waiting = [resources]
    looked = 0
    while waiting:
        drawings = mupdf.pdf_dict_gets(waiting.pop(), "XObject")
        for place in range(mupdf.pdf_dict_len(drawings)):
            looked += 1
            if looked > _MOST_DRAWINGS:
                return True
            inner = mupdf.pdf_dict_gets(mupdf.pdf_dict_get_val(drawings, place), "Resources")
            if mupdf.pdf_dict_len(inner):
                if _names_of_dingbats(inner):
                    return True
                waiting.append(inner)
    return False
