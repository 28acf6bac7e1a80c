"""Marks of the font ZapfDingbats, which MuPDF gives by their codes: a ticked box as "4", a bullet as "l"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# The font's own encoding (ISO 32000-1, annex D.6): mostly the block of Unicode that was made after it, in its order.
_BLOCK = 0x2700 - 0x20
_ELSEWHERE = {
    **{"%": "☎", "*": "☛", "+": "☞", "H": "★", "l": "●", "n": "■"},
    **{"s": "▲", "t": "▼", "u": "◆", "w": "◗"},
}


def dingbat(letter: str) -> str:
    """The mark that a letter of this font draws.

    >>> dingbat("4"), dingbat("8"), dingbat("l")
    ('✔', '✘', '●')
    """
    if not "!" <= letter <= "~":
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
    if not any(len(word) == 1 and "!" <= word <= "~" for word in words):
        return words
    # A page's own fonts are listed; those that draw its form fields are not.
    if page.first_widget is None and not any("Dingbats" in font[3] for font in page.get_fonts()):
        return words
    marks: set[tuple[str, float, float]] = set()
    for block in layer.extractRAWDICT()["blocks"]:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                if "Dingbats" in span["font"]:
                    for letter in span["chars"]:
                        marks.add((letter["c"], round(letter["bbox"][0], 1), round(letter["bbox"][1], 1)))
    if not marks:
        return words
    mended = list(words)
    for place, word in enumerate(words):
        left, top, *_ = boxes[place]
        if (word, round(left, 1), round(top, 1)) in marks:
            mended[place] = dingbat(word)
    return mended
