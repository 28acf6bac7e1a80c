"""OCR: real words from real pixels, and their assembly into text."""

from __future__ import annotations

from typing import Any

import pymupdf
import pytest
from PIL import Image

from visrag_integrations import images, ocr
from visrag_integrations.errors import UnknownNameError
from visrag_integrations.readers import PageReader
from visrag_integrations.types import Word

LINES = ["Quarterly report", "Revenue rose by 12 percent", "Costs fell sharply"]


def printed() -> Image.Image:
    with pymupdf.open() as document:
        page = document.new_page(width=400, height=250)
        for number, line in enumerate(LINES):
            page.insert_text((30, 60 + 60 * number), line, fontsize=20)
        (read,) = PageReader(ocr="never", max_pixels=400_000).read(document.tobytes())
    return read.open_image()


def scanned(stamp: str = "", share: float = 1.0, rotation: int = 0) -> bytes:
    """A PDF whose one page is a picture of this share of its height, with some text of its own."""
    with pymupdf.open() as document:
        page = document.new_page(width=400, height=250)
        page.insert_image((0, 0, 400, 250 * share), stream=images.encode(printed()), keep_proportion=False)
        page.insert_text((270, 20), stamp, fontsize=10)
        page.set_rotation(rotation)
        data: bytes = document.tobytes()
    return data


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("rapidocr")


def test_lines_are_read_in_order_with_their_boxes() -> None:
    words = ocr.read_words(printed())
    assert [word.text for word in words] == LINES
    for number, word in enumerate(words):
        left, top, right, bottom = word.box
        assert left == pytest.approx(30 / 400, abs=0.03)
        assert top < (60 + 60 * number - 7) / 250 < bottom  # the middle of the letters
        assert right < 1


def test_a_blank_picture_has_no_words() -> None:
    assert ocr.read_words(Image.new("L", (200, 100), 255)) == ()


def test_pages_without_a_text_layer_are_read_by_ocr() -> None:
    (page,) = PageReader().read(scanned())
    assert page.text.splitlines() == LINES
    assert page.metadata["text_source"] == "ocr"
    assert len(page.words) == 3
    (silent,) = PageReader(ocr="never").read(scanned())
    assert (silent.text, silent.metadata["text_source"]) == ("", "none")


@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
def test_a_stamp_on_a_scan_does_not_stand_in_for_its_text(backend: Any) -> None:
    reader = PageReader(backend=backend)
    (page,) = reader.read(scanned("RECEIVED 17 May"))
    assert page.text.splitlines() == ["RECEIVED 17 May", *LINES]
    assert page.metadata["text_source"] == "text_layer+ocr"
    assert [word.text for word in page.words] == ["RECEIVED", "17", "May", *LINES], (
        "OCR saw the stamp too: once is enough"
    )
    (never,) = PageReader(backend=backend, ocr="never").read(scanned("RECEIVED 17 May"))
    assert (never.text, never.metadata["text_source"]) == ("RECEIVED 17 May", "text_layer")
    (turned,) = reader.read(scanned("RECEIVED 17 May", rotation=90))
    assert turned.metadata["text_source"] == "text_layer+ocr"


@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
def test_a_text_layer_that_is_no_stamp_is_believed(backend: Any) -> None:
    half = scanned("Figure 3", share=0.5)  # a picture on a page
    searchable = scanned("\n".join(["words of a layer that another OCR wrote"] * 12))
    for data in (half, searchable):
        (page,) = PageReader(backend=backend).read(data)
        assert page.metadata["text_source"] == "text_layer"


TABLE = [
    Word("Item", (0.1, 0.10, 0.2, 0.13)),
    Word("Price", (0.6, 0.101, 0.7, 0.131)),
    Word("Nails", (0.1, 0.14, 0.2, 0.17)),
    Word("4.50", (0.6, 0.139, 0.68, 0.169)),
    Word("Sum", (0.1, 0.60, 0.16, 0.63)),
]


def test_adjacent_merging_keeps_columns_together() -> None:
    assert ocr.assemble(TABLE).splitlines() == ["Item", "Nails", "Price", "4.50", "Sum"]


def test_layout_preserving_keeps_rows_and_gaps() -> None:
    lines = ocr.assemble(TABLE, "layout_preserving").splitlines()
    assert [line.split() for line in lines if line] == [["Item", "Price"], ["Nails", "4.50"], ["Sum"]]
    assert lines[0].index("Price") == lines[1].index("4.50") > 10
    assert "" in lines  # the gap above the sum


def test_merging_reads_a_line_that_ocr_broke_in_two() -> None:
    parts = [Word("world", (0.315, 0.1, 0.5, 0.13)), Word("Hello", (0.1, 0.102, 0.3, 0.131))]
    assert ocr.assemble(parts) == "Hello world"


def test_nothing_assembles_to_nothing_and_unknown_ways_are_named() -> None:
    assert ocr.assemble([]) == ""
    with pytest.raises(UnknownNameError, match="adjacent_merging, layout_preserving"):
        ocr.assemble(TABLE, "alphabetical")
