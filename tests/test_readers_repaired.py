"""PDFs that are cut off or damaged: the engines put them together again, and the user learns what may be gone."""

from __future__ import annotations

import re
from pathlib import Path

import pymupdf
import pytest
from fakes import CountingEmbedder

from visrag_integrations import PageReader, QdrantPageStore, index_documents
from visrag_integrations.readers.repaired import CUT_OFF, REPAIRED

SCAN = Path(__file__).parent.parent / "samples" / "debian-tips-scan.pdf"


@pytest.fixture(params=["pymupdf", "pdfium"])
def reader(request: pytest.FixtureRequest) -> PageReader:
    return PageReader(backend=request.param, ocr="never", max_pixels=100_000)


def whole(pages: int = 3) -> bytes:
    with pymupdf.open() as document:
        for number in range(1, pages + 1):
            document.new_page(width=300, height=400).insert_text((40, 80), f"Page {number} of the boats.")
        data: bytes = document.tobytes()
    return data


def warnings_of(reader: PageReader, data: bytes) -> list[str]:
    """All that is said of a document, as a whole and at its pages."""
    with reader.open(data) as document:
        said = list(document.warnings)
        for number in document.numbers:
            said += document.page(number).metadata.get("warnings", [])
    return said


@pytest.mark.parametrize("kept", [20_000, 0.5, 0.9])
def test_a_scan_that_is_cut_off_is_told(reader: PageReader, kept: float) -> None:
    """Both of its pages were there, and the second one was white."""
    data = SCAN.read_bytes()
    end = int(kept if kept > 1 else kept * len(data))
    assert warnings_of(reader, data[:end]) == [CUT_OFF]


def test_a_download_that_stopped_in_the_middle_of_its_room_is_told(reader: PageReader) -> None:
    data = SCAN.read_bytes()
    cut = data[: len(data) // 2]
    assert warnings_of(reader, cut + bytes(len(data) - len(cut))) == [CUT_OFF]


def test_a_table_that_points_elsewhere_is_told_mildly(reader: PageReader) -> None:
    wrong = re.sub(rb"startxref\n\d+", b"startxref\n7", whole())
    assert warnings_of(reader, wrong) == [REPAIRED]
    assert [page.text for page in reader.read(wrong)] == [f"Page {number} of the boats." for number in (1, 2, 3)]


def test_damage_that_is_seen_at_a_page_only_is_told_once() -> None:
    """The table is there, and one of its lines points into the middle of something else."""
    data = whole()
    with pymupdf.open(stream=data, filetype="pdf") as document:
        (content,) = document[2].get_contents()
    place = data.index(b"\n%d 0 obj" % content) + 1
    wrong = data.replace(b"%010d 00000 n" % place, b"%010d 00000 n" % (place + 9))
    assert wrong != data
    assert warnings_of(PageReader(ocr="never"), wrong) == [REPAIRED]


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"\n<!-- sent by a web server -->\n"])
def test_a_whole_pdf_is_not_said_to_be_damaged(reader: PageReader, behind: bytes) -> None:
    assert warnings_of(reader, whole() + behind) == []
    assert warnings_of(reader, b"lines of a mail\n" + whole()) == []


def test_a_run_reports_what_was_cut_off(tmp_path: Path, reader: PageReader) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(SCAN.read_bytes()[:20_000])
    with QdrantPageStore(tmp_path / "index") as store:
        report = index_documents(path, store=store, embedder=CountingEmbedder(), reader=reader, workers=1)
    assert [(found.source, found.text) for found in report.warnings] == [(str(path), CUT_OFF)]
