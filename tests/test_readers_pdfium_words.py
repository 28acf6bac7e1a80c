"""Words of PDFium, asked for many letters at a time, are what asking for every letter alone gives."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_pdf

from visrag_integrations.readers import PageReader

pytest.importorskip("pypdfium2")

import pymupdf
import pypdfium2
import pypdfium2.raw as pdfium

from visrag_integrations.readers import pdfium_words
from visrag_integrations.readers.pdfium_calls import Letters, kinds_of, objects_on

FILES = sorted((Path(__file__).parent / "data").rglob("*.pdf"))
ANGLES = (0, 33, 90, 180, 270)
Corners = tuple[float, float, float, float]


def pages(path: Path) -> list[Any]:
    document = pypdfium2.PdfDocument(path)
    return [document[number] for number in range(len(document))]


def letter(layer: Any, place: int) -> str:
    code = pdfium.FPDFText_GetUnicode(layer, place)
    if code == 0 or 0xD800 <= code < 0xE000 or code >= 0x110000:
        return "\ufffd"
    return chr(code)


def box(layer: Any, place: int) -> Corners:
    asked = pdfium.FS_RECTF()
    if not pdfium.FPDFText_GetLooseCharBox(layer, place, asked):
        return 0.0, 0.0, 0.0, 0.0
    return asked.left, asked.bottom, asked.right, asked.top


def hull(one: Corners, other: Corners) -> Corners:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def words_one_by_one(layer: Any) -> list[tuple[str, Corners]]:
    """Cut at white space, after hyphens of line ends, and where a letter stands in another line than the one before."""
    words: list[tuple[str, Corners]] = []
    run: list[tuple[str, Corners]] = []

    def end() -> None:
        if run:
            found = "".join(letter for letter, _ in run)
            words.append((found.replace("\x02", "-"), hull(run[0][1], run[-1][1])))
        run.clear()

    for place in range(pdfium.FPDFText_CountChars(layer)):
        here = letter(layer, place)
        if here.isspace():
            end()
            continue
        run.append((here, box(layer, place)))
        if here == "\x02":
            end()
    end()
    return words


def turned_pdf(path: Path) -> Path:
    """A page with lines in four directions, one of them slanted, and a column whose digits are painted as one."""
    with pymupdf.open() as document:
        page = document.new_page(width=400, height=400)
        middle = pymupdf.Point(200, 200)
        for angle in ANGLES:
            turn = pymupdf.Matrix(angle)
            page.insert_text((230, 200), f"Turned by {angle} degrees.", morph=(middle, turn))
        page.insert_text((20, 20), "12")
        page.insert_text((32, 33), "3")
        document.save(path)
    return path


def covered_pdf(path: Path) -> Path:
    with pymupdf.open() as document:
        page = document.new_page(width=400, height=400)
        page.insert_text((40, 100), "Seen words stay.")
        page.insert_text((40, 200), "Hidden words go.")
        picture = pymupdf.Pixmap(pymupdf.csRGB, (0, 0, 50, 50), 0)
        picture.clear_with(90)
        page.insert_image((30, 180, 230, 210), pixmap=picture, keep_proportion=False)
        document.save(path)
    return path


def odd_letters_pdf(path: Path) -> Path:
    """Letters of three bytes without names, so that they are their codes, U+10041 and U+10042; then plain ones."""
    table = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 1 def /CMapName /Long def\n"
        "2 begincodespacerange <20> <7F> <010000> <01FFFF> endcodespacerange\n"
        "2 begincidchar <010041> 1 <010042> 2 endcidchar endcmap end end"
    )
    drawn = "BT /F1 24 Tf 20 40 Td <010041010042434320> Tj ET"
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(drawn)} >> stream\n{drawn}\nendstream",
        "<< /Type /Font /Subtype /Type0 /BaseFont /Odd /Encoding 6 0 R /DescendantFonts [7 0 R] >>",
        f"<< /Type /CMap /CMapName /Long /Length {len(table)} >> stream\n{table}\nendstream",
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Odd /DW 900 /FontDescriptor 8 0 R "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 3 >> >>",
        "<< /Type /FontDescriptor /FontName /Odd /Flags 4 /FontBBox [0 -100 1000 900] /Ascent 900 /Descent -100 "
        "/CapHeight 900 /StemV 80 /ItalicAngle 0 >>",
    ]
    written = "%PDF-1.7\n"
    for number, body in enumerate(bodies, 1):
        written += f"{number} 0 obj {body} endobj\n"
    path.write_text(written + "trailer << /Root 1 0 R >>\n")
    return path


def drawn(name: str, folder: Path) -> Path:
    if name == "plain":
        return draw_pdf(folder / "plain.pdf", ["The harbour holds forty boats.", ""])
    if name == "turned":
        return turned_pdf(folder / "turned.pdf")
    if name == "covered":
        return covered_pdf(folder / "covered.pdf")
    return odd_letters_pdf(folder / "odd.pdf")


@pytest.mark.parametrize("name", [*(path.name for path in FILES), "plain", "turned", "covered", "odd letters"])
def test_letters_and_boxes_are_those_that_pdfium_gives_one_by_one(name: str, tmp_path: Path) -> None:
    path = next((path for path in FILES if path.name == name), None) or drawn(name, tmp_path)
    for page in pages(path):
        layer = page.get_textpage()
        letters = Letters(layer)
        places = range(pdfium.FPDFText_CountChars(layer))
        assert letters.text == "".join(letter(layer, place) for place in places)
        assert letters.boxes(places).tolist() == [list(box(layer, place)) for place in places]
        assert letters.boxes(places[::-2]).tolist() == [list(box(layer, place)) for place in places[::-2]]
        layer.close()


@pytest.mark.parametrize("name", [*(path.name for path in FILES if "arabic" not in str(path)), "plain", "covered"])
def test_words_are_the_runs_between_white_space(name: str, tmp_path: Path) -> None:
    path = next((path for path in FILES if path.name == name), None) or drawn(name, tmp_path)
    for page in pages(path):
        layer = page.get_textpage()
        expected = words_one_by_one(layer)
        cut = pdfium_words._cut(Letters(layer))
        assert cut.texts == [text for text, _ in expected]
        assert list(map(tuple, cut.corners.tolist())) == [corners for _, corners in expected]
        layer.close()


def test_words_of_every_direction_are_whole_and_two_lines_are_two_words(tmp_path: Path) -> None:
    (page,) = PageReader(backend="pdfium", ocr="never").read(turned_pdf(tmp_path / "turned.pdf"))
    expected = ["12", "3"]
    for angle in ANGLES:
        expected += ["Turned", "by", str(angle), "degrees."]
    assert sorted(word.text for word in page.words) == sorted(expected)


def test_what_a_picture_covers_is_told_from_what_it_does_not(tmp_path: Path) -> None:
    (page,) = PageReader(backend="pdfium", ocr="never").read(covered_pdf(tmp_path / "covered.pdf"))
    assert page.text == "Seen words stay."


def test_letters_beyond_16_bits_are_not_cut_to_plain_ones(tmp_path: Path) -> None:
    (page,) = pages(odd_letters_pdf(tmp_path / "odd.pdf"))
    assert Letters(page.get_textpage()).text == "\U00010041\U00010042CC "


def test_objects_of_a_page_are_those_that_pdfium_gives_one_by_one(tmp_path: Path) -> None:
    (page,) = pages(covered_pdf(tmp_path / "covered.pdf"))
    objects = objects_on(page)
    known = [pdfium.FPDFPage_GetObject(page, place) for place in range(pdfium.FPDFPage_CountObjects(page))]
    assert objects == [ctypes.addressof(item.contents) for item in known]
    assert kinds_of(objects) == [pdfium.FPDFPageObj_GetType(item) for item in known]
    assert pdfium.FPDF_PAGEOBJ_IMAGE in kinds_of(objects)


def test_a_page_without_words_has_none(tmp_path: Path) -> None:
    *_, page = pages(draw_pdf(tmp_path / "plain.pdf", ["Forty boats.", ""]))
    assert pdfium_words.painted_words(page).texts == []
    assert np.shape(Letters(page.get_textpage()).boxes([])) == (0, 4)
