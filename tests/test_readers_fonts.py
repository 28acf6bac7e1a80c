"""What this machine lacks is told by name: letters and fonts that no font has, parts of LibreOffice."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from office_files import docx, odf, xlsx

from visrag_integrations.errors import DocumentError
from visrag_integrations.readers import PageReader, fonts, office_components
from visrag_integrations.readers.office_input import prepare
from visrag_integrations.readers.office_notice import Notice
from visrag_integrations.readers.sources import identify

CASES = Path(__file__).parent / "data" / "cases"
needs_office = pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
LATIN = "20-7e a0-ff 2018-201e"
HINDI, THAI, CHINESE, ETHIOPIC = "नमस्ते", "สวัสดี", "合同", "ሰላም"


@pytest.fixture
def latin_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose fonts have Latin letters only, whatever this one has."""
    listed = {"%{charset}\n": [LATIN, "20-7e"], "%{family}\n": ["DejaVu Sans,DejaVu Sans Light", "Liberation Sans"]}
    monkeypatch.setattr(fonts, "_listed", lambda wanted: listed[wanted])
    fonts._covered.cache_clear()
    fonts._families.cache_clear()
    yield
    monkeypatch.undo()
    fonts._covered.cache_clear()
    fonts._families.cache_clear()


@pytest.mark.usefixtures("latin_only")
def test_letters_without_a_font_are_counted_by_script() -> None:
    found = fonts.undrawable(f"Größe “x” {HINDI} {THAI} {CHINESE}合 ☃")
    assert found == Counter(
        {"Devanagari": len(HINDI), "Thai": len(THAI), "Chinese, Japanese or Korean": 3, "symbols": 1}
    )


@pytest.mark.usefixtures("latin_only")
@pytest.mark.parametrize("text", ["plain", "Größe “quoted”", "a\u200db\ufeff\u00ad", "\uf0b7 list", "e\ufe0f", ""])
def test_what_is_drawn_or_shows_nothing_is_not_counted(text: str) -> None:
    assert fonts.undrawable(text) == Counter()


def test_where_nothing_is_known_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_listed", lambda wanted: [])
    fonts._covered.cache_clear()
    fonts._families.cache_clear()
    assert fonts.undrawable(HINDI) == Counter()
    assert fonts.missing_families(["Calibri"], ["DejaVuSans"]) == []
    monkeypatch.undo()
    fonts._covered.cache_clear()
    fonts._families.cache_clear()


@pytest.mark.usefixtures("latin_only")
def test_the_packages_to_install_are_named() -> None:
    said = fonts.undrawable_warning(fonts.undrawable(CHINESE + THAI), "are drawn as empty boxes")
    assert "fonts-noto-cjk fonts-noto-core" in said
    assert "8 characters" in said


@pytest.mark.usefixtures("latin_only")
@pytest.mark.parametrize(
    ("named", "drawn", "missing"),
    [
        (["Calibri", "Arial"], ["BAAAAA+DejaVuSans"], ["Calibri"]),
        (["Calibri", "Arial"], ["BAAAAA+LiberationSans-Bold"], []),  # all was drawn with what has Arial's widths
        (["Lohit Devanagari", "Liberation Sans"], ["BAAAAA+LiberationSans"], []),  # named and not used
        (["Corporate Sans"], ["BAAAAA+CorporateSans-Light"], []),  # it came with the document
        (["Wingdings", "Arial"], ["BAAAAA+OpenSymbol", "CAAAAA+LiberationSans"], []),
        (["Corporate Sans", "Calibri"], ["BAAAAA+DejaVuSans"], ["Calibri", "Corporate Sans"]),
        ([], ["BAAAAA+DejaVuSans"], []),
    ],
)
def test_fonts_that_others_stand_in_for(named: list[str], drawn: list[str], missing: list[str]) -> None:
    assert fonts.missing_families(named, drawn) == missing


def noticed(path: Path, tmp_path: Path) -> Notice:
    notice = Notice()
    prepare(identify(path, max_bytes=1 << 30), tmp_path / f"given{path.suffix}", notice=notice)
    return notice


def test_named_fonts_of_each_kind(tmp_path: Path) -> None:
    run = '<w:p><w:r><w:rPr><w:rFonts w:ascii="Calibri" w:cs="+mn-cs"/></w:rPr><w:t>x</w:t></w:r></w:p>'
    assert noticed(docx(tmp_path / "a.docx", run), tmp_path).fonts == {"Calibri"}
    styles = '<styleSheet><fonts><font><sz val="11"/><name val="Segoe UI"/></font></fonts><fills/></styleSheet>'
    book = xlsx(tmp_path / "a.xlsx", "</sheetData>", **{"xl/styles.xml": styles})
    assert noticed(book, tmp_path).fonts == {"Segoe UI"}
    face = '<style:font-face style:name="F" svg:font-family="\'Open Sans\', sans-serif"/>'
    assert noticed(odf(tmp_path / "a.odt", "text", "", automatic=face), tmp_path).fonts == {"Open Sans"}
    deck = docx(tmp_path / "b.docx", "<w:p/>", **{"word/d.xml": '<x:a xmlns:x="y"><x:latin typeface="Georgia"/></x:a>'})
    assert noticed(deck, tmp_path).fonts == {"Georgia"}
    (tmp_path / "a.rtf").write_text(
        r"{\rtf1\ansi{\fonttbl{\f0\froman\fcharset0 Times New Roman;}{\f1\fnil Verdana;}}x}"
    )
    assert noticed(tmp_path / "a.rtf", tmp_path).fonts == {"Times New Roman", "Verdana"}


def test_names_of_styles_are_no_fonts(tmp_path: Path) -> None:
    styles = '<w:styles xmlns:w="u"><w:style><w:name w:val="heading 1"/></w:style></w:styles>'
    assert noticed(docx(tmp_path / "a.docx", "<w:p/>", **{"word/styles.xml": styles}), tmp_path).fonts == set()


@needs_office
def test_a_page_says_what_is_drawn_as_boxes(tmp_path: Path, latin_only: None) -> None:
    path = docx(tmp_path / "a.docx", f"<w:p><w:r><w:t>word {CHINESE} {ETHIOPIC}</w:t></w:r></w:p>")
    (page,) = PageReader(ocr="never").read(path)
    (said,) = page.metadata["warnings"]
    assert said.startswith("5 characters are drawn as empty boxes")
    assert "Ethiopic" in said


@needs_office
def test_the_case_of_the_contract() -> None:
    """Here it is told whether or not this machine has Chinese letters."""
    has_chinese = not fonts.undrawable(CHINESE)
    for page in PageReader(ocr="never").read(CASES / "missing-glyphs" / "contract.docx"):
        boxes = [text for text in page.metadata.get("warnings", ()) if "empty boxes" in text]
        assert bool(boxes) != has_chinese


@needs_office
def test_the_document_says_which_fonts_lack(tmp_path: Path) -> None:
    run = '<w:p><w:r><w:rPr><w:rFonts w:ascii="No Such Font" w:hAnsi="No Such Font"/></w:rPr><w:t>x</w:t></w:r></w:p>'
    with PageReader(ocr="never").open(docx(tmp_path / "a.docx", run)) as document:
        assert [text for text in document.warnings if "the fonts No Such Font are not installed" in text]


def program(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in ("soffice", "soffice.bin", *names):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return str(folder / "soffice")


def test_missing_parts_of_libreoffice(tmp_path: Path) -> None:
    some = program(tmp_path / "some", "libswlo.so", "smath")
    assert not office_components.is_missing("writer", some)
    assert not office_components.is_missing("math", some)  # by its program, where libraries are merged
    assert office_components.is_missing("impress", some)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "soffice").touch()
    assert not office_components.is_missing("impress", str(tmp_path / "app" / "soffice"))


@pytest.mark.parametrize(
    ("name", "package"),
    [("a.pptx", "libreoffice-impress"), ("a.xlsx", "libreoffice-calc"), ("a.odt", "libreoffice-writer")],
)
def test_a_document_without_its_part_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    lean = program(tmp_path / "lean")
    monkeypatch.setattr("visrag_integrations.readers.office.shutil.which", lambda wanted: lean)
    path = docx(tmp_path / name, "<w:p/>")
    with pytest.raises(DocumentError, match=f"apt-get install {package}"):
        list(PageReader(ocr="never").read(path))


@needs_office
def test_formulas_without_math(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visrag_integrations.readers.office.is_missing", lambda part, _: part == "math")
    formula = (
        '<w:p xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"><m:oMath><m:r><m:t>x</m:t></m:r>'
    )
    with PageReader(ocr="never").open(docx(tmp_path / "a.docx", f"{formula}</m:oMath></w:p>")) as document:
        assert [text for text in document.warnings if "1 formulas are not shown" in text and "libreoffice-math" in text]
