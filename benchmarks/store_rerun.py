"""What a second run and a list of documents cost beside many stored pages, in a folder: seconds, processor, memory.

    python benchmarks/store_rerun.py                                      10,000, 100,000 and 1,000,000 pages
    python benchmarks/store_rerun.py --pages 10000 --against ../before    with the code of another checkout, in turn
    python benchmarks/store_rerun.py --pages 1000000 --folder /somewhere --keep   an index that is made once
    python benchmarks/store_rerun.py --quick                              500 pages, in seconds

The pages are put straight into the engine, with the payload that real ones have and vectors of 8 numbers: documents
of 50 pages, 100 documents a folder. Fifty more are real files, indexed by `index_documents`. Measured is, each in a
process of its own: a run over these fifty, unchanged; the same with `prune`; one with `prune` that finds five of them
gone; the first of `documents()`, and all of them. Room on the disk: 2 KB a page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import table
from room import Room

from visrag_integrations.ingestion import index_documents
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page

DIMENSION = 8
PAGES_OF_A_DOCUMENT = 50
DOCUMENTS_OF_A_FOLDER = 100
GIVEN = 50
# Points of one call to the engine: fewer cost time, more only memory.
BATCH = 2000
# The engine's log, which nobody cuts where points are put straight into the engine, is cut after so many points.
CUT = 100_000
BYTES_A_PAGE = 2_000
CASES = ("run", "run, prune", "run, prune 5 gone", "first document", "all documents")


@dataclass
class Letters:
    """An embedder that costs next to nothing."""

    name: str = "benchmark"
    kind: str = "single"
    dimension: int = DIMENSION
    reads: str = "text"

    def embed_pages(self, pages: Any) -> list[Any]:
        return [np.array([page.text.count(chr(97 + i)) + 1 for i in range(DIMENSION)], np.float32) for page in pages]

    embed_queries: Any = embed_pages


def fill(index: Path, count: int) -> float:
    """Seconds that it took to make an index of so many pages of documents that nobody gives."""
    import qdrant_edge

    from visrag_integrations.store.payload import page_to_payload

    started = time.perf_counter()
    rng = np.random.default_rng(0)
    with QdrantPageStore(index, pictures=False) as store:
        store.prepare(Letters())  # type: ignore[arg-type]
        shard = store._engine._ready()  # type: ignore[attr-defined]
        points = []
        for number in range(count):
            document, page_number = divmod(number, PAGES_OF_A_DOCUMENT)
            doc_id = hashlib.sha256(f"{document}".encode()).hexdigest()
            source = f"/corpus/2024/part-{document // DOCUMENTS_OF_A_FOLDER}/document-{document}.pdf"
            metadata = {"total_pages": min(PAGES_OF_A_DOCUMENT, count - document * PAGES_OF_A_DOCUMENT)}
            page = Page(doc_id, page_number + 1, text=f"page {number}", source=source, metadata=metadata)
            vector = rng.standard_normal(DIMENSION).astype(np.float32)
            points.append(qdrant_edge.Point(page.id, {"page": vector}, page_to_payload(page)))
            if len(points) == BATCH or number == count - 1:
                shard.update(qdrant_edge.UpdateOperation.upsert_points(points))
                points = []
            if number % CUT == CUT - 1:
                shard.flush()
    return time.perf_counter() - started


def make(place: Path, count: int) -> None:
    """The index and the given files, unless they are there."""
    index, given = place / "index", place / "given"
    if not given.exists():
        taken = fill(index, count)
        given.mkdir()
        for number in range(GIVEN):
            words = f"Note {number}: " + "a b c d " * (number + 1)
            (given / f"note-{number}.pdf").write_bytes(pdf(words))
        print(f"made in {taken:.0f} s")
    index_given(index, given)
    lengths, real = apparent_and_real(index)
    print(f"{count} pages; {real:.0f} MB on the disk, the files' lengths {lengths:.0f}", flush=True)


def pdf(text: str) -> bytes:
    """A page with a line of text. A text file would be read too, but through LibreOffice: seconds each."""
    drawn = f"BT /F1 8 Tf 36 700 Td ({text}) Tj ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> "
        ">>",
        f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    written, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(f"{len(written):010} 00000 n \n")
        written += f"{number} 0 obj\n{content}\nendobj\n"
    table_of_places = f"xref\n0 6\n0000000000 65535 f \n{''.join(places)}trailer\n<< /Size 6 /Root 1 0 R >>\n"
    return f"{written}{table_of_places}startxref\n{len(written)}\n%%EOF\n".encode("ascii")


def measure(case: str, index: Path, given: Path) -> dict[str, float]:
    """Run one case in this process."""
    with QdrantPageStore(index, pictures=False) as store:
        store.prepare(Letters())  # type: ignore[arg-type]
        used, started = processor_seconds(), time.perf_counter()
        memory = peak_memory()
        if case == "first document":
            next(iter(store.documents()))
        elif case == "all documents":
            found = sum(1 for _ in store.documents())
            assert found >= GIVEN
        else:
            report = index_documents(
                given, store=store, embedder=Letters(), prune="prune" in case, workers=1, progress=False
            )
            assert report.embedded == 0, report
            assert report.removed == (5 if "gone" in case else 0), report
        seconds, used = time.perf_counter() - started, processor_seconds() - used
        return {"seconds": seconds, "processor": used, "MB": peak_memory() - memory}


def processor_seconds() -> float:
    return sum(
        getattr(resource.getrusage(who), part)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        for part in ("ru_utime", "ru_stime")
    )


def peak_memory() -> float:
    """The most that this process has held so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def in_own_process(case: str, index: Path, given: Path, checkout: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--case", case, "--index", str(index), "--given", str(given)]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def compare(place: Path, count: int, checkouts: dict[str, Path], repeats: int) -> None:
    """Every case with every checkout, in turn; prints medians."""
    index, given = place / "index", place / "given"
    for case in CASES:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for _ in range(repeats):
            for name, checkout in checkouts.items():
                with gone_files(given, 5 if "gone" in case else 0):
                    found[name].append(in_own_process(case, index, given, checkout))
                if "gone" in case:  # what was removed is indexed again
                    index_given(index, given)
        medians = {name: middle(runs) for name, runs in found.items()}
        keep(f"{count} pages: {case}", medians)
        for name, measured in medians.items():
            print(
                f"    {case:18} {name:7} {measured['seconds'] * 1e3:9.0f} ms, processor "
                f"{measured['processor'] * 1e3:9.0f} ms, memory +{measured['MB']:.0f} MB",
                flush=True,
            )


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def keep(title: str, medians: dict[str, dict[str, float]]) -> None:
    """The figures of one case, beside those of the other checkout if there is one."""
    ours, before = medians["ours"], medians.get("before", {})
    table.keep(title, ours["seconds"], "s", before.get("seconds"))
    table.keep(f"{title}, processor", ours["processor"], "s", before.get("processor"))
    table.keep(f"{title}, memory more", ours["MB"], "MB", before.get("MB"))


class gone_files:  # noqa: N801  (used like a function)
    """Some of the given files are away for as long as the block lasts."""

    def __init__(self, given: Path, count: int) -> None:
        self._files = sorted(given.iterdir())[:count]

    def __enter__(self) -> None:
        for file in self._files:
            file.rename(file.parent.parent / file.name)

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            (file.parent.parent / file.name).rename(file)


def index_given(index: Path, given: Path) -> None:
    with QdrantPageStore(index, pictures=False) as store:
        report = index_documents(given, store=store, embedder=Letters(), workers=1, progress=False)
    assert report.documents == GIVEN, report


def apparent_and_real(folder: Path) -> tuple[float, float]:
    """Megabytes of a folder's files: their lengths, and what they take on the disk."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(each.st_size for each in found) / 1e6, sum(each.st_blocks * 512 for each in found) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout of this project, whose code is measured too")
    parser.add_argument("--folder", type=Path, help="where the index is made and removed; a temporary one if not given")
    parser.add_argument("--keep", action="store_true", help="keep the index in --folder, and use it again")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--given", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case, arguments.index, arguments.given)))
        return
    if arguments.quick:
        arguments.pages, arguments.repeats = [500], 1
    most = max(arguments.pages)
    Room(arguments.folder).check(most * BYTES_A_PAGE, f"{most} pages")
    checkouts = {"ours": Path(__file__).resolve().parent.parent}
    if arguments.against:
        checkouts = {"before": arguments.against.resolve(), **checkouts}
    for count in arguments.pages:
        place = arguments.folder / f"{count}" if arguments.keep else Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            make(place, count)
            compare(place, count, checkouts, arguments.repeats)
        finally:
            if not arguments.keep:
                shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
