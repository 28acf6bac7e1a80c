"""Late interaction in the store: one exact pass against two passes, and the ways to keep vectors. Medians, one run.

    python benchmarks/store_multi.py embeddings.npz --noise-of page --noise 1   2,000 pages made from those in the file
    python benchmarks/store_multi.py embeddings.npz                             the same as near copies
    python benchmarks/store_multi.py embeddings.npz --pages 39 --noise 0 --queries 400      only those in the file

The file holds real page embeddings, name -> (n, d). More pages are made from them by noise. `--noise-of page` mixes all
vectors of a page by the same random matrix, so that it becomes another page and its patches stay as alike as they were.
`--noise-of vector` moves every vector by itself, which makes near copies that differ in nothing but that noise: finding
the exact best five among them is a test of arithmetic, not of search. A query is twenty vectors of a page with noise of
length 0.8 on each. Recall is against the exact search over float32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.engine import VectorSearch
from visrag_integrations.types import Page

LAYOUTS: dict[str, dict[str, Any]] = {
    "exact, float32": {"pooling": None, "storage": "float32"},
    "rows, float32": {"pooling": "rows", "storage": "float32"},
    "rows, float16": {"pooling": "rows", "storage": "float16"},
    "hierarchical, float16": {"pooling": "hierarchical", "storage": "float16"},
    "rows, 8bit": {"pooling": "rows", "storage": "8bit"},
    "rows, compact": {"pooling": "rows", "storage": "compact"},
}
BATCH = 64


@dataclass
class Filler:
    dimension: int
    name: str = "benchmark"
    kind: str = "multi"


@dataclass
class Made:
    """Pages and queries made from real embeddings; the same number gives the same page."""

    real: list[np.ndarray]
    noise: float
    noise_of: str
    pages: int

    def page(self, number: int) -> np.ndarray:
        real = self.real[number % len(self.real)]
        if self.noise_of == "vector":
            return self._noisy(real, self.noise, number)
        size = real.shape[1]
        mixed = np.random.default_rng((number, 2)).standard_normal((size, size)) * self.noise / np.sqrt(size)
        moved = real + real @ mixed.astype(np.float32)
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    def target(self, number: int) -> int:
        """The page that a query asks for."""
        return int(np.random.default_rng((number, 1)).integers(self.pages))

    def query(self, number: int) -> np.ndarray:
        page = self.page(self.target(number))
        rng = np.random.default_rng((number, 3))
        return self._noisy(page[rng.choice(len(page), 20, replace=False)], 0.8, number)

    def _noisy(self, vectors: np.ndarray, noise: float, seed: int) -> np.ndarray:
        drawn = np.random.default_rng((seed, 2)).standard_normal(vectors.shape) * noise / np.sqrt(vectors.shape[1])
        noisy = vectors + drawn.astype(np.float32)
        return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def megabytes(folder: Path) -> float:
    """What the folder takes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 1e6


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def fill(store: QdrantPageStore, made: Made) -> float:
    """Pages added a second, without the time it takes to make them."""
    times = 0.0
    for first in range(0, made.pages, BATCH):
        numbers = range(first, min(first + BATCH, made.pages))
        pages = [Page(f"d{number // 50}", number + 1, text=f"page {number}") for number in numbers]
        vectors = [made.page(number) for number in numbers]
        started = time.perf_counter()
        store.add_pages(pages, vectors)
        times += time.perf_counter() - started
    return made.pages / times


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def search(store: QdrantPageStore, queries: list[np.ndarray]) -> dict[str, list[float]]:
    """Every way to search, in turn, so that what else the machine does slows all of them."""
    times: dict[str, list[float]] = {"one pass": [], "dense": [], "lexical": [], "hybrid": []}
    for number, query in enumerate(queries):
        text = f"page {number}"
        times["one pass"].append(milliseconds(lambda q=query: store._engine.nearest(VectorSearch("patches", q, 5))))  # type: ignore[misc]
        times["dense"].append(milliseconds(lambda q=query: store.search(q)))  # type: ignore[misc]
        times["lexical"].append(milliseconds(lambda t=text: store.search(None, text=t, mode="lexical")))  # type: ignore[misc]
        times["hybrid"].append(milliseconds(lambda q=query, t=text: store.search(q, text=t, mode="hybrid")))  # type: ignore[misc]
    return times


def measure(name: str, folder: Path, made: Made, queries: list[np.ndarray]) -> tuple[list[list[int]], float]:
    """Fill, reopen and search one collection; prints a line and gives what was found, and megabytes."""
    dimension = made.real[0].shape[1]
    before = resident()
    with QdrantPageStore(folder, pictures=False, **LAYOUTS[name]) as store:
        store.prepare(Filler(dimension))
        rate = fill(store, made)
    started = time.perf_counter()
    with QdrantPageStore(folder, pictures=False, **LAYOUTS[name]) as store:
        opened = time.perf_counter() - started
        times = search(store, queries)
        found = [[hit.page.number for hit in store.search(query)] for query in queries]
        size, memory = megabytes(folder / "pages" / "shard" / "segments"), resident() - before
    print(f"{name}: {rate:.0f} pages/s, {size:.0f} MB, {memory:+.0f} MB resident, reopened in {opened:.2f} s")
    for mode, taken in times.items():
        print(f"    {mode:9} p50 {statistics.median(taken):6.1f} ms, p95 {np.percentile(taken, 95):6.1f} ms")
    faster = statistics.median(one / two for one, two in zip(times["one pass"], times["dense"], strict=True))
    print(f"    dense search {faster:.1f} x as fast as one pass over all vectors", flush=True)
    return found, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path, help="an .npz of page embeddings")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--noise", type=float, default=0.3, help="length of the noise beside a vector's 1")
    parser.add_argument("--noise-of", choices=["vector", "page"], default="vector")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    arguments = parser.parse_args()
    with np.load(arguments.embeddings) as file:
        real = [file[name].astype(np.float32) for name in sorted(file)]
    made = Made(real, arguments.noise, arguments.noise_of, arguments.pages)
    queries = [made.query(number) for number in range(arguments.queries)]
    original = sum(made.real[n % len(made.real)].nbytes for n in range(made.pages)) / 1e6
    print(f"{made.pages} pages, {original:.0f} MB of float32; log not counted")
    best: list[list[int]] = []
    right = [made.target(number) + 1 for number in range(arguments.queries)]
    for name in dict.fromkeys(["exact, float32", *arguments.layouts]):
        with tempfile.TemporaryDirectory() as folder:
            found, size = measure(name, Path(folder) / "index", made, queries)
        best = best or found
        shared = sum(len(set(one) & set(other)) for one, other in zip(best, found, strict=True))
        first = sum(found_[0] == page for found_, page in zip(found, right, strict=True)) / len(right)
        print(
            f"    recall@5 {shared / (5 * len(best)):.3f}, the asked page first {first:.3f}, "
            f"size 1/{original / size:.1f} of the originals",
            flush=True,
        )


if __name__ == "__main__":
    main()
