"""Reading PDFs: two engines, the same pages; bad input ends in a named error."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from visrag_integrations.errors import (
    DocumentError,
    DocumentLimitError,
    DocumentNotFoundError,
    PasswordError,
    SettingError,
    UnsupportedDocumentError,
    VisRAGError,
)
from visrag_integrations.readers import PageReader, pdf
from visrag_integrations.readers.page_selection import select_pages
from visrag_integrations.types import Failure, Page

ENGINES = ["pymupdf", "pdfium"]
NOTHING = "<< /Type /Pages /Kids [] /Count 0 >>"


@pytest.fixture(params=ENGINES)
def reader(request: pytest.FixtureRequest) -> PageReader:
    if request.param == "pdfium":
        pytest.importorskip("pypdfium2")
    return PageReader(backend=request.param, ocr="never", max_pixels=500_000)


def drawn(*texts: str, size: tuple[int, int] = (300, 400), rotate: int = 0, **save: object) -> bytes:
    """A PDF of one page a text, each with a blue square in its upper left corner."""
    with pymupdf.open() as document:
        for text in texts:
            page = document.new_page(width=size[0], height=size[1])
            page.draw_rect((10, 10, 30, 30), fill=(0, 0, 1), color=None)
            page.insert_text((40, 100), text, fontsize=20)
            page.set_rotation(rotate)
        document.set_metadata({"title": "Drawn", "creationDate": "D:20240229010203Z"})
        data: bytes = document.tobytes(**save)
    return data


def raw_pdf(pages: str, header: str = "%PDF-1.4\n") -> bytes:
    catalog = "1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj"
    return f"{header}{catalog}\n2 0 obj\n{pages}\nendobj\ntrailer\n<< /Root 1 0 R >>\n".encode()


def one(reader: PageReader, data: bytes, **options: object) -> Page:
    (page,) = reader.read(data, **options)
    return page


def darkness(page: Page, box: tuple[float, float, float, float]) -> float:
    image = page.open_image().convert("L")
    left, top, right, bottom = box
    area = (
        int(left * image.width),
        int(top * image.height),
        math.ceil(right * image.width),
        math.ceil(bottom * image.height),
    )
    return float((np.asarray(image.crop(area)) < 128).mean())


def test_a_page_has_pixels_text_words_and_what_is_known(reader: PageReader) -> None:
    data = drawn("Sales rose", "Costs fell")
    first, second = reader.read(data)
    assert (first.number, second.number) == (1, 2)
    assert first.text.strip() == "Sales rose"
    assert [word.text for word in second.words] == ["Costs", "fell"]
    assert first.doc_id == second.doc_id == hashlib.sha256(data).hexdigest()
    assert first.source == f"bytes:{first.doc_id[:12]}"
    assert first.metadata["total_pages"] == 2
    assert first.metadata["text_source"] == "text_layer"
    assert first.metadata["title"] == "Drawn"
    assert first.metadata["creationdate"] == "2024-02-29T01:02:03+00:00"
    image = first.open_image()
    assert image.mode == "RGB"
    assert image.getpixel((image.width * 20 // 300, image.height * 20 // 400)) == (0, 0, 255)  # not BGR


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (612, 792), (1_000_000, 1_000_000), (14, 200), (3, 3)])
def test_the_picture_fills_its_budget_and_never_more(reader: PageReader, size: tuple[int, int]) -> None:
    image = one(reader, raw_pdf_page(size)).open_image()
    assert image.width * image.height <= reader.max_pixels
    if min(size) > 200:
        assert image.width * image.height > 0.98 * reader.max_pixels
        assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.01)


def raw_pdf_page(size: tuple[int, int]) -> bytes:
    page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {size[0]} {size[1]}] >>"
    return raw_pdf(f"<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n3 0 obj\n{page}")


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_word_boxes_stand_where_the_ink_is(reader: PageReader, rotate: int) -> None:
    page = one(reader, drawn("HHHHHH MMMM", rotate=rotate))
    for word in page.words:
        assert darkness(page, word.box) > 0.15
    left, top, right, bottom = page.words[0].box
    assert (right - left > bottom - top) == (rotate in (0, 180))


def test_word_boxes_on_a_cropped_page(reader: PageReader) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=600, height=800)
        page.insert_text((320, 420), "HHHHHH", fontsize=20)
        page.set_cropbox(pymupdf.Rect(300, 380, 500, 480))
        data = document.tobytes()
    read = one(reader, data)
    assert read.open_image().width == pytest.approx(2 * read.open_image().height, rel=0.02)
    assert darkness(read, read.words[0].box) > 0.15


def test_both_engines_see_the_same() -> None:
    pytest.importorskip("pypdfium2")
    data = drawn("The quick fox", "jumps over", size=(200, 300), rotate=90)
    pairs = zip(*(PageReader(backend=engine, ocr="never").read(data) for engine in ENGINES), strict=True)
    for one_page, other in pairs:
        ours, theirs = (np.asarray(page.open_image(), dtype=float) for page in (one_page, other))
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).mean() < 2.0  # of 255
        assert [word.text for word in one_page.words] == [word.text for word in other.words]
        for word, same in zip(one_page.words, other.words, strict=True):
            assert word.box == pytest.approx(same.box, abs=0.02)
        assert one_page.metadata == other.metadata


def test_page_labels(reader: PageReader) -> None:
    with pymupdf.open() as document:
        for _ in range(3):
            document.new_page().insert_text((72, 72), "x")
        document.set_page_labels([{"startpage": 0, "style": "r", "firstpagenum": 1}, {"startpage": 2, "style": "D"}])
        data = document.tobytes()
    assert [page.metadata["page_label"] for page in reader.read(data)] == ["i", "ii", "1"]


def test_chosen_pages_are_read_in_order(reader: PageReader) -> None:
    data = drawn(*"abcdefg")
    assert "".join(page.text.strip() for page in reader.read(data, pages="5-,1")) == "aefg"
    assert [page.number for page in reader.read(data, pages=[7, 2, 2, 99])] == [2, 7]
    with pytest.raises(DocumentError, match="has 7 pages"):
        next(reader.read(data, pages=[8]))


@pytest.mark.parametrize("pages", ["", "0", "3-2", "a", [0], [], ["1"], [True], "1--3", "-3"])
def test_page_choices_that_name_no_page(pages: object) -> None:
    with pytest.raises(SettingError, match="page"):
        PageReader(pages=pages)


def test_an_open_range_costs_nothing() -> None:
    assert select_pages(range(2, 10**12), 4) == [2, 3, 4]


@pytest.mark.parametrize(
    "setting",
    [{"backend": "poppler"}, {"ocr": "yes"}, {"text_assembly": "x"}, {"max_pixels": 0}, {"picture_format": "TGA"}],
)
def test_settings_say_what_is_allowed(setting: dict[str, object]) -> None:
    (name,) = setting
    with pytest.raises(SettingError, match=name):
        PageReader(**setting)


def test_encoded_pictures_on_request(reader: PageReader) -> None:
    page = one(PageReader(backend=reader.backend, picture_format="WEBP"), drawn("x"))
    assert isinstance(page.picture, bytes)
    assert page.picture[8:12] == b"WEBP"


def test_reading_is_lazy_and_bounded_by_max_pages(reader: PageReader, caplog: pytest.LogCaptureFixture) -> None:
    kids = " ".join(f"{number} 0 R" for number in range(3, 10_003))
    tree = [f"<< /Type /Pages /Kids [{kids}] /Count 10000 >>"]
    tree += [f"{n} 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 90 90] >>" for n in range(3, 10_003)]
    data = raw_pdf("\nendobj\n".join(tree))
    limited = PageReader(backend=reader.backend, max_pages=3, ocr="never")
    pages = limited.read(data)
    assert next(pages).metadata["total_pages"] == 10_000
    assert [page.number for page in pages] == [2, 3]
    assert "only the first 3 of 10000 pages" in caplog.text


def test_reading_does_not_look_beyond_the_page_asked_for(tmp_path: Path) -> None:
    seen: list[str] = []

    def paths() -> object:
        for name in ("a.pdf", "b.pdf"):
            seen.append(name)
            (tmp_path / name).write_bytes(drawn(name))
            yield tmp_path / name

    pages = PageReader(ocr="never").read(paths())
    next(pages)
    assert seen == ["a.pdf"]
    assert [page.text.strip() for page in pages] == ["b.pdf"]


def test_passwords(reader: PageReader) -> None:
    data = drawn("secret", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="sesame", owner_pw="owner")
    with pytest.raises(PasswordError, match="Give its password"):
        next(reader.read(data))
    with pytest.raises(PasswordError, match="password is wrong"):
        next(reader.read(data, password="open"))
    assert one(reader, data, password="sesame").text.strip() == "secret"
    assert "sesame" not in repr(PageReader(password="sesame")) + str(PageReader(password="sesame").describe())


def test_an_empty_user_password_needs_none(reader: PageReader) -> None:
    data = drawn("public", encryption=pymupdf.PDF_ENCRYPT_AES_128, owner_pw="owner", user_pw="")
    assert one(reader, data).text.strip() == "public"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.pdf")
    return folder / "pipe.pdf"


def a_file(data: bytes, name: str = "bad.pdf") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


BAD: dict[str, tuple[Callable[[Path], Path], type[VisRAGError], str]] = {
    "missing": (lambda folder: folder / "gone.pdf", DocumentNotFoundError, "no such file"),
    "empty folder": (lambda folder: folder, DocumentNotFoundError, "holds no document"),
    "zero bytes": (a_file(b""), DocumentError, "empty"),
    "not a pdf": (a_file(b"<html>404</html>"), UnsupportedDocumentError, "not a PDF"),
    "no header, no use": (a_file(b"1 0 obj\nrubbish"), DocumentError, "cannot be opened"),
    "zero pages": (a_file(raw_pdf(NOTHING)), DocumentError, "no pages"),
    "too large": (a_file(b"%PDF-1.4" + b" " * 3_000_000), DocumentLimitError, "max_bytes=2000000"),
    "unknown kind": (a_file(b"MZ\x90", "setup.exe"), UnsupportedDocumentError, "cannot be read. Supported: .pdf"),
    "a pipe": (a_pipe, UnsupportedDocumentError, "not a regular file"),
    "a device": (lambda folder: Path("/dev/zero"), UnsupportedDocumentError, "not a regular file"),
    "a name no system allows": (lambda folder: folder / ("x" * 999 + ".pdf"), DocumentError, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("backend", ENGINES)
def test_bad_input_is_a_named_error(case: str, backend: str, tmp_path: Path) -> None:
    make, error, words = BAD[case]
    with pytest.raises(error, match=words):
        list(PageReader(backend=backend, max_bytes=2_000_000).read(make(tmp_path)))


def test_an_unreadable_file(tmp_path: Path) -> None:
    path = a_file(drawn("x"))(tmp_path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DocumentError, match="cannot be read: Permission denied"):
        next(PageReader().read(path))


def test_a_truncated_pdf_is_repaired(reader: PageReader) -> None:
    data = drawn("kept", "kept too")
    pages = list(reader.read(data[: data.rindex(b"xref")]))
    assert [page.text.strip() for page in pages] == ["kept", "kept too"]


def test_where_one_engine_cannot_open_the_other_does() -> None:
    pytest.importorskip("pypdfium2")
    page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 90 90] >>"
    headless = raw_pdf(f"<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n3 0 obj\n{page}", header="")
    no_tree = raw_pdf("<< /S /JavaScript >>")
    assert len(list(PageReader(backend="pdfium").read(headless, name="a.pdf"))) == 1
    assert len(list(PageReader(backend="pymupdf").read(no_tree))) == 1


def test_a_folder_with_one_bad_file_among_good_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a_file(drawn("first"), "a.pdf")(tmp_path)
    a_file(b"rubbish", "b.pdf")(tmp_path)
    a_file(drawn("last"), "c.pdf")(tmp_path)
    failures: list[Failure] = []
    texts = [page.text.strip() for page in PageReader(ocr="never").read(tmp_path, on_error=failures.append)]
    assert texts == ["first", "last"]
    assert [(failure.source, failure.page) for failure in failures] == [(str(tmp_path / "b.pdf"), None)]
    assert "b.pdf" in caplog.text


def test_folders_are_walked_sorted_without_hidden_files_or_loops(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    for name in ("b.pdf", "a.PDF", "sub/deep/c.png", ".git/d.pdf", ".e.pdf", "~$f.docx", "g.xyz", "sub/h.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = [str(Path(path).relative_to(tmp_path)) for path in PageReader().find(tmp_path)]
    assert found == ["a.PDF", "b.pdf", "sub/h.txt", "sub/deep/c.png"]


def test_files_given_by_name_are_always_tried(tmp_path: Path) -> None:
    path = a_file(drawn("no suffix"), "document")(tmp_path)
    hidden = a_file(drawn("hidden"), ".hidden.pdf")(tmp_path)
    assert [page.text.strip() for page in PageReader(ocr="never").read([path, str(hidden)])] == ["no suffix", "hidden"]


@pytest.mark.parametrize("name", ["new\nline.pdf", "-rf.pdf", "файл 文件 é.pdf", "per%20cent#x?.pdf", "a'b\"c.pdf"])
def test_odd_file_names(reader: PageReader, name: str, tmp_path: Path) -> None:
    path = a_file(drawn("x"), name)(tmp_path)
    (page,) = reader.read(path)
    assert page.source == str(path)


def test_the_same_file_under_two_names_is_one_document(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        a_file(drawn("same", no_new_id=True), name)(tmp_path)
    (tmp_path / "b.pdf").write_bytes((tmp_path / "a.pdf").read_bytes())
    first, second = PageReader(ocr="never").read(tmp_path)
    assert first.id == second.id
    assert first.source != second.source


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
    path = a_file(buffer.getvalue(), "picture.pdf")(tmp_path)
    (page,) = PageReader(ocr="never").read(path)
    assert page.open_image().size == (30, 20)


@pytest.mark.parametrize("source", [None, 7, [3.5]])
def test_what_is_no_document_at_all(source: object) -> None:
    with pytest.raises(SettingError, match="paths, bytes, folders"):
        list(PageReader().read(source))


def test_a_reader_describes_what_decides_its_pages() -> None:
    described = PageReader(max_pixels=1000).describe()
    assert described["max_pixels"] == 1000
    assert described["engine"].startswith("pymupdf ")
    assert described != PageReader(max_pixels=1001).describe()


def test_an_engine_that_is_installed_meanwhile_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once missing, it was missing until the notebook was started again."""
    installed: dict[str, str] = {}

    def version(package: str) -> str:
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(pdf._PACKAGES, "pdfium", "no-such-engine")
    pdf._found_version.cache_clear()
    try:
        assert PageReader(backend="pdfium").describe()["engine"] == ""
        installed["no-such-engine"] = "1.2.3"
        assert PageReader(backend="pdfium").describe()["engine"] == "no-such-engine 1.2.3"
        del installed["no-such-engine"]
        assert pdf.engine_version("pdfium") == "no-such-engine 1.2.3", "found once, it is not looked for again"
    finally:
        pdf._found_version.cache_clear()


def test_an_index_inside_a_folder_holds_no_documents(tmp_path: Path) -> None:
    index = tmp_path / "index"
    (index / "pictures").mkdir(parents=True)
    (index / "visrag.json").write_text("{}", encoding="utf-8")
    (index / "pictures" / "stored.jpg").write_bytes(b"the picture of a page")
    (tmp_path / "notes.txt").write_text("a document", encoding="utf-8")
    assert list(PageReader().find(tmp_path)) == [tmp_path / "notes.txt"]


def test_drawn_pixels_travel_to_other_processes() -> None:
    (page,) = PageReader(ocr="never").read(drawn("Some words"))
    travelled = pickle.loads(pickle.dumps(page))
    assert travelled.open_image().tobytes() == page.open_image().tobytes()
    assert len(travelled.open_image().getcolors(1 << 16)) > 1
