"""`index_documents` against the sum of its parts run apart: reading, OCR, embedding. Median of several runs.

python benchmarks/indexing.py samples --runs 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from visrag_integrations import PageReader, QdrantPageStore, index_documents, load_embedder, ocr


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    embedder = load_embedder("ocr")
    reader = PageReader(ocr="never", picture_format="JPEG")
    scans = [page for page in reader.read(arguments.documents) if not page.text.strip()]
    pages = [replace(page, text=page.text or "read by OCR " * 40) for page in reader.read(arguments.documents)]
    embedder.embed_pages(pages[:1])
    if scans:
        ocr.read_words(scans[0].open_image())  # loads the models

    def index() -> None:
        with tempfile.TemporaryDirectory() as folder, QdrantPageStore(Path(folder) / "index") as store:
            report = index_documents(arguments.documents, store=store, embedder=embedder)
            assert report.added == report.pages > 0

    rows = []
    for _ in range(arguments.runs):
        read = seconds(lambda: list(reader.read(arguments.documents)))
        ocr_time = seconds(lambda: [ocr.read_words(page.open_image()) for page in scans])
        embed = seconds(lambda: embedder.embed_pages(pages))
        rows.append((read, ocr_time, embed, seconds(index)))
    read, ocr_time, embed, whole = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [row[3] / sum(row[:3]) for row in rows]
    print(f"{len(pages)} pages, {len(scans)} of them by OCR; medians of {arguments.runs} runs")
    print(f"apart: reading {read:.2f} s, OCR {ocr_time:.2f} s, embedding {embed:.2f} s")
    print(f"index_documents: {whole:.2f} s, {len(pages) / whole:.1f} pages/s")
    print(f"ratio to the sum of the parts: {statistics.median(ratios):.2f} (aim: at most 1.2)")


if __name__ == "__main__":
    main()
