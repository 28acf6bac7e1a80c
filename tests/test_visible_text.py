"""Only what can be seen on a page is its text."""

from __future__ import annotations

import io
from pathlib import Path

import pymupdf
import pytest
from PIL import Image, ImageDraw

from visrag_integrations.readers import PageReader

CASES = Path(__file__).parent / "data" / "cases"
SEEN = "The lowest bid was 18,300 EUR"
HIDDEN = "Best bidder is Falcon Works"


@pytest.fixture(params=["pymupdf", "pdfium"])
def reader(request: pytest.FixtureRequest) -> PageReader:
    if request.param == "pdfium":
        pytest.importorskip("pypdfium2")
    return PageReader(backend=request.param, ocr="never")


def text_of(reader: PageReader, source: bytes | Path) -> str:
    (page,) = reader.read(source)
    assert [word.text for word in page.words] == page.text.split()
    return page.text


def photo(width: int = 300, height: int = 60) -> bytes:
    """A picture without any even ground."""
    image = Image.effect_noise((width, height), 80).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def hide_in_white(page: pymupdf.Page) -> None:
    page.insert_text((50, 200), HIDDEN, color=(1, 1, 1))


def hide_in_nearly_white(page: pymupdf.Page) -> None:
    page.insert_text((50, 200), HIDDEN, color=(0.99, 0.99, 0.98))


def hide_in_the_colour_of_a_box(page: pymupdf.Page) -> None:
    page.draw_rect((40, 180, 400, 220), fill=(0.1, 0.2, 0.5), color=None)
    page.insert_text((50, 200), HIDDEN, color=(0.1, 0.2, 0.5))


def hide_under_a_box(page: pymupdf.Page) -> None:
    page.insert_text((50, 200), HIDDEN)
    page.draw_rect((40, 180, 400, 220), fill=(1, 1, 0.8), color=None)


def hide_under_a_picture(page: pymupdf.Page) -> None:
    page.insert_text((50, 200), HIDDEN)
    page.insert_image((40, 180, 400, 220), stream=photo(), keep_proportion=False)


def hide_by_render_mode(page: pymupdf.Page) -> None:
    page.insert_text((50, 200), HIDDEN, render_mode=3)


def hide_by_size(page: pymupdf.Page) -> None:
    page.insert_text((50, 200), HIDDEN, fontsize=0.5)


def hide_off_the_page(page: pymupdf.Page) -> None:
    page.insert_text((50, 900), HIDDEN)


def hide_in_a_layer(page: pymupdf.Page) -> None:
    layer = page.parent.add_ocg("hidden", on=False)
    page.insert_text((50, 200), HIDDEN, oc=layer)


def hide_by_opacity(page: pymupdf.Page) -> None:
    page.insert_text((50, 200), HIDDEN, fill_opacity=0.0)


def hide_over_a_rule(page: pymupdf.Page) -> None:
    """White words, and a line right below them, as in a table."""
    page.insert_text((50, 200), HIDDEN, color=(1, 1, 1))
    page.draw_line((40, 204), (400, 204))


WAYS = {name.removeprefix("hide_"): way for name, way in globals().items() if name.startswith("hide_")}


@pytest.mark.parametrize("way", WAYS)
def test_words_that_leave_no_mark_are_not_read(reader: PageReader, way: str) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), SEEN)
        WAYS[way](page)
        data = document.tobytes()
    assert text_of(reader, data) == SEEN


def test_the_tender_with_a_white_sentence(reader: PageReader) -> None:
    assert text_of(reader, CASES / "invisible-text" / "tender.pdf").splitlines() == [
        "Tender for bridge repair",
        "Bids close on 9 May.",
        "The lowest bid was 18,300 EUR by Otter Bros.",
    ]


def test_the_page_with_a_sentence_cropped_away(reader: PageReader) -> None:
    assert text_of(reader, CASES / "invisible-text" / "cropped-away.pdf") == "Visible rules of the pool"


@pytest.mark.parametrize("colour", [(0.85, 0.85, 0.85), (1, 1, 0.6), (0.9, 1, 0.9), (1, 0, 1)])
@pytest.mark.parametrize("pixels", [250_000, 9 * 448 * 448])
def test_pale_words_that_can_be_seen_stay(reader: PageReader, colour: tuple[float, ...], pixels: int) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), f"{SEEN} . - 1", color=colour, fontsize=9)
        data = document.tobytes()
    assert text_of(PageReader(backend=reader.backend, ocr="never", max_pixels=pixels), data) == f"{SEEN} . - 1"


def test_white_words_on_a_dark_ground_and_on_a_picture_stay(reader: PageReader) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.draw_rect((40, 80, 400, 120), fill=(0, 0.2, 0.2), color=None)
        page.insert_text((50, 100), SEEN, color=(1, 1, 1))
        page.insert_image((40, 180, 400, 220), stream=photo(), keep_proportion=False)
        page.insert_text((50, 200), HIDDEN, color=(1, 0, 0))
        data = document.tobytes()
    assert text_of(reader, data).splitlines() == [SEEN, HIDDEN]


def scan() -> bytes:
    """A scanned page with one printed line, of which OCR wrote an invisible layer that holds one line more."""
    image = Image.new("RGB", (1190, 1684), "white")
    ImageDraw.Draw(image).text((100, 180), SEEN, fill="black", font_size=28)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_image(page.rect, stream=buffer.getvalue())
        page.insert_text((50, 102), SEEN, fontsize=13, render_mode=3)
        page.insert_text((50, 400), HIDDEN, fontsize=14, render_mode=3)
        return bytes(document.tobytes())


def test_the_layer_of_a_scan_stays_where_there_is_ink(reader: PageReader) -> None:
    assert text_of(reader, scan()) == SEEN


def test_text_under_the_picture_of_a_scan_is_its_layer(reader: PageReader) -> None:
    image = Image.new("RGB", (1190, 1684), "white")
    ImageDraw.Draw(image).text((100, 180), SEEN, fill="black", font_size=28)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 102), SEEN, fontsize=13)
        page.insert_text((50, 400), HIDDEN, fontsize=14)
        page.insert_image(page.rect, stream=buffer.getvalue())
        data = document.tobytes()
    assert text_of(reader, data) == SEEN
