"""Office files for the screen: sheets whose rows can be read whole, decks with their notes and hidden slides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from office_files import write_zip, xlsx

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
    import zipfile

    sheet = zipfile.ZipFile(tmp_path / "given.xlsx").read("xl/worksheets/sheet1.xml").decode()
    assert ("<v>10000</v>" in sheet, "<v>11000</v>" in sheet) == (True, False)
    assert sheet.count("<row") == sheet.count("</row>") == 10


def test_an_authors_column_widths_and_hidden_columns(tmp_path: Path) -> None:
    cols = '</sheetData><cols><col min="1" max="1" width="3"/><col min="2" max="2" width="40"/><col min="3" max="3" '
    path = xlsx(tmp_path / "a.xlsx", f'{cols}width="2" hidden="1"/><col min="4" max="4" width="3"/></cols>')
    prepare(identify(path, max_bytes=1 << 20), tmp_path / "given.xlsx")
    import zipfile

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
