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


def clear_picture(opaque: bool) -> bytes:
    """A picture with a clear ground and one line over it, as a signature; or one that has a single clear corner."""
    image = Image.new("RGBA", (300, 60), (0, 0, 0, 0))
    if opaque:
        image = Image.effect_noise((300, 60), 80).convert("RGBA")
        image.putpixel((0, 0), (0, 0, 0, 0))
    else:
        ImageDraw.Draw(image).line((0, 0, 300, 60), fill=(200, 0, 0, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_words_that_show_through_a_picture_stay(reader: PageReader) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), SEEN)
        page.insert_text((50, 200), "signed below")
        page.insert_image((40, 180, 400, 220), stream=clear_picture(opaque=False), keep_proportion=False)
        data = document.tobytes()
    assert text_of(reader, data).splitlines() == [SEEN, "signed below"]


def test_a_clear_corner_of_a_picture_shows_nothing_elsewhere() -> None:
    pytest.importorskip("pypdfium2")
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), SEEN)
        page.insert_text((50, 200), HIDDEN)
        page.insert_image((40, 180, 400, 220), stream=clear_picture(opaque=True), keep_proportion=False)
        data = document.tobytes()
    assert text_of(PageReader(backend="pdfium", ocr="never"), data) == SEEN


def raw(page: pymupdf.Page, drawing: str) -> None:
    """Add operators of the page's own language, in points from its lower left."""
    page.insert_font("helv", "helv")
    document = page.parent
    place = document.get_new_xref()
    document.update_object(place, "<<>>")
    document.update_stream(place, drawing.encode("latin-1"))
    contents = " ".join(f"{known} 0 R" for known in (*page.get_contents(), place))
    document.xref_set_key(page.xref, "Contents", f"[{contents}]")


UNSEEN = {
    "clipped": f"q 0 0 5 5 re W n BT /helv 12 Tf 50 600 Td ({HIDDEN}) Tj ET Q",
    "scaled to dust": f"BT 0.02 0 0 0.02 50 600 Tm /helv 12 Tf ({HIDDEN}) Tj ET",
    "squeezed": f"BT /helv 12 Tf 0.5 Tz 50 600 Td ({HIDDEN}) Tj ET",
    "only a clip": f"q BT /helv 12 Tf 7 Tr 50 600 Td ({HIDDEN}) Tj ET Q",
    "white with a white edge": f"q 1 1 1 RG 1 1 1 rg BT /helv 12 Tf 2 Tr 50 600 Td ({HIDDEN}) Tj ET Q",
    "under an inline picture": (
        f"BT /helv 12 Tf 50 640 Td ({HIDDEN}) Tj ET q 360 0 0 40 40 630 cm "
        f"BI /W 40 /H 4 /CS /G /BPC 8 /F /AHx ID {''.join(f'{(37 * n) % 256:02x}' for n in range(160))}> EI Q"
    ),
}
SHOWN = {
    "large letters scaled down": f"BT 0.12 0 0 0.12 50 600 Tm /helv 100 Tf ({HIDDEN}) Tj ET",
    "a clip that is filled": f"q BT /helv 12 Tf 7 Tr 50 600 Td ({HIDDEN}) Tj ET 1 0 0 rg 0 0 595 842 re f Q",
    "outlines": f"q 0 0 0 RG 0.3 w BT /helv 12 Tf 1 Tr 50 600 Td ({HIDDEN}) Tj ET Q",
}


@pytest.mark.parametrize("way", [*UNSEEN, *SHOWN])
def test_ways_of_drawing_that_show_nothing_and_such_that_do(reader: PageReader, way: str) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), SEEN)
        raw(page, UNSEEN.get(way) or SHOWN[way])
        data = document.tobytes()
    expected = [SEEN, HIDDEN] if way in SHOWN else [SEEN]
    assert text_of(reader, data).splitlines() == expected


@pytest.mark.parametrize(("opacity", "seen"), [(0.5, True), (0.98, False)])
def test_a_white_area_that_is_half_clear(reader: PageReader, opacity: float, seen: bool) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), SEEN)
        page.insert_text((50, 200), HIDDEN)
        page.draw_rect((40, 180, 400, 220), fill=(1, 1, 1), color=None, fill_opacity=opacity)
        data = document.tobytes()
    assert (HIDDEN in text_of(reader, data)) == seen


@pytest.mark.parametrize(("flags", "seen"), [(4, True), (2, False), (32, False)])  # print; hidden; no view
def test_notes_that_are_drawn_and_such_that_are_not(reader: PageReader, flags: int, seen: bool) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), SEEN)
        note = page.add_freetext_annot((50, 180, 400, 220), HIDDEN, fontsize=12)
        note.set_flags(flags)
        note.update()
        data = document.tobytes()
    assert (HIDDEN in text_of(reader, data)) == seen


def test_ticks_and_bullets_are_no_figures(reader: PageReader) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        for place, (mark, label) in enumerate((("4", "Insured"), ("8", "Leased"), ("l", "Item 4"))):
            page.insert_text((50, 100 + 20 * place), mark, fontname="zadb")
            page.insert_text((70, 100 + 20 * place), label)
        box = pymupdf.Widget()
        box.field_type, box.field_name = pymupdf.PDF_WIDGET_TYPE_CHECKBOX, "paid"
        box.field_value, box.rect = True, pymupdf.Rect(50, 180, 62, 192)
        page.add_widget(box)
        page.insert_text((70, 190), "Paid")
        data = document.tobytes()
    lines = text_of(reader, data).splitlines()
    assert lines == ["✔ Insured", "✘ Leased", "● Item 4", "✓ Paid"]


@pytest.mark.parametrize(("value", "rotate"), [("KX447199", 0), ("KX 4471", 0), ("KX447199", 90)])
def test_fields_with_a_cell_for_each_letter_are_one_word(reader: PageReader, value: str, rotate: int) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_text((50, 100), "Hull number:")
        field = pymupdf.Widget()
        field.field_type, field.field_name = pymupdf.PDF_WIDGET_TYPE_TEXT, "hull"
        field.field_flags, field.text_maxlen = 1 << 24, 8
        field.field_value, field.rect = value, pymupdf.Rect(150, 86, 310, 104)
        page.add_widget(field)
        page.set_rotation(rotate)
        data = document.tobytes()
    assert text_of(reader, data) == f"Hull number: {value}"
