"""A page drawn, encoded and hashed by the reader, against the raw engine and the encoder alone; `visrag ask` when cold.

    python benchmarks/reading.py samples                # both engines, JPEG, PNG and drawn pixels
    python benchmarks/reading.py samples --encoders     # what encodes JPEG, of what is installed
    python benchmarks/reading.py samples --process      # a page that comes from a reading process, and both sides' time
    python benchmarks/reading.py samples --ask          # one question to one file, with nothing running before
    python benchmarks/reading.py samples --quick        # seconds: a few pages, one round

The raw way draws a page at the size that the reader gives, takes its text (PyMuPDF: with boxes), and encodes by Pillow.
The reader's page has more: words that can be seen, in reading order, and a hash by which equal pages are known. All is
processor time of one thread, so that other programs count little; ways take turns, file by file, and medians of the
rounds' ratios are printed.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import table
from PIL import Image

from visrag_integrations import images
from visrag_integrations.readers import PageReader, ReaderPool
from visrag_integrations.readers.events import PageRead
from visrag_integrations.readers.pdf_geometry import render_size
from visrag_integrations.store import content_key
from visrag_integrations.types import Page

BUDGET = PageReader().max_pixels
QUALITY = 85
KINDS = ("JPEG", "PNG", "pixels")


@dataclass(frozen=True)
class Drawn:
    """RGB pixels of the raw engine; `pixmap` is PyMuPDF's own."""

    width: int
    height: int
    data: Any
    pixmap: Any = None


def raw_pymupdf(path: Path, pages: int) -> Iterator[Drawn]:
    import pymupdf

    with pymupdf.open(path) as document:
        for page in document.pages(0, min(pages, document.page_count)):
            columns, rows = render_size(page.rect.width, page.rect.height, BUDGET)
            matrix = pymupdf.Matrix(columns / page.rect.width, rows / page.rect.height)
            drawn = page.get_pixmap(matrix=matrix, alpha=False)
            page.get_text("words")
            yield Drawn(drawn.width, drawn.height, drawn.samples_mv, drawn)


def raw_pdfium(path: Path, pages: int) -> Iterator[Drawn]:
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    for number in range(min(pages, len(document))):
        page = document[number]
        width, height = page.get_size()
        drawn = page.render(scale=render_size(width, height, BUDGET)[0] / width, rev_byteorder=True)
        page.get_textpage().get_text_bounded()
        yield Drawn(drawn.width, drawn.height, drawn)
    document.close()


RAW: dict[str, Callable[[Path, int], Iterator[Drawn]]] = {"pymupdf": raw_pymupdf, "pdfium": raw_pdfium}


def with_pillow(drawn: Drawn, kind: str) -> bytes:
    """The fastest way through Pillow that was found."""
    if drawn.pixmap is None:
        image = drawn.data.to_pil()
    else:
        image = Image.frombuffer("RGB", (drawn.width, drawn.height), drawn.data, "raw", "RGB", 0, 1)
    file = io.BytesIO()
    if kind == "PNG":
        image.save(file, kind)
    else:
        image.save(file, kind, quality=QUALITY)
    return file.getvalue()


def run_raw(backend: str, kind: str, path: Path, pages: int) -> int:
    """Draw and encode; gives the number of pages."""
    done = 0
    for drawn in RAW[backend](path, pages):
        with_pillow(drawn, kind)
        done += 1
    return done


def run_reader(backend: str, kind: str, path: Path, pages: int) -> int:
    """The same by the reader, with the hash of each page; "pixels" are hashed, and encoded as JPEG beside."""
    encoded = None if kind == "pixels" else kind
    reader = PageReader(backend=backend, ocr="never", max_pages=pages, picture_format=encoded)  # type: ignore[arg-type]
    done = 0
    for page in reader.read(path):
        if isinstance(page.picture, images.Pixels):
            stored = images.EncodedPixels.of(page.picture, "JPEG", QUALITY)
            page = Page(page.doc_id, page.number, page.text, picture=stored)
        content_key(page)
        done += 1
    return done


def compare(paths: list[Path], pages: int, rounds: int, kinds: Sequence[str]) -> None:
    """Print the table of engines and pictures."""
    print("| engine | picture | raw engine + encoder, ms a page | reader, ms a page | ratio |\n|---|---|---|---|---|")
    for backend in RAW:
        for kind in kinds:
            raw_kind = "JPEG" if kind == "pixels" else kind
            raw: list[float] = []
            ours: list[float] = []
            for turn in range(rounds + 1):
                seconds = [0.0, 0.0]
                done = 0
                for path in paths:
                    start = time.process_time()
                    done += run_raw(backend, raw_kind, path, pages)
                    middle = time.process_time()
                    run_reader(backend, kind, path, pages)
                    seconds[0] += middle - start
                    seconds[1] += time.process_time() - middle
                if turn:  # the first warms up
                    raw.append(1000 * seconds[0] / done)
                    ours.append(1000 * seconds[1] / done)
            ratio = statistics.median(one / other for one, other in zip(raw, ours, strict=True))
            raw_ms, our_ms = statistics.median(raw), statistics.median(ours)
            table.keep(f"reading: {backend}, {kind}", our_ms, "ms", raw_ms)
            print(f"| {backend} | {kind} | {raw_ms:.1f} | {our_ms:.1f} | {ratio:.2f} |", flush=True)


def processors(backend: str, kind: str, paths: list[Path], pages: int) -> tuple[int, float, float]:
    """Read in a process of its own; gives the pages, and the processor seconds of that process and of this one."""
    reader = PageReader(backend=backend, ocr="never", max_pages=pages)  # type: ignore[arg-type]
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.process_time()
    done = 0
    with ReaderPool(reader, workers=1, exact_pixels=kind == "pixels", keep=("JPEG", QUALITY)) as pool:
        for event in pool.read_documents(paths):
            done += isinstance(event, PageRead)
    own = time.process_time() - start
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, ended.ru_utime + ended.ru_stime - others.ru_utime - others.ru_stime, own


def compare_processes(paths: list[Path], pages: int, rounds: int) -> None:
    """Print what a page costs the reading process and this one; what starting takes is left out of it."""
    print("| engine | picture | reading process, ms a page | this one, ms a page |\n|---|---|---|---|")
    for backend in RAW:
        for kind in ("JPEG", "pixels"):
            costs: list[tuple[float, float]] = []
            for _ in range(rounds):
                first, *before = processors(backend, kind, paths, 1)
                done, *after = processors(backend, kind, paths, pages)
                more = max(1, done - first)
                theirs, ours = (1000 * (after[side] - before[side]) / more for side in (0, 1))
                costs.append((theirs, ours))
            theirs, ours = map(statistics.median, zip(*costs, strict=True))
            print(f"| {backend} | {kind} | {theirs:.1f} | {ours:.1f} |", flush=True)


def encoders() -> dict[str, Callable[[Drawn], bytes]]:
    """What can make a JPEG of quality 85 with half of the colours' rows and columns, of what is installed."""
    import numpy as np

    def pixels(drawn: Drawn) -> Any:
        return np.frombuffer(drawn.data, dtype=np.uint8).reshape(drawn.height, drawn.width, 3)

    def ours(drawn: Drawn) -> bytes:
        return images.encode(images.Pixels(drawn.width, drawn.height, drawn.data, drawn), "JPEG", QUALITY)

    found: dict[str, Callable[[Drawn], bytes]] = {
        "Pillow, as the reader uses it": ours,
        "Pillow, from a buffer": lambda drawn: with_pillow(drawn, "JPEG"),
        "MuPDF (Pixmap.tobytes)": lambda drawn: drawn.pixmap.tobytes("jpeg", jpg_quality=QUALITY),
    }
    try:
        import simplejpeg

        found["simplejpeg (fast DCT)"] = lambda drawn: simplejpeg.encode_jpeg(
            pixels(drawn), quality=QUALITY, colorspace="RGB", colorsubsampling="420"
        )
    except ImportError:
        pass
    try:
        import turbojpeg

        turbo = turbojpeg.TurboJPEG()
        found["PyTurboJPEG"] = lambda drawn: turbo.encode(
            pixels(drawn),
            quality=QUALITY,
            pixel_format=turbojpeg.TJPF_RGB,
            jpeg_subsample=turbojpeg.TJSAMP_420,
            flags=turbojpeg.TJFLAG_ACCURATEDCT,
        )
    except (ImportError, OSError, RuntimeError):  # without the system's library it cannot be loaded
        pass
    try:
        import cv2

        cv2.setNumThreads(1)
        found["OpenCV"] = lambda drawn: cv2.imencode(
            ".jpg", pixels(drawn)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )[1].tobytes()
    except ImportError:
        pass
    return found


def compare_encoders(paths: list[Path], pages: int, rounds: int) -> None:
    """Print the table of encoders."""
    ways = encoders()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    equal = dict.fromkeys(ways, 0)
    size = dict.fromkeys(ways, 0)
    done = 0
    for path in paths:
        for drawn in raw_pymupdf(path, pages):
            done += 1
            first = b""
            for name, encode in ways.items():
                best: list[float] = []
                for _ in range(rounds):
                    start = time.process_time()
                    data = encode(drawn)
                    best.append(time.process_time() - start)
                first = first or data
                seconds[name].append(statistics.median(best))
                equal[name] += data == first
                size[name] += len(data)
    print("| encoder | ms a page | KiB | the same bytes |\n|---|---|---|---|")
    for name, measured in seconds.items():
        share = f"{equal[name]} of {done}"
        print(f"| {name} | {1000 * statistics.median(measured):.1f} | {size[name] / done / 1024:.0f} | {share} |")


def ask(path: Path, rounds: int) -> None:
    """Print what one question to one file costs, with an index that is made for it."""
    wall: list[float] = []
    processor: list[float] = []
    for _ in range(rounds):
        folder = tempfile.mkdtemp()
        command = [sys.executable, "-m", "visrag_integrations.cli", "ask", "What is a package?", str(path), "-q"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([*command, "--index", f"{folder}/index"], check=True, capture_output=True)
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        shutil.rmtree(folder)
    print(
        f"visrag ask, {path.name}, cold: {statistics.median(wall):.2f} s (best {min(wall):.2f}), "
        f"{statistics.median(processor):.2f} s of processors (best {min(processor):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("samples"))
    parser.add_argument("--pages", type=int, default=40, help="at most so many pages of each document")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what becomes of a page's pixels")
    parser.add_argument("--encoders", action="store_true", help="compare JPEG encoders")
    parser.add_argument("--process", action="store_true", help="measure pages that come from a reading process")
    parser.add_argument("--ask", action="store_true", help="measure `visrag ask` with the file of most pages")
    parser.add_argument("--quick", action="store_true", help="two pages, one round")
    options = parser.parse_args()
    if options.quick:
        options.pages, options.rounds, options.kinds = 2, 1, ("JPEG", "pixels")
    paths = sorted(options.folder.glob("*.pdf"))
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.encoders:
        compare_encoders(paths, options.pages, options.rounds)
    elif options.process:
        compare_processes(paths, options.pages, options.rounds)
    elif options.ask:
        import pymupdf

        ask(max(paths, key=lambda path: pymupdf.open(path).page_count), options.rounds)
    else:
        compare(paths, options.pages, options.rounds, options.kinds)


if __name__ == "__main__":
    main()
