"""What is noticed in a document while its XML is copied: which fonts it names, and whether it has formulas.

`<w:rFonts w:ascii="Calibri"/>`, `<a:latin typeface="Calibri"/>`, `<font><name val="Calibri"/></font>` and
`<style:font-face svg:font-family="Calibri"/>` all name Calibri.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# Attributes without their namespaces, by the element that they stand in: Word, DrawingML, rich text of Excel, ODF.
_NAMING = {
    "rfonts": ("ascii", "hansi", "eastasia", "cs"),
    "latin": ("typeface",),
    "ea": ("typeface",),
    "cs": ("typeface",),
    "rfont": ("val",),
    "font-face": ("font-family",),
}
# Formulas of Word and PowerPoint, and of OpenDocument.
_FORMULAS = frozenset(["omath", "math"])
# The table at the beginning of an RTF file: "{\f0\froman\fcharset0 Times New Roman;}".
_RTF_FONT = re.compile(rb"\\f\d+(?:\\[a-z]+-?\d*)*(?:\{[^{}]*\})* ([^;{}\\]{2,60});")


@dataclass
class Notice:
    """What a document uses.

    Attributes:
        fonts: Families that it names.
        formulas: How many formulas it has.
    """

    fonts: set[str] = field(default_factory=set)
    formulas: int = 0
    _in_font: bool = False

    def element(self, name: str, attributes: Mapping[str, str]) -> None:
        """Take notice of an element; both are without namespaces, in small letters.

        >>> notice = Notice()
        >>> notice.element("rfonts", {"ascii": "Calibri", "cs": "+mn-cs"})
        >>> notice.fonts
        {'Calibri'}
        """
        if name in _FORMULAS:
            self.formulas += 1
        elif name in _NAMING:
            for key in _NAMING[name]:
                self._add(attributes.get(key, ""))
        elif name == "font":  # of a workbook, whose name is an element in it; Word has elements of that name too
            self._in_font = True
        elif name == "name" and self._in_font:
            self._add(attributes.get("val", ""))
        elif name in {"fills", "style"}:
            self._in_font = False

    def rich_text(self, head: bytes) -> None:
        """Take notice of the fonts of an RTF file, which stand at its beginning."""
        for found in _RTF_FONT.findall(head):
            self._add(found.decode("latin-1"))

    def _add(self, value: str) -> None:
        # ODF may give a list of families: "'Open Sans', sans-serif". "+mn-lt" is a font of the theme.
        family = re.split(r"[,;]", value, maxsplit=1)[0].strip().strip("'\"").lstrip("@")
        if family and not family.startswith("+"):
            self.fonts.add(family)
