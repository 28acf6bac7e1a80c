"""Pages that were made to stop their readers, by many words or form fields, are read in time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from visrag_integrations.errors import SettingError
from visrag_integrations.images import MAX_PIXELS
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.reading_order import reading_order


@pytest.fixture(params=["pymupdf", "pdfium"])
def reader(request: pytest.FixtureRequest) -> PageReader:
    if request.param == "pdfium":
        pytest.importorskip("pypdfium2")
    return PageReader(backend=request.param, ocr="never")


def pdf_of(*objects: str) -> bytes:
    """A PDF of these objects, the first of which is its catalog."""
    data = b"%PDF-1.7\n"
    places: list[int] = []
    for number, text in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    trailer = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF"
    return data + f"xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


HELVETICA = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"


def grid_of_words(count: int) -> bytes:
    """A page of words in as many columns as rows, painted from its bottom up."""
    columns = int(count**0.5)
    drawn = ["BT /F1 4 Tf"]
    for number in range(count):
        drawn.append(f"1 0 0 1 {20 * (number % columns) + 2} {20 * (number // columns) + 2} Tm (w{number}) Tj")
    content = "\n".join([*drawn, "ET"])
    side = 20 * columns + 40
    return pdf_of(
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {side} {side}]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        HELVETICA,
    )


def form_of_fields(count: int) -> bytes:
    fields = " ".join(f"{5 + number} 0 R" for number in range(count))
    widgets: list[str] = []
    for number in range(count):
        left, bottom = 10 + number % 50 * 23, 10 + number // 50 * 8.2
        widgets.append(
            f"<</Type/Annot/Subtype/Widget/FT/Tx/F 4/T(f{number})/V(v{number})/DA(/Helv 5 Tf 0 g)"
            f"/Rect[{left} {bottom} {left + 22} {bottom + 8}]/P 3 0 R>>"
        )
    return pdf_of(
        f"<</Type/Catalog/Pages 2 0 R/AcroForm<</DR<</Font<</Helv 4 0 R>>>>/Fields[{fields}]>>>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 1200 1700]/Annots[{fields}]>>",
        HELVETICA,
        *widgets,
    )


def seconds_of(reader: PageReader, data: bytes) -> tuple[float, set[str]]:
    """Processor time, which other work on the machine does not count in, and the words."""
    start = time.process_time()
    (page,) = reader.read(data)
    return time.process_time() - start, set(page.text.split())


@pytest.mark.slow
def test_a_page_with_100_000_words(reader: PageReader) -> None:
    seconds, words = seconds_of(reader, grid_of_words(100_000))
    assert words == {f"w{number}" for number in range(100_000)}
    assert (
        seconds < 60
    )  # 4 to 5 where it is read; more than 200 were needed while columns were compared with all others


@pytest.mark.slow
def test_a_form_with_10_000_fields(reader: PageReader) -> None:
    seconds, words = seconds_of(reader, form_of_fields(10_000))
    assert words == {f"v{number}" for number in range(10_000)}
    assert seconds < 60  # 1 to 4 where it is read; three minutes while each field was looked for from the first one on


def test_a_grid_of_words_is_read_row_by_row() -> None:
    words = [f"{row}/{column}" for row in range(40) for column in range(40)]
    corners = [[20.0 * column, 20 * row, 20 * column + 9, 20 * row + 9] for row in range(40) for column in range(40)]
    boxes = np.array(corners)
    backwards = list(range(len(words)))[::-1]
    order = reading_order([words[place] for place in backwards], boxes[backwards])
    assert [words[backwards[place]] for place in order.places] == words


def test_a_limit_of_pixels_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(SettingError, match=f"max_image_pixels={MAX_PIXELS + 1}; it can be at most {MAX_PIXELS}"):
        PageReader(max_image_pixels=MAX_PIXELS + 1)
    assert PageReader(max_image_pixels=MAX_PIXELS).max_image_pixels == MAX_PIXELS
