"""What a workbook holds, looked through before it is copied: how wide each column must be, which rows are its header.

Only the rows that are read are looked at. Where the rest begins and ends is noted in bytes, so that a sheet of a
million rows costs no more than the first of them.
"""

from __future__ import annotations

import re
import zipfile
from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import IO, Any
from xml.parsers import expat

from visrag_integrations.readers.office_number_width import Formats, read_formats

# Rows of a sheet that are read: some four hundred pages. More would fill an index with one file's numbers.
MAX_ROWS = 20_000
# Characters that a text is given in one line; a longer one goes on below, in its own cell.
_TEXT_WIDTH = 40.0
# Strings of a workbook whose lengths are looked at; of those beyond it is assumed that they are long.
_MOST_STRINGS = 500_000
# Columns that Excel has.
_MOST_COLUMNS = 16_384
# Frozen rows and columns that are repeated on each page; with more there would be little room for the rest.
_MOST_FROZEN_ROWS, _MOST_FROZEN_COLUMNS = 8, 4
_BLOCK = 1 << 20
# Pieces of a text that are looked at: how long it is makes no difference any more.
_MOST_PIECES = 100
_SMALL_PART = 64 << 20  # bytes; larger lists of sheets and styles are no workbook's
_ROW = re.compile(rb"<(?:[\w.-]+:)?row[\s/>]")
_END = re.compile(rb"</(?:[\w.-]+:)?sheetData\s*>")


@dataclass
class SheetPlan:
    """How one sheet is printed.

    Attributes:
        widths: Characters that the contents of a column need, by its number from 1.
        header: Rows and columns, from the first, that stand on each page.
        cut: The bytes of its part that are left out: rows beyond those that are read.
        cut_rows: How many rows these are.
        columns: First and last of the columns that its author prints; None for all.
        own_titles: Its author chose which rows stand on each page.
    """

    widths: dict[int, float] = field(default_factory=dict)
    header: tuple[int, int] = (1, 1)
    cut: tuple[int, int] | None = None
    cut_rows: int = 0
    columns: tuple[int, int] | None = None
    own_titles: bool = False


@dataclass
class Book:
    """A workbook's sheets.

    Attributes:
        plans: By the name of their part: "xl/worksheets/sheet1.xml".
        parts: The names of the parts, in the order of the sheets.
    """

    plans: dict[str, SheetPlan] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)


def look_through(package: zipfile.ZipFile, names: Collection[str]) -> Book:
    """What there is to know about the workbook in a package; nothing where it holds none, or a damaged one."""
    book = Book()
    if "xl/workbook.xml" not in names:
        return book
    try:
        book.parts = _parts_in_order(package, names)
        formats = Formats()
        if "xl/styles.xml" in names:
            formats = read_formats(_small(package, "xl/styles.xml"))
        lengths = _string_lengths(package, names)
        for name in names:
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                with package.open(name) as part:
                    book.plans[name] = _Scan(formats, lengths).plan(part)
        _note_authors_choices(package, book)
    except (expat.ExpatError, zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError):
        return Book()
    return book


def column_number(reference: str) -> int:
    """The number of a cell's column, from 1; 0 where it names none.

    >>> column_number("A1"), column_number("AB12"), column_number("$C$4"), column_number("7")
    (1, 28, 3, 0)
    """
    number = 0
    for letter in reference.replace("$", ""):
        if not "A" <= letter <= "Z":
            break
        number = number * 26 + ord(letter) - 64
    return min(number, _MOST_COLUMNS)


class _Enough(Exception):
    """The rows that are read have been seen."""


class _Scan:
    """Goes through one sheet."""

    def __init__(self, formats: Formats, lengths: array[int]) -> None:
        self._formats, self._lengths = formats, lengths
        self._plan = SheetPlan()
        self._rows = self._cut = 0
        self._column = 0
        self._kind = self._style = ""
        self._text: list[str] | None = None
        self._parser = _parser(self._start, self._end, self._characters)

    def plan(self, part: IO[bytes]) -> SheetPlan:
        try:
            while block := part.read(_BLOCK):
                self._parser.Parse(block)
            self._parser.Parse(b"", True)
        except _Enough:
            rows, ends = _rows_from(part, self._cut)
            if ends is not None:  # else they are left out one by one, as they are copied
                self._plan.cut_rows, self._plan.cut = rows, (self._cut, ends)
        return self._plan

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        element = name.rpartition(":")[2]
        if element == "c":
            self._column = column_number(attributes.get("r", "")) or self._column + 1
            self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "")
        elif element in {"v", "t"}:
            self._text = []
        elif element == "row":
            self._rows += 1
            self._column = 0
            if self._rows > MAX_ROWS:
                self._cut = self._parser.CurrentByteIndex
                raise _Enough
        elif element == "pane" and attributes.get("state", "").startswith("frozen"):
            rows, columns = (int(float(attributes.get(key, 0))) for key in ("ySplit", "xSplit"))
            self._plan.header = (
                rows if 0 < rows <= _MOST_FROZEN_ROWS else 1,
                columns if 0 < columns <= _MOST_FROZEN_COLUMNS else 1,
            )

    def _end(self, name: str) -> None:
        if self._text is None:
            return
        text, self._text = "".join(self._text), None
        width = self._width(text)
        if width > self._plan.widths.get(self._column, 0.0):
            self._plan.widths[self._column] = width

    def _characters(self, text: str) -> None:
        if self._text is not None and len(self._text) < _MOST_PIECES:
            self._text.append(text)

    def _width(self, text: str) -> float:
        if self._kind == "s":
            index = int(text)
            if 0 <= index < len(self._lengths):
                return float(self._lengths[index])
            return _TEXT_WIDTH
        if self._kind == "n":
            return self._formats.width(text, self._style)
        return float(_text_width(text))


def _text_width(text: str) -> int:
    """Characters that a text is given in a line; letters of Chinese are as wide as two."""
    longest = 0
    for line in text.splitlines():
        wide = 0
        if not line.isascii():
            wide = sum(letter > "\u1100" for letter in line)
        longest = max(longest, len(line) + wide)
    return min(longest, int(_TEXT_WIDTH))


def _rows_from(part: IO[bytes], begins: int) -> tuple[int, int | None]:
    """How many rows there are from a place on, and where they end; None where they have no end."""
    part.seek(begins)
    rows = 0
    place = begins
    before = b""
    while block := part.read(_BLOCK):
        data = before + block
        end = _END.search(data)
        if end is not None:
            return rows + len(_ROW.findall(data, 0, end.start())), place - len(before) + end.start()
        # A tag may lie across two blocks: what could be its beginning is looked at again.
        kept = data.rfind(b"<")
        whole = data[:kept] if kept >= 0 else data
        rows += len(_ROW.findall(whole))
        place += len(block)
        before = data[len(whole) :][-_LONGEST_TAG:]
    return rows, None


# Bytes of the beginning of a tag that are kept from one block to the next.
_LONGEST_TAG = 64 << 10


def _string_lengths(package: zipfile.ZipFile, names: Collection[str]) -> array[int]:
    """The width of each shared string."""
    lengths = array("H")
    if "xl/sharedStrings.xml" not in names:
        return lengths
    pieces: list[str] = []
    depth_of_text = [0]

    def start(name: str, _: dict[str, str]) -> None:
        element = name.rpartition(":")[2]
        depth_of_text[0] = int(element == "t")
        if element == "si":
            pieces.clear()

    def end(name: str) -> None:
        depth_of_text[0] = 0
        if name.rpartition(":")[2] == "si":
            lengths.append(_text_width("".join(pieces)))
            if len(lengths) >= _MOST_STRINGS:
                raise _Enough

    def characters(text: str) -> None:
        if depth_of_text[0] and len(pieces) < _MOST_PIECES:
            pieces.append(text)

    parser = _parser(start, end, characters)
    try:
        with package.open("xl/sharedStrings.xml") as part:
            while block := part.read(_BLOCK):
                parser.Parse(block)
    except _Enough:
        pass
    return lengths


def _parser(start: Any, end: Any, characters: Any) -> Any:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = characters
    parser.EntityDeclHandler = _refuse_entity
    return parser


def _refuse_entity(*_: object) -> None:
    raise ValueError("no office program declares entities")


def _small(package: zipfile.ZipFile, name: str) -> bytes:
    with package.open(name) as part:
        return part.read(_SMALL_PART)


def _elements(data: bytes) -> list[tuple[str, dict[str, str], list[str]]]:
    """Name, attributes and text of each element, in order; names without their namespaces."""
    found: list[tuple[str, dict[str, str], list[str]]] = []
    waiting: list[tuple[str, dict[str, str], list[str]]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        plain = {key.rpartition(":")[2]: value for key, value in attributes.items()}
        waiting.append((name.rpartition(":")[2], plain, []))
        found.append(waiting[-1])

    def end(_: str) -> None:
        waiting.pop()

    def characters(text: str) -> None:
        if waiting:
            waiting[-1][2].append(text)

    _parser(start, end, characters).Parse(data, True)
    return found


def _parts_in_order(package: zipfile.ZipFile, names: Collection[str]) -> list[str]:
    """The part of each sheet, in the order in which the workbook lists them; "" for one that leads nowhere."""
    targets: dict[str, str] = {}
    if "xl/_rels/workbook.xml.rels" in names:
        for name, attributes, _ in _elements(_small(package, "xl/_rels/workbook.xml.rels")):
            if name == "Relationship":
                target = attributes.get("Target", "").lstrip("/")
                targets[attributes.get("Id", "")] = target if target.startswith("xl/") else f"xl/{target}"
    parts: list[str] = []
    for name, attributes, _ in _elements(_small(package, "xl/workbook.xml")):
        if name == "sheet":
            parts.append(targets.get(attributes.get("id", ""), ""))
    return parts


def _note_authors_choices(package: zipfile.ZipFile, book: Book) -> None:
    """The printing area and the rows on each page, where the author of a sheet chose them."""
    for name, attributes, text in _elements(_small(package, "xl/workbook.xml")):
        place = attributes.get("localSheetId", "")
        if name != "definedName" or not place.isdecimal() or int(place) >= len(book.parts):
            continue
        plan = book.plans.get(book.parts[int(place)])
        if plan is None:
            continue
        if attributes.get("name") == "_xlnm.Print_Titles":
            plan.own_titles = True
        elif attributes.get("name") == "_xlnm.Print_Area":
            first, _, last = "".join(text).rpartition("!")[2].partition(":")
            if column_number(first) and column_number(last):
                plan.columns = (column_number(first), column_number(last))
