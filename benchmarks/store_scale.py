"""Many pages of one vector each in an embedded folder: rate, size, memory, reopening, every mode, recall.

    python benchmarks/store_scale.py                                   100,000 pages of 2304 dimensions, float32
    python benchmarks/store_scale.py --pages 10000 --storage float32 8bit

Pages of one document lie about one centre, as real ones do; so does a query. The folder is made anew for each
storage, and opened by a new process for the searches, so that its memory is that of an index that was opened.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import table
from store import Filler, make_pages, make_vectors, seconds

from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.engine import VectorSearch

BATCH = 512
DIMENSION = 2304


def fill(folder: Path, count: int, words: int, storage: str) -> None:
    """Make the index; prints the rate and what it takes on the disk."""
    taken = 0.0
    with QdrantPageStore(folder, pictures=False, storage=storage) as store:
        store.prepare(Filler(DIMENSION))
        for first in range(0, count, BATCH):
            pages = make_pages(first, min(BATCH, count - first), words)
            vectors = list(make_vectors(first, len(pages), DIMENSION))
            taken += seconds(lambda p=pages, v=vectors: store.add_pages(p, v))  # type: ignore[misc]
    segments, original = megabytes(folder / "pages" / "shard" / "segments"), count * DIMENSION * 4 / 1e6
    table.keep(f"{count} pages, {storage}: adding", count / taken, "/s")
    table.keep(f"{count} pages, {storage}: on the disk", segments, "MB", original)
    print(
        f"{count} pages, {storage}: {count / taken:.0f} pages/s; {segments:.0f} MB on the disk and "
        f"{megabytes(folder) - segments:.0f} MB of log, {original:.0f} MB as float32 (1/{original / segments:.1f})"
    )


def search(folder: Path, count: int, repeats: int) -> None:
    """Open the index and search it; prints times, memory and recall."""
    before = status("RssAnon")
    started = time.perf_counter()
    with QdrantPageStore(folder, pictures=False) as store:
        opened = time.perf_counter() - started
        rng = np.random.default_rng(1)
        queries = [make_vectors(int(first), 1, DIMENSION)[0] for first in rng.integers(0, count, repeats)]
        times: dict[str, list[float]] = {"dense": [], "lexical": [], "hybrid": [], "all numbers": []}
        for number, query in enumerate(queries):
            text = f"word{number % 50} word{number * 7 % 1000}"
            times["dense"].append(seconds(lambda q=query: store.search(q)))  # type: ignore[misc]
            times["lexical"].append(seconds(lambda t=text: store.search(None, text=t, mode="lexical")))  # type: ignore[misc]
            times["hybrid"].append(seconds(lambda q=query, t=text: store.search(q, text=t, mode="hybrid")))  # type: ignore[misc]
            exactly = lambda q=query: store._engine.nearest(VectorSearch("page", q, 5, exact=True))  # type: ignore[misc]  # noqa: E731
            times["all numbers"].append(seconds(exactly))
        found = [[hit.page for hit in store.search(query)] for query in queries]
        own, mapped = status("RssAnon") - before, status("RssFile")
    print(f"    reopened in {opened:.2f} s; {own:+.0f} MB of memory of its own, {mapped:.0f} MB of files mapped")
    for mode, taken in times.items():
        table.keep(f"{count} pages: a search, {mode}", statistics.median(taken) * 1e3, "ms")
        print(
            f"    {mode:11} p50 {statistics.median(taken) * 1e3:6.1f} ms, p95 {np.percentile(taken, 95) * 1e3:6.1f} ms"
        )
    shared = 0
    for pages, best in zip(found, exact(queries, count), strict=True):
        numbers = {int(page.doc_id.removeprefix("document-")) * 50 + page.number - 1 for page in pages}
        shared += len(numbers & set(best))
    print(f"    recall@5 against the cosine of the originals: {shared / (5 * repeats):.3f}", flush=True)


def exact(queries: list[np.ndarray], count: int) -> list[list[int]]:
    """The five best pages for each query, in float32."""
    asked = np.stack([query / np.linalg.norm(query) for query in queries])
    scores = np.empty((len(queries), count), np.float32)
    for first in range(0, count, BATCH):
        vectors = make_vectors(first, min(BATCH, count - first), DIMENSION)
        scores[:, first : first + len(vectors)] = asked @ (vectors.T / np.linalg.norm(vectors, axis=1))
    return [list(map(int, row)) for row in np.argsort(-scores, axis=1)[:, :5]]


def megabytes(folder: Path) -> float:
    """What the folder takes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 1e6


def status(field: str) -> float:
    """A line of this process's status, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=30, help="words a page")
    parser.add_argument("--storage", nargs="+", default=["float32"])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the index is made and removed; a temporary one if not given")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        search(arguments.search, arguments.pages, arguments.repeats)
        return
    for storage in arguments.storage:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            fill(folder / "index", arguments.pages, arguments.words, storage)
            sys.stdout.flush()
            again = ["--search", str(folder / "index"), "--pages", str(arguments.pages)]
            subprocess.run([sys.executable, __file__, *again, "--repeats", str(arguments.repeats)], check=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
