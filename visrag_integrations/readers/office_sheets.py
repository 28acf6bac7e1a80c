"""Sheets for the screen: a row on one page, the header on each, columns wide enough, and only so many rows.

What is changed in the XML of a workbook on its way to LibreOffice; the printing area that an author set stays.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

# Rows of a sheet that are read: some four hundred pages. More would fill an index with one file's numbers.
MAX_ROWS = 20_000
# Characters. In a narrower column a date with its time, or a number of a million with its cents, becomes "###".
_LEAST_WIDTH = 14.0


class SheetEdits:
    """Edits one part of a workbook while it is copied; parts of other kinds pass as they are."""

    def __init__(self) -> None:
        self.cut_rows = 0
        self.skipping = False
        self._in_sheet = False
        self._has_setup = False
        self._rows = 0
        self._sheets: list[str] = []

    def attributes(self, element: str, kept: dict[str, Any]) -> dict[str, Any]:
        """The attributes that an element is written with."""
        if element == "worksheet":
            self._in_sheet, self._has_setup, self._rows = True, False, 0
        if element == "sheet" and "name" in kept:
            self._sheets.append(str(kept["name"]))
        if not self._in_sheet:
            return kept
        if element == "row":
            self._rows += 1
            self.skipping = self._rows > MAX_ROWS
            self.cut_rows += self.skipping
        elif element == "pagesetuppr":
            kept["fitToPage"] = "1"
        elif element == "pagesetup":
            self._has_setup = True
            kept = {key: value for key, value in kept.items() if key not in {"scale", "fitToWidth", "fitToHeight"}}
            kept.update(fitToWidth="1", fitToHeight="0", orientation="landscape")
        elif element == "col" and kept.get("hidden") not in {"1", "true"}:
            kept["width"] = str(max(_number(kept.get("width")), _LEAST_WIDTH))
            kept["customWidth"] = "1"
        elif element == "sheetformatpr":
            kept["defaultColWidth"] = str(max(_number(kept.get("defaultColWidth")), _LEAST_WIDTH))
        return kept

    def after_start(self, name: str) -> str:
        """What is written behind the beginning of an element."""
        prefix, _, element = name.rpartition(":")
        if element.lower() != "worksheet":
            return ""
        tag = f"{prefix}:" if prefix else ""
        return f'<{tag}sheetPr><{tag}pageSetUpPr fitToPage="1"/></{tag}sheetPr>'

    def before_end(self, name: str) -> str:
        """What is written in front of the end of an element."""
        prefix, _, element = name.rpartition(":")
        tag = f"{prefix}:" if prefix else ""
        if element.lower() == "worksheet":
            self._in_sheet = False
            if not self._has_setup:
                return f'<{tag}pageSetup orientation="landscape" fitToWidth="1" fitToHeight="0"/>'
        return ""

    def after_end(self, name: str) -> str:
        """What is written behind the end of an element."""
        prefix, _, element = name.rpartition(":")
        if element.lower() != "sheets" or not self._sheets:
            return ""
        tag = f"{prefix}:" if prefix else ""
        names = ""
        for place, sheet in enumerate(self._sheets):
            quoted = "'" + sheet.replace("'", "''") + "'"
            text = quoteattr(quoted)[1:-1]  # escaped as in an attribute; the quotes around it go
            names += (
                f'<{tag}definedName name="_xlnm.Print_Titles" localSheetId="{place}">{text}!$1:$1</{tag}definedName>'
            )
        return f"<{tag}definedNames>{names}</{tag}definedNames>"


def _number(value: Any) -> float:
    """A width as XML has it; 0 for none.

    >>> _number("9.5"), _number(None), _number("wide")
    (9.5, 0.0, 0.0)
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
