"""Picture, office and text files."""

from __future__ import annotations

import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from office_files import docx, write_zip
from PIL import Image

from visrag_integrations.errors import DocumentError, DocumentTimeoutError, UnsupportedDocumentError
from visrag_integrations.readers import PageReader, office_sandbox
from visrag_integrations.types import Page

FAKE = """#!/bin/sh
# Takes LibreOffice's place: prints what it was asked for, and puts a PDF where it was told to.
# Asked for its version, it must put nothing anywhere: $out would be empty.
[ "$1" = --version ] && exec echo "LibreOffice 1.0"
while [ $# -gt 0 ]; do
  case "$1" in --outdir) out="$2"; shift;; esac
  last="$1"; shift
done
{body}
"""


def one(path: Path, **settings: object) -> Page:
    (page,) = PageReader(ocr="never", **settings).read(path)
    return page


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "soffice").write_text(FAKE.replace("{body}", body))
    (folder / "soffice").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.fixture
def no_office(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp"])
def test_every_picture_format_is_one_page(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    Image.new("RGB", (64, 32), (0, 0, 255)).save(path)
    page = one(path)
    image = page.open_image().convert("RGB")
    assert image.size == (64, 32)
    assert image.getpixel((5, 5)) == pytest.approx((0, 0, 255), abs=3)
    assert page.metadata["total_pages"] == 1
    assert (page.text, page.words, page.metadata["text_source"]) == ("", (), "none")


def test_frames_of_a_tiff_are_pages_of_a_gif_only_the_first(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 10 * n), (n, 0, 0)) for n in (1, 2, 3)]
    for name in ("scan.tiff", "moving.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    pages = list(PageReader(ocr="never").read(tmp_path / "scan.tiff"))
    assert [page.open_image().height for page in pages] == [10, 20, 30]
    assert [page.number for page in PageReader(ocr="never").read(tmp_path / "scan.tiff", pages="3")] == [3]
    assert one(tmp_path / "moving.gif").number == 1


def test_pictures_are_upright_rgb_and_within_the_budget(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (300, 100), 90).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.full((100, 300), 128 * 257, dtype=np.uint16)).save(tmp_path / "deep.png")
    turned, deep = (one(tmp_path / name, max_pixels=3000).open_image() for name in ("turned.jpg", "deep.png"))
    assert turned.size == (31, 94)  # 100 x 300 upright, scaled by sqrt(3000 / 30000)
    assert deep.mode == "RGB"
    assert deep.getpixel((3, 3)) == (128, 128, 128)


def test_a_jpeg_within_the_budget_keeps_its_bytes(tmp_path: Path) -> None:
    Image.effect_noise((60, 40), 90).save(tmp_path / "a.jpg", quality=33)
    assert one(tmp_path / "a.jpg").picture == (tmp_path / "a.jpg").read_bytes()
    assert one(tmp_path / "a.jpg", max_pixels=500).open_image().size == (27, 18)


def test_an_image_bomb_is_refused_quickly(tmp_path: Path) -> None:
    Image.new("1", (8, 8)).save(tmp_path / "bomb.bmp")
    data = bytearray((tmp_path / "bomb.bmp").read_bytes())
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    (tmp_path / "bomb.bmp").write_bytes(data)
    started = time.process_time()  # not on the clock: this machine may be busy
    with pytest.raises(DocumentError, match=r"bomb\.bmp"):
        one(tmp_path / "bomb.bmp")
    Image.new("1", (2000, 1000)).save(tmp_path / "large.png")
    with pytest.raises(DocumentError, match="2000 x 1000 pixels; at most 1000000"):
        one(tmp_path / "large.png", max_image_pixels=1_000_000)
    assert time.process_time() - started < 2


def test_a_damaged_picture_is_a_bad_page_and_others_go_on(tmp_path: Path) -> None:
    Image.effect_noise((90, 90), 90).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    Image.new("L", (9, 9)).save(tmp_path / "c.png")
    failures: list[object] = []
    pages = list(PageReader(ocr="never").read(tmp_path, on_error=failures.append))
    assert [Path(page.source).name for page in pages] == ["a.png", "c.png"]
    assert len(failures) == 1


def test_a_picture_by_name_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"hello")
    with pytest.raises(UnsupportedDocumentError, match="not a picture"):
        one(tmp_path / "a.png")


@pytest.mark.usefixtures("no_office")
def test_without_libreoffice_office_files_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04")
    with pytest.raises(DocumentError, match="apt-get install libreoffice"):
        one(tmp_path / "a.docx")


@pytest.mark.usefixtures("no_office")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_without_libreoffice_text_is_still_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Größe über alles\n".encode(encoding))
    page = one(tmp_path / "a.txt")
    assert page.text.strip() == "Größe über alles"
    assert [word.text for word in page.words] == ["Größe", "über", "alles"]


def test_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\x00\x01binary")
    with pytest.raises(UnsupportedDocumentError, match="zero bytes"):
        one(tmp_path / "a.txt")


def test_office_files_are_read_as_the_pdf_that_libreoffice_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pymupdf

    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), "printed")
        document.save(tmp_path / "made.pdf")
    install(
        tmp_path / "bin", monkeypatch, f'echo "$last" > {tmp_path}/asked; cp {tmp_path}/made.pdf "$out/document.pdf"'
    )
    odd = write_zip(tmp_path / "-a b\n.docx", {"word/document.xml": "<document/>"})
    page = one(odd)
    assert (page.text.strip(), page.source) == ("printed", str(odd))
    asked = (tmp_path / "asked").read_text().strip()
    assert asked.endswith("/document.docx")  # the file's own name never reaches a command line
    assert not Path(asked).parent.exists()  # nothing is left behind


def test_libreoffice_that_fails_or_hangs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(tmp_path / "a.odt", {"content.xml": "<content/>"})
    install(tmp_path / "bin", monkeypatch, "echo no filter; exit 7")
    with pytest.raises(DocumentError, match=r"exit code 7\). no filter"):
        one(tmp_path / "a.odt")
    install(tmp_path / "bin", monkeypatch, "sleep 100000")
    with pytest.raises(DocumentTimeoutError, match="office_timeout"):
        one(tmp_path / "a.odt", office_timeout=0.5)


@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
def test_real_libreoffice(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello office", encoding="utf-8")
    assert "Hello office" in one(tmp_path / "a.txt").text


@pytest.mark.skipif(sys.platform == "win32", reason="a program of shell")
def test_a_document_that_hangs_libreoffice_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program never ends, nor does the one that it starts; both are gone with the error."""
    started = tmp_path / "started"
    program = tmp_path / "soffice"
    program.write_text(f"#!/bin/sh\nsleep 3600 &\necho $! $$ > {started}.new\nmv {started}.new {started}\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr("visrag_integrations.readers.office.shutil.which", lambda name: str(program))
    monkeypatch.setattr(
        "visrag_integrations.readers.office_program.wall", lambda program, folder: office_sandbox.Wall()
    )
    path = docx(tmp_path / "hangs.docx", "<w:p/>")
    with pytest.raises(DocumentTimeoutError, match=r"hangs\.docx: LibreOffice took longer"):
        list(PageReader(ocr="never", office_timeout=5).read(path))
    end = time.monotonic() + 60  # they are killed; a busy machine needs a moment until they are gone
    for process in started.read_text().split():
        while not is_gone(process):
            assert time.monotonic() < end
            time.sleep(0.02)


def is_gone(process: str) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"
