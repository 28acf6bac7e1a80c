"""Text and words in the order in which a reader sees them, whatever the order of painting."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import numpy as np
import pymupdf
import pytest

from visrag_integrations.readers import PageReader
from visrag_integrations.readers.reading_order import reading_order
from visrag_integrations.types import Page

CASES = Path(__file__).parent / "data" / "cases"
A4 = (595, 842)
Line = tuple[float, float, str]  # left, baseline, text


@pytest.fixture(params=["pymupdf", "pdfium"])
def reader(request: pytest.FixtureRequest) -> PageReader:
    if request.param == "pdfium":
        pytest.importorskip("pypdfium2")
    return PageReader(backend=request.param, ocr="never", max_pixels=500_000)


def drawn(lines: list[Line], size: float = 10, rotate: int = 0, **text: object) -> bytes:
    """A page with these lines, painted in this order."""
    with pymupdf.open() as document:
        page = document.new_page(width=A4[0], height=A4[1])
        for left, baseline, line in lines:
            page.insert_text((left, baseline), line, fontsize=size, **text)
        page.set_rotation(rotate)
        data: bytes = document.tobytes()
    return data


def read(reader: PageReader, source: bytes | Path) -> Page:
    (page,) = reader.read(source)
    assert [word.text for word in page.words] == page.text.split(), "text and words are in one order"
    return page


def lines_of(page: Page) -> list[str]:
    return [" ".join(line.split()) for line in page.text.splitlines()]


PAIRS = [("Order date:", "15-10-2031"), ("Invoice date:", "20-10-2031"), ("Customer no.:", "29670869")]
PROSE = (
    "the old harbour was built when ships came from far away and every house along the quay kept a lamp "
    "burning in its window so that nobody would miss the narrow entrance between the two stone walls that "
    "the sea had left standing after the great storm of that winter which people still talk about today "
    "because it took the church and half of the market with it before anyone could bring the boats to land"
)


def prose(count: int, letters: int, start: int = 0) -> list[str]:
    """So many lines of running text, each of about so many letters."""
    lines: list[str] = []
    line = ""
    for word in itertools.cycle(PROSE.split()[start:] + PROSE.split()[:start]):
        if len(line) + len(word) + 1 > letters:
            lines.append(line)
            line = word
            if len(lines) == count:
                return lines
        else:
            line = f"{line} {word}".strip()
    raise AssertionError


def column(left: float, top: float, lines: list[str], leading: float = 13) -> list[Line]:
    return [(left, top + leading * place, line) for place, line in enumerate(lines)]


def test_the_invoice_of_which_values_are_painted_first(reader: PageReader) -> None:
    assert lines_of(read(reader, CASES / "label-after-value" / "invoice.pdf")) == [
        "Invoice 7745",
        "Order date: 15-10-2031",
        "Invoice date: 20-10-2031",
        "Customer no.: 29670869",
        "Tax number: AC8725001",
        "One memory card, 16 GB",
        "Amount due 319.00",
    ]


def test_the_form_of_which_values_are_annotations(reader: PageReader) -> None:
    page = read(reader, CASES / "filled-form" / "form.pdf")
    assert lines_of(page) == [
        "Boat registration form",
        "Name of boat: Morning Heron",
        "Hull number: KX-4471",
        "Home port: Lower Quay",
    ]


@pytest.mark.parametrize("order", range(6))
def test_labels_and_values_painted_in_any_order(reader: PageReader, order: int) -> None:
    cells: list[Line] = []
    for place, (label, value) in enumerate(PAIRS):
        cells.append((60, 100 + 16 * place, label))
        cells.append((200, 100 + 16 * place, value))
    if order == 0:  # all labels, then all values
        cells.sort()
    elif order == 1:  # all values from the last to the first, then the labels
        cells.sort(reverse=True)
    else:
        random.Random(order).shuffle(cells)
    page = read(reader, drawn(cells))
    assert lines_of(page) == [f"{label} {value}" for label, value in PAIRS]


@pytest.mark.parametrize("by_column", [False, True])
def test_tables_are_read_row_by_row(reader: PageReader, by_column: bool) -> None:
    rows = [["Item", "Pieces", "Price", "Sum"], ["Nails", "12", "345", "4140"], ["Long screws", "3", "20", "60"]]
    cells = [(60 + 90 * x, 100 + 15 * y, cell) for y, row in enumerate(rows) for x, cell in enumerate(row)]
    if by_column:
        cells.sort()
    page = read(reader, drawn(cells))
    assert lines_of(page) == [" ".join(row) for row in rows]
    assert "12 345" not in page.text, "two cells are not one number"


def test_cells_of_several_lines_stay_whole(reader: PageReader) -> None:
    table = [
        (60, 100, "Size"), (130, 100, "three metres"), (130, 113, "with the rudder"), (300, 100, "measured at"),
        (300, 113, "low water"), (60, 136, "Colour"), (130, 136, "white"), (300, 136, "as new"),
    ]  # fmt: skip
    text = " ".join(read(reader, drawn(table)).text.split())
    assert "three metres with the rudder measured at low water Colour white as new" in text


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("shift", [0, 5])
@pytest.mark.parametrize("painted", ["by column", "last first", "by line"])
def test_columns_of_prose_stay_apart(reader: PageReader, columns: int, shift: int, painted: str) -> None:
    width = 480 / columns
    texts = [prose(9, int(width / 5.6), 11 * place) for place in range(columns)]
    lines: list[Line] = []
    for place, text in enumerate(texts):
        lines += column(50 + place * (width + 16), 150 + shift * place, text)
    if painted == "last first":
        lines = [line for place in reversed(range(columns)) for line in lines[9 * place : 9 * place + 9]]
    if painted == "by line":
        lines.sort(key=lambda line: (line[1], line[0]))
    header: list[Line] = [(220, 60, "Notes from the harbour"), (50, 100, " ".join(prose(1, 90)))]
    footer: list[Line] = [(290, 800, "17")]
    page = read(reader, drawn([*footer, *lines, *header]))
    expected = [header[0][2], header[1][2], *(line for text in texts for line in text), "17"]
    assert lines_of(page) == expected


def test_a_heading_between_two_parts_in_columns(reader: PageReader) -> None:
    parts: list[Line] = []
    expected: list[str] = []
    for top, heading in ((80, "The first part of a long story about ships"), (320, "The second part, which is longer")):
        left, right = prose(8, 42, top), prose(8, 42, top + 9)
        parts += [(150, top, heading), *column(50, top + 25, left), *column(315, top + 25, right)]
        expected += [heading, *left, *right]
    assert lines_of(read(reader, drawn(parts))) == expected
    assert lines_of(read(reader, drawn(parts[::-1]))) == expected


def test_a_sidebar_beside_the_text(reader: PageReader) -> None:
    body, aside = prose(20, 60), prose(8, 18, 30)
    page = read(reader, drawn([*column(50, 100, body), *column(430, 104, aside, leading=16)]))
    assert lines_of(page) == [*body, *aside]


def test_two_lists_side_by_side(reader: PageReader) -> None:
    left = ["• oars", "• two anchors", "• a lamp"]
    right = ["• bread", "• water", "• salted fish"]
    page = read(reader, drawn([*column(60, 100, left), *column(320, 100, right)], fontname="helv"))
    assert [line.lstrip("•· ") for line in lines_of(page)] == [line[2:] for line in left + right]


def test_a_label_in_the_middle_beside_two_lines(reader: PageReader) -> None:
    page = read(reader, drawn([(160, 100, "3 Quay Road"), (160, 113, "Lower Harbour"), (60, 106.5, "Address:")]))
    assert " ".join(page.text.split()) == "Address: 3 Quay Road Lower Harbour"


def test_the_header_that_is_painted_last(reader: PageReader) -> None:
    body = column(60, 120, prose(12, 80))
    page = read(reader, drawn([*body, (60, 40, "Annual report"), (480, 40, "page 7")]))
    assert lines_of(page)[0] == "Annual report page 7"
    assert lines_of(page)[1:] == [line[2] for line in body]


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_turned_pages_are_read_line_by_line(reader: PageReader, rotate: int) -> None:
    lines = [*column(60, 100, prose(10, 60)), (60, 60, "A heading"), (60, 400, "Total:"), (200, 400, "319.00")]
    upright = lines_of(read(reader, drawn(lines)))
    assert upright[0] == "A heading"
    assert upright[-1] == "Total: 319.00"
    assert lines_of(read(reader, drawn(lines, rotate=rotate))) == upright


def test_the_turned_and_cropped_page(reader: PageReader) -> None:
    assert lines_of(read(reader, CASES / "turned-page-outline" / "turned.pdf")) == [
        "Maintenance contract 2031",
        "The pump station Alder Creek is inspected every nine weeks.",
        "The inspection fee is 1,845.50 EUR per visit.",
        "Spare valves are kept in storage room C17.",
    ]


@pytest.mark.parametrize("rotation", [90, 270])
def test_a_sideways_note_does_not_mix_with_the_text(reader: PageReader, rotation: int) -> None:
    body = prose(12, 70)
    with pymupdf.open() as document:
        page = document.new_page(width=A4[0], height=A4[1])
        page.insert_text((30, 300), "Preprint of 5 May, not reviewed", fontsize=12, rotate=rotation)
        for left, baseline, line in column(60, 120, body):
            page.insert_text((left, baseline), line, fontsize=10)
        data = document.tobytes()
    assert lines_of(read(reader, data)) == [*body, "Preprint of 5 May, not reviewed"]


@pytest.mark.parametrize("backwards", [False, True])
def test_vertical_japanese_is_read_from_the_right(reader: PageReader, backwards: bool) -> None:
    columns = ["港の灯台は毎晩海を照らす", "船は夜明けに戻ってくる", "魚市場は朝早く開く"]
    texts = list(enumerate(columns))
    if backwards:
        texts.reverse()
    # One word a column is what both engines give for vertical print.
    boxes = np.array([[400.0 - 20 * place, 100, 412 - 20 * place, 100 + 12 * len(text)] for place, text in texts])
    order = reading_order([text for _, text in texts], boxes)
    assert order.text([text for _, text in texts]).splitlines() == columns


def test_lines_of_hebrew_from_right_to_left(reader: PageReader) -> None:
    words = ["תאריך", "החשבונית:", "20-10-2031"]
    boxes = np.array([[300.0, 100, 340, 112], [250, 100, 297, 112], [120, 100, 170, 112]])
    for painted in itertools.permutations(range(3)):
        given = [words[place] for place in painted]
        assert reading_order(given, boxes[list(painted)]).text(given) == "תאריך החשבונית: 20-10-2031"


def test_columns_of_arabic_start_at_the_right() -> None:
    word = "الميناء"
    words: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []
    for start, name in ((50, "ب"), (320, "ا")):
        for line in range(6):
            for place in range(5):
                left = start + 200 - 42 * place
                words.append(f"{name}{word}")
                boxes.append((left, 100 + 14.0 * line + start / 100, left + 38, 111 + 14.0 * line + start / 100))
    order = reading_order(words, np.array(boxes))
    assert [words[place][0] for place in order.places] == ["ا"] * 30 + ["ب"] * 30


def test_every_word_is_read_once_whatever_the_boxes() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        words = [chance.choice(["a", "bb", "12", "שלום", "港", "word"]) for _ in range(chance.randrange(1, 40))]
        boxes = np.array([chance.choices(range(60), k=4) for _ in words], dtype=float)
        boxes = np.sort(boxes.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        order = reading_order(words, boxes)
        assert sorted(order.places) == list(range(len(words)))
        assert len(order.ends) == len(words)


@pytest.mark.parametrize("kind", ["scattered", "stacked", "grid", "sideways"])
def test_a_hostile_page_of_100_000_words_is_ordered_in_seconds(kind: str) -> None:
    chance = np.random.default_rng(5)
    count = 100_000
    corners = chance.uniform(0, 600, (count, 2))
    if kind == "stacked":
        corners[:] = 5
    if kind == "grid":
        corners = np.stack([np.arange(count) % 300 * 2.0, np.arange(count) // 300 * 2.0], axis=1)
    size = (1.0, 4.0) if kind == "sideways" else (3.0, 1.5)
    boxes = np.concatenate([corners, corners + size], axis=1)
    words = ["word"] * count
    start = time.process_time()
    assert len(reading_order(words, boxes).places) == count
    assert time.process_time() - start < 20


def test_arabic_ligatures_are_read_as_they_are_written(reader: PageReader) -> None:
    page = read(reader, CASES / "arabic-lam-alef" / "report.pdf")
    for word in ("ولاية", "الإنتاجية", "المشكلات", "الأمان", "والسلامة", "تحسين", "الشمالية"):
        assert word in page.text.split()
    assert lines_of(page)[0] == "تقرير ولاية كارولينا الشمالية"
