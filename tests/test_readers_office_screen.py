"""Office files for the screen: sheets whose rows can be read whole, decks with their notes and hidden slides."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from office_files import ODF, write_zip, xlsx

from visrag_integrations.readers import PageReader, office_book
from visrag_integrations.readers.office_input import prepare
from visrag_integrations.readers.sources import identify
from visrag_integrations.types import Page

CASES = Path(__file__).parent / "data" / "cases"
needs_office = pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")


def read(path: Path) -> list[Page]:
    return list(PageReader(ocr="never").read(path))


def on_one_line(pages: list[Page], *texts: str) -> bool:
    """Whether a page has these texts at one height."""
    for page in pages:
        heights: dict[str, list[float]] = {}
        for word in page.words:
            heights.setdefault(word.text, []).append((word.box[1] + word.box[3]) / 2)
        first = heights.get(texts[0], [])
        if any(all(any(abs(at - y) < 0.01 for y in heights.get(text, [])) for text in texts[1:]) for at in first):
            return True
    return False


@needs_office
def test_a_row_of_a_wide_sheet_stands_on_one_page() -> None:
    pages = read(CASES / "wide-sheet" / "turbines.xlsx")
    assert on_one_line(pages, "T-017", "VG", "337")
    assert on_one_line(pages, "T-017", "1705")
    assert all("Turbine" in page.text for page in pages)  # the header, on each


@needs_office
def test_notes_are_searched_with_their_slide_and_kept_apart() -> None:
    pages = read(CASES / "slide-notes" / "harbour.pptx")
    assert [page.number for page in pages] == [1, 2, 3]
    assert "3 March" in pages[1].text
    assert "3 March" in pages[1].metadata["speaker_notes"]
    assert "March" not in [word.text for word in pages[1].words]
    assert "Norvik" in pages[2].text  # hidden
    assert pages[0].metadata["speaker_notes"] == "Greet the mayor first."
    assert "speaker_notes" not in pages[2].metadata


@needs_office
def test_tables_of_plain_text(tmp_path: Path) -> None:
    rows = ["Turbine," + ",".join(f"Column {n}" for n in range(20))]
    rows += [f"T-{n:03}," + ",".join(f"{n * 100000 + m}" for m in range(20)) for n in range(5)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    pages = read(tmp_path / "a.csv")
    assert on_one_line(pages, "T-004", "400019")
    assert not any("###" in page.text for page in pages)


def test_rows_beyond_the_limit_are_cut_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_book, "MAX_ROWS", 10)
    rows = "".join(f'<row r="{n}"><c r="A{n}"><v>{n * 1000}</v></c></row>' for n in range(2, 31))
    path = xlsx(tmp_path / "a.xlsx", rows + "</sheetData>")
    said = prepare(identify(path, max_bytes=1 << 20), tmp_path / "given.xlsx")
    assert "20 rows were left out" in said[0]
    sheet = zipfile.ZipFile(tmp_path / "given.xlsx").read("xl/worksheets/sheet1.xml").decode()
    assert ("<v>10000</v>" in sheet, "<v>11000</v>" in sheet) == (True, False)
    assert sheet.count("<row") == sheet.count("</row>") == 10


def test_an_authors_column_widths_and_hidden_columns(tmp_path: Path) -> None:
    cols = '</sheetData><cols><col min="1" max="1" width="3"/><col min="2" max="2" width="40"/><col min="3" max="3" '
    path = xlsx(tmp_path / "a.xlsx", f'{cols}width="2" hidden="1"/><col min="4" max="4" width="3"/></cols>')
    prepare(identify(path, max_bytes=1 << 20), tmp_path / "given.xlsx")
    sheet = zipfile.ZipFile(tmp_path / "given.xlsx").read("xl/worksheets/sheet1.xml").decode()
    assert 'min="1" max="1" width="16.5"' in sheet  # "before the link" stands in it
    assert 'min="4" max="4" width="14.0"' in sheet
    assert 'width="40.0"' in sheet
    assert 'width="2" hidden="1"' in sheet


def test_notes_of_a_damaged_deck_are_none(tmp_path: Path) -> None:
    from visrag_integrations.readers.office_notes import speaker_notes

    assert speaker_notes(write_zip(tmp_path / "a.pptx", {"ppt/presentation.xml": "<no"})) == {}
    (tmp_path / "b.pptx").write_bytes(b"no zip")
    assert speaker_notes(tmp_path / "b.pptx") == {}


@needs_office
def test_a_pool_leaves_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes are killed with a document open."""
    from visrag_integrations.readers.pool import PageRead, ReaderPool

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    events = list(ReaderPool(PageReader(ocr="never"), 1).read_documents(CASES / "slide-notes" / "harbour.pptx"))
    assert len([event for event in events if isinstance(event, PageRead)]) == 3
    assert list(tmp_path.iterdir()) == []


# What follows is drawn for these tests: sheets as LibreOffice writes them of an OpenDocument file.
NUMBERS = (
    '<number:number-style style:name="N1"><number:number number:decimal-places="2" number:min-decimal-places="2" '
    'number:min-integer-digits="1" number:grouping="true"/><number:text> EUR</number:text></number:number-style>'
    '<style:style style:name="n" style:family="table-cell" style:data-style-name="N1"/>'
)
LONG = "Item with a long description that goes on until the very end of its line, whose last word is harbourmaster"


def sheet(path: Path, rows: list[list[object]]) -> Path:
    """A sheet of OpenDocument; numbers are amounts of money."""
    text = ""
    for row in rows:
        text += "<table:table-row>"
        for value in row:
            if isinstance(value, str):
                text += f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'
            else:
                text += f'<table:table-cell table:style-name="n" office:value-type="float" office:value="{value}"/>'
        text += "</table:table-row>"
    number = 'xmlns:number="urn:oasis:names:tc:opendocument:xmlns:datastyle:1.0"'
    path.write_text(
        f'<?xml version="1.0"?><office:document {ODF} {number} office:version="1.2" '
        'office:mimetype="application/vnd.oasis.'
        f'opendocument.spreadsheet"><office:automatic-styles>{NUMBERS}</office:automatic-styles><office:body>'
        f'<office:spreadsheet><table:table table:name="S">{text}</table:table></office:spreadsheet></office:body>'
        "</office:document>"
    )
    return path


@needs_office
@pytest.mark.parametrize("columns", [30, 200])
def test_a_very_wide_sheet_goes_on_with_its_key_and_header_on_each_page(tmp_path: Path, columns: int) -> None:
    rows: list[list[object]] = [["Key", *(f"Col{c}" for c in range(2, columns + 1))]]
    rows += [[f"K-{n:03}", *(f"v{n}.{c}" for c in range(2, columns + 1))] for n in range(1, 20)]
    pages = read(sheet(tmp_path / "a.fods", rows))
    assert on_one_line(pages, "K-007", f"v7.{columns}")
    assert all("Key" in page.text and "K-019" in page.text for page in pages)
    tall = [word.box[3] - word.box[1] for word in pages[-1].words]
    assert sorted(tall)[len(tall) // 2] * 1130 > 7  # pixels of a line, on a page as it is embedded


@needs_office
def test_long_texts_and_numbers_are_whole(tmp_path: Path) -> None:
    rows: list[list[object]] = [["Name", "Amount", "Next"], [LONG, 123456789012.25, "x"], [LONG, -0.5, LONG]]
    pages = read(sheet(tmp_path / "a.fods", rows))
    text = " ".join(page.text for page in pages)
    assert text.split().count("harbourmaster") == 3
    assert "123,456,789,012.25" in text
    assert "#" not in text


def test_frozen_rows_are_the_header_and_an_authors_choice_stays(tmp_path: Path) -> None:
    cells = '</sheetData><sheetViews><sheetView><pane ySplit="3" xSplit="2" state="frozen"/></sheetView></sheetViews>'
    path = xlsx(tmp_path / "a.xlsx", cells)
    prepare(identify(path, max_bytes=1 << 20), tmp_path / "given.xlsx")
    assert "'S'!$1:$3</definedName>" in workbook(tmp_path / "given.xlsx")
    own = '<definedNames><definedName name="_xlnm.Print_Titles" localSheetId="0">S!$5:$5</definedName></definedNames>'
    book = workbook(path).replace("</sheets>", f"</sheets>{own}")
    path = xlsx(tmp_path / "a.xlsx", cells, **{"xl/workbook.xml": book})
    prepare(identify(path, max_bytes=1 << 20), tmp_path / "given.xlsx")
    assert "$1:$3" not in workbook(tmp_path / "given.xlsx")
    assert "S!$5:$5" in workbook(tmp_path / "given.xlsx")


def workbook(path: Path) -> str:
    with zipfile.ZipFile(path) as package:
        return package.read("xl/workbook.xml").decode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_rows_are_cut_in_every_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(office_book, "MAX_ROWS", 10)
    rows = "".join(f'<x:row r="{n}"><x:c r="A{n}"><x:v>{n * 1000}</x:v></x:c></x:row>' for n in range(1, 31))
    part = f'<?xml version="1.0" encoding="{encoding}"?><x:worksheet xmlns:x="u"><x:sheetData>{rows}</x:sheetData>'
    part += "</x:worksheet>"
    path = xlsx(tmp_path / "a.xlsx", "</sheetData>", **{"xl/worksheets/sheet1.xml": part.encode(encoding)})
    (said,) = prepare(identify(path, max_bytes=1 << 20), tmp_path / "given.xlsx")
    assert "20 rows were left out" in said
    sheet_xml = zipfile.ZipFile(tmp_path / "given.xlsx").read("xl/worksheets/sheet1.xml").decode()
    assert sheet_xml.count("<x:row") == sheet_xml.count("</x:row>") == 10


@pytest.mark.slow
def test_a_sheet_of_a_million_rows_costs_no_more_than_its_beginning(tmp_path: Path) -> None:
    """What is cut off is skipped as bytes; to parse it would take minutes."""
    row = '<row r="{0}"><c r="A{0}"><v>{0}</v></c><c r="B{0}" t="inlineStr"><is><t>name {0}</t></is></c></row>'
    rows = "".join(row.format(n) for n in range(2, 1_000_002))
    path = xlsx(tmp_path / "a.xlsx", f"{rows}</sheetData>")
    (said,) = prepare(identify(path, max_bytes=1 << 30), tmp_path / "given.xlsx")
    assert "980001 rows were left out" in said
    with zipfile.ZipFile(tmp_path / "given.xlsx") as package:
        assert package.getinfo("xl/worksheets/sheet1.xml").file_size < 4 << 20
