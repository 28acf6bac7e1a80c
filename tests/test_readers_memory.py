"""Reading processes have a limit of memory, and what needs no memory takes none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visrag_integrations import images
from visrag_integrations.errors import UnsupportedDocumentError
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.memory import default_limit
from visrag_integrations.readers.pool import DocumentFailed, PageFailed, PageRead, ReaderPool
from visrag_integrations.readers.sources import identify

PEAK = """
import sys
from visrag_integrations.readers import PageReader
pages = list(PageReader(ocr="never").read(sys.argv[1]))
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


LARGE_PARENT = """
import subprocess, sys
held = b"x" * 400_000_000
said = "from visrag_integrations.readers.memory import peak_memory; print(peak_memory())"
subprocess.run([sys.executable, "-c", said], check=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_what_the_parent_held_does_not_count_as_the_process_own() -> None:
    """A program that holds models would have kept no reading process."""
    run = subprocess.run([sys.executable, "-c", LARGE_PARENT], capture_output=True, text=True, check=True)
    assert 1_000_000 < int(run.stdout) < 200_000_000


def deep_picture(path: Path, side: int) -> Path:
    Image.fromarray(np.zeros((side, side), np.uint16)).save(path)
    return path


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measured and limited as on Linux")


def peak_of(path: Path) -> int:
    """MiB that a process of its own took to read a file."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout) >> 10


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK"])
def test_clear_and_printed_pictures_take_a_few_bytes_a_pixel(tmp_path: Path, mode: str) -> None:
    """Five copies of four bytes were made of each pixel of a picture with clear parts."""
    side = 5000
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    options: dict[str, object] = {"compression": "tiff_deflate"} if mode == "CMYK" else {"compress_level": 1}
    if mode == "P":
        options["transparency"] = 0
    Image.new(mode, (side, side)).save(path, **options)
    small = peak_of(deep_picture(tmp_path / "small.png", 10))
    assert peak_of(path) - small < 12 * side * side >> 20


@pytest.mark.parametrize("kind", ["16-bit png", "float tiff"])
def test_deep_pictures_take_a_few_bytes_a_pixel(tmp_path: Path, kind: str) -> None:
    side = 5000
    path = tmp_path / "a.png"
    if kind == "float tiff":
        path = tmp_path / "a.tiff"
        Image.new("F", (side, side)).save(path, compression="tiff_deflate")
    else:
        deep_picture(path, side)
    small = peak_of(deep_picture(tmp_path / "small.png", 10))
    assert peak_of(path) - small < 12 * side * side >> 20


def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    for values in (
        rng.integers(0, 65536, (97, 31)).astype(np.uint16),
        rng.normal(size=(97, 31)).astype(np.float32),
        rng.random((97, 31)).astype(np.float32),
        rng.integers(-5000, 90000, (97, 31)).astype(np.int32),
    ):
        image = Image.fromarray(values)
        whole = np.asarray(images.to_rgb(image))
        monkeypatch.setattr("visrag_integrations.images.pixels._STRIP", 100)
        assert (np.asarray(images.to_rgb(image)) == whole).all()
        monkeypatch.undo()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "P", "PA", "RGBa"])
@pytest.mark.parametrize("ink", ["noise", "white on clear"])
def test_strips_of_clear_pictures_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, mode: str, ink: str
) -> None:
    rng = np.random.default_rng(7)
    values = rng.integers(0, 256, (97, 31, 4)).astype(np.uint8)
    if ink == "white on clear":
        values[:] = (255, 255, 255, 0)
        values[90:, 3:9, 3] = 255  # nothing is drawn in the first strips
    image = Image.fromarray(values)
    if mode in {"La", "LA", "PA"}:
        image = image.convert("LA")
    if mode == "P":
        image = image.convert("RGB").convert("P")
        image.info["transparency"] = 0
    elif image.mode != mode:
        image = image.convert(mode)
    whole = np.asarray(images.to_rgb(image))
    monkeypatch.setattr("visrag_integrations.images.pixels._STRIP", 100)
    assert (np.asarray(images.to_rgb(image)) == whole).all()


def test_beyond_the_limit_is_a_named_error_for_that_page(tmp_path: Path) -> None:
    files = [deep_picture(tmp_path / "large.png", 12000), deep_picture(tmp_path / "small.png", 20)]
    reader = PageReader(ocr="never", max_memory=220 << 20)
    events = list(ReaderPool(reader, 1, 60.0).read_documents(files))
    (failed,) = [event for event in events if isinstance(event, (PageFailed, DocumentFailed))]
    assert "max_memory" in failed.failure.error
    assert [event.page.source for event in events if isinstance(event, PageRead)] == [str(files[1])]


def test_the_default_shares_the_memory_among_the_processes() -> None:
    assert default_limit(1) >= default_limit(4) >= 3 << 30


def test_a_file_is_looked_through_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    code = (
        "import sys\nfrom visrag_integrations.readers.sources import identify\n"
        "try: identify(sys.argv[1], max_bytes=1 << 30)\nexcept ValueError as err: print(err)\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "is not a PDF" in done.stdout
    assert int(done.stdout.split()[-1]) >> 10 < 150


def test_what_lies_across_two_pieces_is_found(tmp_path: Path) -> None:
    for before in ((1 << 20) - 2, (1 << 20) - 4, 5):
        path = tmp_path / f"{before}.pdf"
        path.write_bytes(b"x" * before + b" obj" + b"x" * 10)
        assert identify(path, max_bytes=1 << 30).kind == "pdf"
    (tmp_path / "none.pdf").write_bytes(b"x" * (1 << 20))
    with pytest.raises(UnsupportedDocumentError):
        identify(tmp_path / "none.pdf", max_bytes=1 << 30)
