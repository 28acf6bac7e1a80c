"""OCR of pages that lie on a side or on their heads, and of pages too large to be read at once."""

from __future__ import annotations

import io
import resource
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from fakes import PixelEmbedder
from PIL import Image, ImageDraw

from visrag_integrations import QdrantPageStore, ocr
from visrag_integrations.errors import VisRAGError
from visrag_integrations.ingestion import index_documents
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.image_files import ImageDetail
from visrag_integrations.types import Page

CASES = Path(__file__).parent / "data" / "cases"
LINES = [
    "Maintenance contract 2031",
    "The pump station Alder Creek is inspected every nine weeks.",
    "The inspection fee is 1,845.50 EUR per visit.",
    "Spare valves are kept in storage room C17.",
    "Contact the duty engineer before opening the main gate.",
    "Noise above 85 dB requires ear protection.",
]


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("rapidocr")


def darkness(page: Page, box: tuple[float, float, float, float]) -> float:
    image = page.open_image().convert("L")
    area = (box[0] * image.width, box[1] * image.height, box[2] * image.width, box[3] * image.height)
    histogram = image.crop(tuple(map(round, area))).histogram()
    return sum(histogram[:128]) / sum(histogram)


def check(page: Page, turn: int) -> None:
    # OCR loses narrow spaces of some scans ("EURper").
    assert [line.replace(" ", "") for line in page.text.splitlines()] == [line.replace(" ", "") for line in LINES]
    assert [word.text for word in page.words] == page.text.splitlines()
    assert page.metadata["text_source"] == "ocr"
    assert page.metadata.get("text_turned", 0) == turn
    for word in page.words:
        left, top, right, bottom = word.box
        width, height = page.open_image().size
        assert ((right - left) * width > (bottom - top) * height) == (turn in (0, 180))
        assert darkness(page, word.box) > 0.05


@pytest.mark.parametrize("name", ["turned-180", "turned-90-left", "turned-90-right"])
@pytest.mark.parametrize("backend", ["pymupdf", pytest.param("pdfium", marks=pytest.mark.slow)])
def test_scans_that_were_fed_the_wrong_way_round(name: str, backend: Any) -> None:
    (page,) = PageReader(backend=backend).read(CASES / "upside-down-scan" / f"{name}.pdf")
    check(page, {"turned-180": 180, "turned-90-left": 90, "turned-90-right": 270}[name])


@pytest.mark.slow
def test_single_turned_pages_in_a_stack() -> None:
    upright = Image.open(CASES / "upside-down-scan" / "upright.png").convert("L")
    pages = [upright.rotate(angle, expand=True) for angle in (0, 180, 270)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    for page, turn in zip(PageReader().read(buffer.getvalue()), (0, 180, 270), strict=True):
        check(page, turn)


def test_an_upright_page_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visrag_integrations.ocr.page.read_line", lambda picture: pytest.fail("looked at again"))
    found = ocr.read_page(Image.open(CASES / "upside-down-scan" / "upright.png"))
    assert found.text().splitlines() == LINES
    assert found.turn == 0


def sheet(width: int, height: int, *lines: tuple[int, int, str]) -> Image.Image:
    """A drawing with frames, and small print in some places."""
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, width - 20, height - 20), outline=0, width=4)
    for left, top, text in lines:
        draw.text((left, top), text, fill=0, font_size=26)
    return image


@pytest.mark.slow
def test_a_line_across_two_parts_is_read_whole() -> None:
    text = "Ground floor plan of the pump house at Alder Creek, drawing HX-7782-B"
    image = sheet(4000, 3200, (500, 1000, text), (100, 3000, "Valve list see sheet 9"))
    found = ocr.read_page(image.resize((1000, 800)), ImageDetail(image))
    assert [word.text for word in found.words] == [text, "Valve list see sheet 9"]
    left, top, right, _ = found.words[0].box
    assert (left, top) == pytest.approx((500 / 4000, 1000 / 3200), abs=0.01)
    assert right > 0.3


@pytest.mark.slow
def test_a_long_receipt_is_read_in_parts() -> None:
    lines = [(40, 100 + 400 * place, f"Item {place + 1}   price {place + 3}.50 EUR") for place in range(12)]
    buffer = io.BytesIO()
    sheet(600, 5000, *lines).save(buffer, "PNG")
    text = "\n".join(page.text for page in PageReader().read(buffer.getvalue()))  # a page a tile
    for place in range(12):
        assert f"{place + 3}.50 EUR" in text


@pytest.mark.slow
def test_ocr_pixels_is_a_setting() -> None:
    image = sheet(4000, 3200, (500, 1000, "Drawing HX-7782-B"))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    (page,) = PageReader(ocr_pixels=700_000).read(buffer.getvalue())
    assert "HX-7782-B" not in page.text
    (closer,) = PageReader().read(buffer.getvalue())
    assert "HX-7782-B" in closer.text
    with pytest.raises(VisRAGError, match="ocr_pixels"):
        PageReader(ocr_pixels=0)


def test_a_large_page_of_which_nothing_could_be_read_says_so() -> None:
    buffer = io.BytesIO()
    sheet(4000, 3200).save(buffer, "PNG")
    (page,) = PageReader(ocr_pixels=700_000).read(buffer.getvalue())
    assert page.text == ""
    assert "ocr_pixels" in page.metadata["text_suspect"]


def scanned(*lines: str) -> bytes:
    """A picture of printed lines, of any script."""
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=420)
        writer = pymupdf.TextWriter(page.rect)
        for place, line in enumerate(lines):
            writer.append((40, 50 + 40 * place), line, font=pymupdf.Font("cjk"), fontsize=18)
        writer.write_text(page)
        return bytes(page.get_pixmap(dpi=120).tobytes("png"))


RUSSIAN = [
    "Плата за осмотр составляет тысячу",
    "Насосная станция проверяется",
    "Свяжитесь с инженером",
    "Ворота закрыты",
]
KOREAN = ["검사 수수료는 방문당 천 유로입니다", "펌프장은 9주마다 점검합니다", "정문을 열기 전에 연락하십시오"]
CHINESE = ["检查费用为每次一千欧元", "泵站每九周检查一次", "打开大门前请联系工程师"]


@pytest.mark.parametrize(("lines", "known"), [(RUSSIAN, False), (KOREAN, False), (CHINESE, True), (LINES, True)])
def test_scripts_that_ocr_does_not_know_are_reported(tmp_path: Path, lines: list[str], known: bool) -> None:
    (tmp_path / "scan.png").write_bytes(scanned(*lines))
    with QdrantPageStore(tmp_path / "index") as store:
        report = index_documents(tmp_path / "scan.png", store=store, embedder=PixelEmbedder(), workers=1)
    said = [warning.text for warning in report.warnings]
    assert ["may not know the script" in text for text in said] == [True] * (not known)
    (page,) = PageReader().read(tmp_path / "scan.png")
    assert ("text_suspect" in page.metadata) == (not known)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
def test_the_construction_drawing(backend: Any) -> None:
    path = CASES / "large-drawing" / "sheet-a1-200dpi.tif"
    (page,) = PageReader().read(path)
    for text in ("DRAWING NO. HX-7782-B", "Scale 1:50", "Sheet 4 of 12", "Ground floor plan, pump house", "sheet 9"):
        assert text in page.text
    with pymupdf.open() as document:  # the same sheet as a scan in a PDF
        sheet_page = document.new_page(width=2384, height=1684)
        sheet_page.insert_image(sheet_page.rect, filename=str(path))
        data = document.tobytes()
    (scanned,) = PageReader(backend=backend).read(data)
    assert "HX-7782-B" in scanned.text


@pytest.mark.slow
def test_the_largest_picture_that_is_allowed_takes_little_memory() -> None:
    side = 13_000
    image = Image.new("1", (side, side), 1)
    ImageDraw.Draw(image).text((9000, 12000), "DRAWING HX-7782-B", fill=0, font_size=120)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression="group4")
    del image
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (page,) = PageReader().read(buffer.getvalue())
    assert "HX-7782-B" in page.text
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 4 * side * side  # a copy or two in grey; RGB alone would be three
    with pytest.raises(VisRAGError, match="pixels"):
        list(PageReader(max_image_pixels=side * side - 1).read(buffer.getvalue()))
