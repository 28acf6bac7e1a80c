"""Pages a second of PageReader and ReaderPool against the raw engine: the same pixels, the text and the words.

    python benchmarks/rendering.py samples
    python benchmarks/rendering.py /path/to/folder --backend pdfium --pages 40

The raw engine draws a pixmap of the size that the reader gives and takes the words of the text layer; nothing else.
Rounds are interleaved, so that a busy machine slows all of them, and medians of the rounds' ratios are printed.
A pool is compared with one thread that does the same work (its pages are JPEG): with the starting of its processes
(a second, whatever the number of pages), and from its first page on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import table

from visrag_integrations.readers import PageReader, ReaderPool
from visrag_integrations.readers.events import PageRead
from visrag_integrations.readers.pdf_geometry import render_size


def raw_pymupdf(paths: list[Path], budget: int, limit: int) -> int:
    import pymupdf

    done = 0
    for path in paths:
        with pymupdf.open(path) as document:
            for page in document.pages(0, min(limit, document.page_count)):
                columns, rows = render_size(page.rect.width, page.rect.height, budget)
                matrix = pymupdf.Matrix(columns / page.rect.width, rows / page.rect.height)
                page.get_pixmap(matrix=matrix, alpha=False)
                page.get_text("words")
                done += 1
    return done


def raw_pdfium(paths: list[Path], budget: int, limit: int) -> int:
    import pypdfium2

    done = 0
    for path in paths:
        document = pypdfium2.PdfDocument(path)
        for number in range(min(limit, len(document))):
            page = document[number]
            width, height = page.get_size()
            page.render(scale=render_size(width, height, budget)[0] / width)
            page.get_textpage().get_text_bounded()
            done += 1
        document.close()
    return done


def by_reader(reader: PageReader, paths: list[Path]) -> int:
    return sum(1 for _ in reader.read(paths))


def by_pool(pool: ReaderPool, paths: list[Path]) -> int:
    return sum(isinstance(event, PageRead) for event in pool.read_documents(paths))


class StartedPool:
    """Counts a pool's pages from the first one on, and remembers when that came."""

    def __init__(self, pool: ReaderPool, paths: list[Path]) -> None:
        self._pool, self._paths = pool, paths

    def __call__(self) -> float:
        """Pages a second once its processes run."""
        pages = (event for event in self._pool.read_documents(self._paths) if isinstance(event, PageRead))
        next(pages)
        start = time.perf_counter()
        return sum(1 for _ in pages) / (time.perf_counter() - start)


def rate(work: Callable[[], int], clock: Callable[[], float]) -> float:
    if isinstance(work, StartedPool):
        return work()
    start = clock()
    return work() / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("samples"))
    parser.add_argument("--backend", choices=("pymupdf", "pdfium"), default="pymupdf")
    parser.add_argument("--pages", type=int, default=10_000, help="at most so many pages of each document")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="processor time for what runs in one thread (busy machines)")
    options = parser.parse_args()

    paths = sorted(options.folder.glob("*.pdf"))
    reader = PageReader(backend=options.backend, ocr="never", max_pages=options.pages)
    raw = raw_pdfium if options.backend == "pdfium" else raw_pymupdf
    encoded = replace(reader, picture_format="JPEG")
    pool = ReaderPool(reader, workers=options.workers)
    ways: dict[str, Callable[[], Any]] = {
        "raw engine": lambda: raw(paths, reader.max_pixels, options.pages),
        "PageReader": lambda: by_reader(reader, paths),
        "PageReader, JPEG": lambda: by_reader(encoded, paths),
        f"ReaderPool, {options.workers} processes": lambda: by_pool(pool, paths),
        "ReaderPool, once started": StartedPool(pool, paths),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(options.rounds + 1):
        for name, work in ways.items():
            measured = rate(work, time.process_time if options.cpu and "Pool" not in name else time.perf_counter)
            if round_number:  # the first warms up
                rates[name].append(measured)
    report(rates)


def report(rates: dict[str, list[float]]) -> None:
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, measured in rates.items():
        base = "PageReader, JPEG" if name.startswith("ReaderPool") else "raw engine"  # a pool's pages are JPEG
        ratios = [one / other for one, other in zip(measured, rates[base], strict=True)]
        table.keep(f"reading: {name}", statistics.median(measured), "pages/s", statistics.median(rates[base]))
        print(f"{name:24} {statistics.median(measured):7.1f} pages/s   {statistics.median(ratios):5.2f} x {base}")


if __name__ == "__main__":
    main()
