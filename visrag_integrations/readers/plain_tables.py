"""Tables in plain text (.csv, .tsv): written as a workbook whose cells are texts, as they stand in the file.

A spreadsheet program would guess: 0815 becomes 815, 1-2 a day in January, =WEBSERVICE("...") a request. Before and
after:

    Part;Price          | Part | Price |
    0815;"1,50"         | 0815 | 1,50  |
"""

from __future__ import annotations

import csv
import itertools
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import escape

from visrag_integrations.errors import DocumentError
from visrag_integrations.readers.office_book import MAX_ROWS
from visrag_integrations.readers.plain_text import open_text
from visrag_integrations.readers.sources import Source

TABLES = frozenset([".csv", ".tsv"])
"""Endings of tables in plain text."""
MAX_BYTES = 256 << 20
"""Bytes that are looked at for the rows that are read; and those that are left out are counted in."""
# Letters in which the sign between the cells is looked for, and rows: a table has the same number of cells in each.
_SAMPLE, _SAMPLE_ROWS = 64 << 10, 50
_SEPARATORS = ",;\t|"
_EXCEL = re.compile(r"sep=(.)\n", re.IGNORECASE)  # a first line that Excel writes and takes for its own
# Letters of one cell, and columns, as Excel has them.
_MOST_IN_CELL = 32_767
_MOST_COLUMNS = 16_384
# Letters of a line that are read at once; a longer one, which no program writes, is cut into several.
_LONGEST_LINE = 4 << 20
# Lines in one cell: with more, a quotation mark was opened and never closed, and took in the rows that follow.
_MOST_LINES = 500
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MAIN = "http://schemas.openxmlformats.org"
_SHEET = f'xmlns="{_MAIN}/spreadsheetml/2006/main"'
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_MAIN}/package/2006/content-types"><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
    f'ContentType="{_TYPE}.sheet.main+xml"/><Override PartName="/xl/styles.xml" ContentType="{_TYPE}.styles+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_MAIN}/package/2006/relationships"><Relationship Id="r1" '
    f'Type="{_MAIN}/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook {_SHEET} xmlns:r="{_MAIN}/officeDocument/2006/relationships"><sheets><sheet '
    'name="Table" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_MAIN}/package/2006/relationships"><Relationship Id="r1" '
    f'Type="{_MAIN}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" '
    f'Type="{_MAIN}/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet {_SHEET}><fonts count="1"><font><sz val="10"/></font></fonts><fills count="1"><fill>'
    '<patternFill patternType="none"/></fill></fills><borders count="1"><border/></borders><cellStyleXfs count="1">'
    '<xf/></cellStyleXfs><cellXfs count="1"><xf numFmtId="49" applyNumberFormat="1"/></cellXfs></styleSheet>',
}


def write_workbook(source: Source, target: Path) -> list[str]:
    """Write a table as a workbook; gives what must be said about it.

    Raises:
        UnsupportedDocumentError: It is not text.
        DocumentError: It has no cell.
    """
    separator, quoted = _layout(source)
    try:
        counts = _write(source, target, separator, quoted)
    except csv.Error:  # a quotation mark that is opened and never closed
        counts = _write(source, target, separator, quoted=False)
        quoted = False
    if not counts["cells"]:
        raise DocumentError(source.name, "has no cell with anything in it. Delete it, or fill it and index it again.")
    said: list[str] = []
    if not quoted:
        said.append("it has a quotation mark without its second one, so that these marks are read as they stand.")
    if counts["rows left out"]:
        more = "at least " if counts["beyond"] else ""
        said.append(
            f"only the first {MAX_ROWS} rows are read; {more}{counts['rows left out']} rows were left out. Split the "
            "file to read them."
        )
    elif counts["beyond"]:
        said.append(f"only its first {MAX_BYTES >> 20} MiB are read. Split the file to read the rest.")
    if counts["cut cells"]:
        said.append(f"{counts['cut cells']} cells are longer than {_MOST_IN_CELL} characters; the rest was left out.")
    if counts["columns"]:
        said.append(f"cells beyond column {_MOST_COLUMNS} were left out.")
    return said


def _write(source: Source, target: Path, separator: str, quoted: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    with (
        open_text(source, MAX_BYTES) as text,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
    ):
        for name, content in _PARTS.items():
            made.writestr(name, content)
        with made.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write(f"<worksheet {_SHEET}><sheetData>".encode())
            rows = _rows(_lines(text), separator, quoted)
            for row in itertools.islice(rows, MAX_ROWS):
                sheet.write(_row_xml(row, counts))
            sheet.write(b"</sheetData></worksheet>")
            for row in rows:
                counts["rows left out"] += bool(row)
        counts["beyond"] = int(source.path is not None and source.path.stat().st_size > MAX_BYTES)
    return counts


def _lines(text: TextIO) -> Iterator[str]:
    """The lines of a table, without the one that Excel writes for itself."""
    line = text.readline(_LONGEST_LINE)
    if _EXCEL.fullmatch(line) is None:
        yield line
    while line := text.readline(_LONGEST_LINE):
        yield line


def _rows(text: Iterable[str], separator: str, quoted: bool) -> Iterator[list[str]]:
    if quoted:
        return csv.reader(text, delimiter=separator)
    return csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE)


def _row_xml(row: list[str], counts: Counter[str]) -> bytes:
    cells: list[str] = []
    for value in row[:_MOST_COLUMNS]:
        if len(value) > _MOST_IN_CELL:
            counts["cut cells"] += 1
            value = value[:_MOST_IN_CELL]
        if value.count("\n") > _MOST_LINES:
            raise csv.Error("a quotation mark that is not closed")
        counts["cells"] += bool(value.strip())
        plain = escape(_NO_XML.sub("", value))
        cells.append(f'<c t="inlineStr" s="0"><is><t xml:space="preserve">{plain}</t></is></c>')
    counts["columns"] += len(row) > _MOST_COLUMNS
    return f"<row>{''.join(cells)}</row>".encode()


def _layout(source: Source) -> tuple[str, bool]:
    """The sign between the cells, and whether quotation marks are what they usually are."""
    with open_text(source, _SAMPLE * 4) as text:
        sample = text.read(_SAMPLE)
    named = _EXCEL.match(sample)
    if named is not None:
        return named.group(1), True
    best, found = (0.0, 0), ","
    if source.suffix == ".tsv":
        found = "\t"
    for separator in _SEPARATORS:
        score = _evenness(sample, separator)
        if score > best:
            best, found = score, separator
    return found, True


def _evenness(sample: str, separator: str) -> tuple[float, int]:
    """How alike the rows are when cut at a sign, and how many cells they then have.

    >>> _evenness("a;b\\n1,5;2,5\\n1;2,25\\n", ";") > _evenness("a;b\\n1,5;2,5\\n1;2,25\\n", ",")
    True
    """
    counts: Counter[int] = Counter()
    try:
        for row in itertools.islice(_rows(sample.splitlines(keepends=True), separator, True), _SAMPLE_ROWS):
            if row:
                counts[len(row)] += 1
    except csv.Error:
        return 0.0, 0
    several = [(count, cells) for cells, count in counts.items() if cells > 1]
    if not several:
        return 0.0, 0
    most, cells = max(several)
    return most / counts.total(), cells
