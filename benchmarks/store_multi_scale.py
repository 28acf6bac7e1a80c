"""Late interaction over many pages in a folder: bytes a page, memory, time a query, recall@10 against the exact search.

    python benchmarks/store_multi_scale.py                              100,000 pages of 64 patches, 32 means, 8 bits
    python benchmarks/store_multi_scale.py --pages 5000 10000 20000     to see what a page adds
    python benchmarks/store_multi_scale.py --pages 20000 --patches 256 --alike 500      forms, each filled in 500 times
    python benchmarks/store_multi_scale.py --quick                      300 pages, in seconds

How the vectors are drawn (there are no real pages by the hundred thousand here): 4,000 directions of 128 numbers
stand for what a patch may show. A document has 12 of them, with chances that fall like 1, 1/2, 1/3, ...; each of its
pages shows four to seven of these in runs of neighbouring patches, so that neighbours are alike, as on real pages. A
patch is its direction, plus 0.5 of one that the whole page shares, plus noise of length 0.6, at unit length. A query is
20 patches of a page, each with noise of length 0.8. Documents of 50 pages: the other pages of the document are what a
search has to tell apart.

These are easy, for a page's own noise tells it from all others. `--alike N` makes hard ones: so many pages in a row are
copies of one page, as a form is that was filled in N times. A tenth of a copy's patches are its own, and all have noise
of length 0.3 of their own (cosine of two copies' patches: 0.92). With more copies than a search looks at again (100),
the means have to tell them apart.

The points are put straight into the engine, without its log; searches go through the store. Room on the disk: 18 KB a
page, and 128 bytes a patch in 8 bits.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import table
from numpy.typing import NDArray
from room import Room

from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.edge_models import to_config
from visrag_integrations.store.payload import page_to_payload
from visrag_integrations.store.vectors import named_vectors
from visrag_integrations.types import Page

DIMENSION = 128
DIRECTIONS = 4000
PAGES_OF_A_DOCUMENT = 50
QUERY_VECTORS = 20
TOP = 10
# Of a copy: the share of its patches that are its own, and the length of the noise on all of them.
CHANGED, OWN_NOISE = 0.1, 0.3
# Bytes of a page beside its patches: 32 means in float32, payload, indexes.
BYTES_A_PAGE = 18_000

Array = NDArray[np.float32]


@dataclass
class Filler:
    """Stands for the embedder; the vectors are drawn."""

    dimension: int = DIMENSION
    name: str = "benchmark"
    kind: str = "multi"
    pooling: str = "rows"


class Drawn:
    """Pages and queries; the same number gives the same page.

    Args:
        pages: How many there are.
        patches: Vectors of a page.
        alike: So many pages in a row are copies of one; 1: each is another.
    """

    def __init__(self, pages: int, patches: int, alike: int = 1) -> None:
        self.pages, self.patches, self.alike = pages, patches, alike
        self._directions = unit(np.random.default_rng(0).standard_normal((DIRECTIONS, DIMENSION), np.float32))

    def document(self, number: int) -> Array:
        """(50, patches, 128): the pages of one document."""
        if self.alike > 1:
            return self._copies(number)
        return self._others(np.random.default_rng((number, 1)))

    def _copies(self, number: int) -> Array:
        """A document whose pages are copies, each of the page that its family begins with."""
        rng = np.random.default_rng((number, 4))
        own = self._others(rng)
        is_own = rng.random(own.shape[:2]) < CHANGED
        pages = np.arange(number * PAGES_OF_A_DOCUMENT, (number + 1) * PAGES_OF_A_DOCUMENT)
        copied = np.empty_like(own)
        for family in np.unique(pages // self.alike):
            copied[pages // self.alike == family] = self._others(np.random.default_rng((int(family), 3)))[0]
        copied[is_own] = own[is_own]
        noise = rng.standard_normal(own.shape, np.float32) * np.float32(OWN_NOISE / np.sqrt(DIMENSION))
        return unit(copied + noise)

    def _others(self, rng: np.random.Generator) -> Array:
        """Pages about the same few things, each with noise of its own."""
        mine = self._directions[rng.choice(DIRECTIONS, 12, replace=False)]
        chances = 1 / np.arange(1, 13)
        chances /= chances.sum()
        labels = np.empty((PAGES_OF_A_DOCUMENT, self.patches), np.intp)
        for page in range(PAGES_OF_A_DOCUMENT):
            shown = rng.choice(12, rng.integers(4, 8), replace=False, p=chances)
            ends = np.sort(rng.integers(0, self.patches, len(shown) - 1))
            labels[page] = shown[np.searchsorted(ends, np.arange(self.patches), side="right")]
        shape = (PAGES_OF_A_DOCUMENT, self.patches, DIMENSION)
        shared = unit(rng.standard_normal((PAGES_OF_A_DOCUMENT, 1, DIMENSION), np.float32))
        noise = rng.standard_normal(shape, np.float32) * np.float32(0.6 / np.sqrt(DIMENSION))
        return unit(mine[labels] + np.float32(0.5) * shared + noise)

    def query(self, number: int) -> tuple[Array, int]:
        """A query, and the page that it asks for."""
        rng = np.random.default_rng((number, 2))
        target = int(rng.integers(self.pages))
        document, page = divmod(target, PAGES_OF_A_DOCUMENT)
        patches = self.document(document)[page]
        chosen = patches[rng.choice(self.patches, QUERY_VECTORS, replace=False)]
        noise = rng.standard_normal(chosen.shape, np.float32) * np.float32(0.8 / np.sqrt(DIMENSION))
        return unit(chosen + noise), target


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class Exact:
    """The best pages for each query by all numbers in float32, kept while the pages pass by."""

    def __init__(self, queries: list[Array]) -> None:
        self._stacked = np.concatenate(queries).T
        self._best: list[list[tuple[float, int]]] = [[] for _ in queries]

    def see(self, first: int, pages: Array) -> None:
        compared = (pages.reshape(-1, DIMENSION) @ self._stacked).reshape(len(pages), pages.shape[1], -1)
        scores = compared.max(axis=1).reshape(len(pages), -1, QUERY_VECTORS).sum(axis=2)
        for number, best in enumerate(self._best):
            best += [(float(score), first + place) for place, score in enumerate(scores[:, number])]
            best.sort(reverse=True)
            del best[TOP:]

    def numbers(self) -> list[list[int]]:
        return [[number for _, number in best] for best in self._best]


def fill(index: Path, drawn: Drawn, storage: str, exact: Exact) -> float:
    """Put all pages into a new index; gives the processor seconds that the engine took for a page."""
    import qdrant_edge

    from visrag_integrations.store import edge

    def without_log(schemas: Any) -> Any:
        made = to_config(schemas)
        return qdrant_edge.EdgeConfig(vectors=made.vectors, sparse_vectors=made.sparse_vectors, wal_enabled=False)

    edge.to_config = without_log
    used = 0.0
    with QdrantPageStore(index, pictures=False, storage=storage) as store:
        store.prepare(Filler())  # type: ignore[arg-type]
        schemas = store.info.schemas  # type: ignore[union-attr]
        shard = store._engine._ready()  # type: ignore[attr-defined]
        for document in range(drawn.pages // PAGES_OF_A_DOCUMENT):
            first, pages = document * PAGES_OF_A_DOCUMENT, drawn.document(document)
            exact.see(first, pages)
            points = []
            for place, patches in enumerate(pages):
                page = Page(f"{document:064x}", place + 1, source=f"/corpus/{document}.pdf")
                named = named_vectors({"patches": patches}, "", schemas)
                points.append(qdrant_edge.Point(page.id, named, page_to_payload(page)))
            started = time.process_time()
            shard.update(qdrant_edge.UpdateOperation.upsert_points(points))
            used += time.process_time() - started
        shard.flush()
    return used / drawn.pages


def search(index: Path, drawn: Drawn, queries: int) -> None:
    """Open the index and search it, in a process of its own; prints one line of JSON."""
    before = memory("RssAnon")
    started = time.perf_counter()
    with QdrantPageStore(index, pictures=False) as store:
        opened = time.perf_counter() - started
        asked = [drawn.query(number)[0] for number in range(queries)]
        store.search(asked[0], top_k=TOP)
        seconds, processor, found = [], [], []
        for query in asked:
            started, used = time.perf_counter(), time.process_time()
            hits = store.search(query, top_k=TOP)
            seconds.append(time.perf_counter() - started)
            processor.append(time.process_time() - used)
            found.append([int(h.page.doc_id, 16) * PAGES_OF_A_DOCUMENT + h.page.number - 1 for h in hits])
        own, mapped = memory("RssAnon") - before, memory("RssFile")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    measured = {"seconds": float(np.median(seconds)), "processor": float(np.median(processor)), "own": own}
    measured["slow"] = float(np.percentile(seconds, 95))
    print(json.dumps({**measured, "opened": opened, "mapped": mapped, "peak": peak, "found": found}))


def memory(field: str) -> float:
    """A line of this process's status, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1e3


def measure(place: Path, drawn: Drawn, storage: str, queries: int) -> None:
    """One index: made, measured, searched; prints what there is to say."""
    asked = [drawn.query(number) for number in range(queries)]
    exact = Exact([query for query, _ in asked])
    taken = fill(place / "index", drawn, storage, exact)
    size = sum(path.stat().st_blocks * 512 for path in (place / "index").rglob("*") if path.is_file())
    command = [sys.executable, __file__, "--search", str(place / "index"), "--patches", str(drawn.patches)]
    command += ["--pages", str(drawn.pages), "--queries", str(queries), "--alike", str(drawn.alike)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    measured = json.loads(ended.stdout.splitlines()[-1])
    shared = first = 0
    for best, found, (_, target) in zip(exact.numbers(), measured["found"], asked, strict=True):
        shared += len(set(best) & set(found))
        first += found[0] == target
    title = f"{drawn.pages} pages of {drawn.patches} vectors, {storage}"
    if drawn.alike > 1:
        title += f", {drawn.alike} alike"
    table.keep(f"{title}: adding, processor a page", taken * 1e3, "ms")
    table.keep(f"{title}: on the disk a page", size / drawn.pages, "bytes", drawn.patches * DIMENSION * 4)
    table.keep(f"{title}: a search", measured["seconds"] * 1e3, "ms")
    table.keep(f"{title}: a search, processor", measured["processor"] * 1e3, "ms")
    table.keep(f"{title}: memory of its own", measured["own"], "MB")
    table.keep(f"{title}: recall@{TOP} against the exact search", shared / (TOP * queries))
    print(
        f"{title}, {DIMENSION} numbers each, 32 means: {size / drawn.pages:.0f} bytes a page on the disk "
        f"({size / 1e6:.0f} MB); adding {taken * 1e3:.2f} ms of processor a page\n"
        f"    a search p50 {measured['seconds'] * 1e3:.0f} ms, p95 {measured['slow'] * 1e3:.0f} ms, "
        f"{measured['processor'] * 1e3:.0f} ms of processor; opened in {measured['opened']:.1f} s; memory "
        f"{measured['own']:+.0f} MB of its own, {measured['mapped']:.0f} MB of files mapped\n"
        f"    recall@{TOP} {shared / (TOP * queries):.3f} against the exact search in float32, the asked page first "
        f"{first / queries:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--patches", type=int, default=64)
    parser.add_argument("--alike", type=int, default=1, metavar="N", help="so many pages in a row are copies of one")
    parser.add_argument("--storage", nargs="+", default=["8bit"])
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where the index is made and removed; a temporary one if not given")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        search(arguments.search, Drawn(arguments.pages[0], arguments.patches, arguments.alike), arguments.queries)
        return
    if arguments.quick:
        arguments.pages, arguments.queries = [300], 3
    most = max(arguments.pages)
    Room(arguments.folder).check(most * (BYTES_A_PAGE + arguments.patches * DIMENSION * 4), f"{most} pages")
    for pages in arguments.pages:
        for storage in arguments.storage:
            place = Path(tempfile.mkdtemp(dir=arguments.folder))
            try:
                measure(place, Drawn(pages, arguments.patches, arguments.alike), storage, arguments.queries)
            finally:
                shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
