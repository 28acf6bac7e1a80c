"""Sheets for the screen: a row on one page, the header on each, columns as wide as what is in them.

What is changed in the XML of a workbook on its way to LibreOffice; the printing area that an author set stays.
"""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import quoteattr

from visrag_integrations.readers import office_book
from visrag_integrations.readers.office_book import Book, SheetPlan

# Characters. In a narrower column a date with its time, or a number of a million with its cents, becomes "###".
_LEAST_WIDTH = 14.0
# Characters that a column is wider than its longest entry: the bold face of a header, and the lines of the grid.
_ROOM = 1.5
# A column that its author made wider than this is made as wide as what is in it.
_MOST_WIDTH = 60.0
# Characters side by side on one page; a wider sheet goes on to the right on further pages, its first columns on each. A
# page has some 1,600 pixels across, so that a letter is given six. With more, letters of five pixels cannot be read;
# with fewer, a row of 18 columns is torn apart.
PAGE_WIDTH = 280.0
# Inches. What a printer needs at the edges is room for letters here.
_MARGINS = {"left": "0.2", "right": "0.2", "top": "0.4", "bottom": "0.4", "header": "0.15", "footer": "0.15"}
# What LibreOffice prints of a sheet is scaled to at most so many pages side by side.
_MOST_ACROSS = 1000
_ON = {"1", "true"}


class SheetEdits:
    """Edits one part of a workbook while it is copied; parts of other kinds pass as they are.

    Args:
        book: What is known of the workbook.
        part: The name of the part.
    """

    def __init__(self, book: Book | None = None, part: str = "") -> None:
        self._book = book or Book()
        self._plan = self._book.plans.get(part, SheetPlan())
        self.cut_rows = self._plan.cut_rows
        self.cut_bytes = self._plan.cut
        self.skipping = False
        self._in_sheet = False
        self._in_styles = False
        self._has_setup = self._has_margins = self._has_columns = self._has_alignment = False
        self._rows = 0
        self._sheets: list[str] = []
        self._authors: dict[int, dict[str, str]] = {}  # columns that were described, by their numbers
        self._beyond: list[dict[str, str]] = []  # columns to the right of what there is

    def attributes(self, element: str, kept: dict[str, Any]) -> dict[str, Any]:
        """The attributes that an element is written with."""
        if element == "worksheet":
            self._in_sheet, self._has_setup, self._rows = True, False, 0
        elif element == "sheet" and "name" in kept:
            self._sheets.append(str(kept["name"]))
        elif element == "cellxfs":
            self._in_styles = True
        if self._in_styles:
            return self._style(element, kept)
        if not self._in_sheet:
            return kept
        if element == "row":
            self._rows += 1
            self.skipping = self._rows > office_book.MAX_ROWS
            self.cut_rows += self.skipping
        elif element == "pagesetuppr":
            kept["fitToPage"] = "1"
        elif element == "pagemargins":
            self._has_margins = True
            kept.update(_MARGINS)
        elif element == "pagesetup":
            self._has_setup = True
            kept = {key: value for key, value in kept.items() if key not in {"scale", "fitToWidth", "fitToHeight"}}
            kept.update(self._setup())
        elif element == "col":
            self._note_column(kept)
        elif element == "sheetformatpr":
            kept["defaultColWidth"] = str(max(_number(kept.get("defaultColWidth")), _LEAST_WIDTH))
        return kept

    def is_left_out(self, element: str) -> bool:
        """Whether an element is written elsewhere, in another form."""
        return self._in_sheet and element == "col"

    def before_start(self, name: str) -> str:
        """What is written in front of an element."""
        prefix, element = _parts(name)
        if self._in_sheet and element == "sheetdata" and not self._has_columns:
            columns = self._columns(prefix)
            return f"<{prefix}cols>{columns}</{prefix}cols>" if columns else ""
        return ""

    def after_start(self, name: str) -> str:
        """What is written behind the beginning of an element."""
        prefix, element = _parts(name)
        if element == "cols" and self._in_sheet:
            self._has_columns = True
        if element != "worksheet":
            return ""
        return f'<{prefix}sheetPr><{prefix}pageSetUpPr fitToPage="1"/></{prefix}sheetPr>'

    def before_end(self, name: str) -> str:
        """What is written in front of the end of an element."""
        prefix, element = _parts(name)
        if element == "cellxfs":
            self._in_styles = False
        elif self._in_styles and element == "xf" and not self._has_alignment:
            return f'<{prefix}alignment wrapText="1"/>'
        elif element == "cols" and self._in_sheet:
            return self._columns(prefix)
        elif element == "worksheet":
            self._in_sheet = False
            added = ""
            if not self._has_margins:
                added += _element(f"{prefix}pageMargins", _MARGINS)
            if not self._has_setup:
                added += _element(f"{prefix}pageSetup", self._setup())
            return added
        return ""

    def after_end(self, name: str) -> str:
        """What is written behind the end of an element."""
        prefix, element = _parts(name)
        if element != "sheets" or not self._sheets:
            return ""
        names = ""
        for place, sheet in enumerate(self._sheets):
            plan = SheetPlan()
            if place < len(self._book.parts):
                plan = self._book.plans.get(self._book.parts[place], plan)
            if plan.own_titles:
                continue
            text = _titles(sheet, plan)
            names += (
                f'<{prefix}definedName name="_xlnm.Print_Titles" localSheetId="{place}">{text}</{prefix}definedName>'
            )
        return f"<{prefix}definedNames>{names}</{prefix}definedNames>" if names else ""

    def _style(self, element: str, kept: dict[str, Any]) -> dict[str, Any]:
        """Texts go on below in their cells: cut off at the next one, they would be lost."""
        if element == "xf":
            self._has_alignment = False
            kept["applyAlignment"] = "1"
        elif element == "alignment":
            self._has_alignment = True
            kept["wrapText"] = "1"
            kept.pop("shrinkToFit", None)
        return kept

    def _setup(self) -> dict[str, str]:
        return {
            "fitToWidth": str(pages_across(self._plan)),
            "fitToHeight": "0",
            "orientation": "landscape",
            "pageOrder": "overThenDown",
        }

    def _note_column(self, kept: dict[str, str]) -> None:
        first, last = int(_number(kept.get("min"))), int(_number(kept.get("max")))
        used = max(self._plan.widths, default=0)
        for number in range(first, min(last, used) + 1):
            self._authors[number] = kept
        if last > used:
            self._beyond.append({**kept, "min": str(max(first, used + 1))})

    def _columns(self, prefix: str) -> str:
        """The description of all columns."""
        text = ""
        for number in range(1, max(self._plan.widths, default=0) + 1):
            about = {"min": str(number), "max": str(number)}
            text += _column(prefix, {**self._authors.get(number, {}), **about}, self._plan.widths.get(number, 0.0))
        for about in self._beyond:
            text += _column(prefix, about, 0.0)
        return text


def pages_across(plan: SheetPlan) -> int:
    """How many pages a sheet is wide, so that it can be read on each.

    >>> pages_across(SheetPlan({number: 10.0 for number in range(1, 21)}))
    1
    >>> pages_across(SheetPlan({number: 10.0 for number in range(1, 201)}))
    11
    """
    first, last = plan.columns or (1, max(plan.widths, default=0))
    total = sum(_width_of(plan.widths.get(number, 0.0)) for number in range(first, last + 1))
    if total <= PAGE_WIDTH:
        return 1
    repeated = sum(_width_of(plan.widths.get(number, 0.0)) for number in range(1, plan.header[1] + 1))
    room = max(PAGE_WIDTH - repeated, PAGE_WIDTH / 2)
    return min(math.ceil((total - repeated) / room), _MOST_ACROSS)


def _width_of(needed: float) -> float:
    return max(needed + _ROOM, _LEAST_WIDTH)


def _column(prefix: str, about: dict[str, str], needed: float) -> str:
    """The description of one column, from that of its author."""
    if about.get("hidden") not in _ON:
        own = min(_number(about.get("width")), _MOST_WIDTH)
        about = {**about, "width": str(max(own, _width_of(needed))), "customWidth": "1"}
    return _element(f"{prefix}col", about)


def _element(name: str, attributes: dict[str, str]) -> str:
    written = " ".join(f"{key}={quoteattr(str(value))}" for key, value in attributes.items())
    return f"<{name} {written}/>"


def _titles(sheet: str, plan: SheetPlan) -> str:
    """What stands on each page of a sheet, as a formula names it."""
    quoted = "'" + sheet.replace("'", "''") + "'"
    name = quoteattr(quoted)[1:-1]  # escaped as in an attribute; the quotes around it go
    rows, columns = plan.header
    text = f"{name}!$1:${rows}"
    if pages_across(plan) > 1:
        text = f"{name}!$A:${'ABCDEFGH'[columns - 1]},{text}"
    return text


def _parts(name: str) -> tuple[str, str]:
    """What stands before an element's name, and the name in small letters.

    >>> _parts("x:sheetData"), _parts("sheets")
    (('x:', 'sheetdata'), ('', 'sheets'))
    """
    prefix, colon, element = name.rpartition(":")
    return prefix + colon, element.lower()


def _number(value: Any) -> float:
    """A width as XML has it; 0 for none.

    >>> _number("9.5"), _number(None), _number("wide")
    (9.5, 0.0, 0.0)
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
