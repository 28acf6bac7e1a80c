"""Many pages of one vector each in an embedded folder: rate, size, memory, reopening, every mode, recall.

    python benchmarks/store_scale.py                                   100,000 pages of 2304 dimensions, float32
    python benchmarks/store_scale.py --pages 10000 --storage float32 8bit
    python benchmarks/store_scale.py --pages 1000000 --minutes 50      what is there after 50 minutes is searched
    python benchmarks/store_scale.py --pages 100000 --optimize         and once more with graphs
    python benchmarks/store_scale.py --quick                           600 pages, in seconds

Pages of one document lie about one centre, as real ones do; so does a query. A second set of queries lies near no
page at all, where the best five are told apart by little. The folder is made anew for each storage, searched by one
bit a number (the store's own choice from 1024 dimensions), and opened by a new process for the searches, so that its
memory is that of an index that was opened.

Room on the disk: 11.5 KB a page of 30 words and 0.3 GB of log, twice that with `--optimize`. Where less than
--keep-free gigabytes would be left, where the time is up, or on Ctrl-C, adding stops, and what is there is measured.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import table
from room import Room
from store import Filler, make_pages, make_vectors, seconds

from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.engine import VectorSearch

BATCH = 512
DIMENSION = 2304
BYTES_A_PAGE = 11_500
TOP = 5
# Of the engine's log, which is cut at about this length.
LOG = 300_000_000
# A line of progress for so many pages.
TOLD = 20 * BATCH
# Searches that compare all numbers read all vectors: seconds each at a million pages.
EXACT_SEARCHES = 10


class Stopped:
    """Whether adding has to end: by the clock, by the room on the disk, by Ctrl-C or a polite kill."""

    def __init__(self, minutes: float, room: Room) -> None:
        self._until, self._room = time.monotonic() + minutes * 60, room
        self._asked = False

    def __enter__(self) -> Stopped:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def reason(self) -> str:
        """Why adding has to end; "" if it goes on."""
        if self._asked:
            return "it was stopped"
        if time.monotonic() > self._until:
            return "the time is up"
        if not self._room.is_enough():
            return "the disk has too little room"
        return ""


@dataclass
class Cost:
    """What adding took so far: pages, seconds by the clock, and of the processor."""

    pages: int = 0
    clock: float = 0.0
    processor: float = 0.0

    def add(self, pages: int, work: Callable[[], object]) -> None:
        used = time.process_time()
        self.clock += seconds(work)
        self.processor += time.process_time() - used
        self.pages += pages


def fill(folder: Path, count: int, words: int, storage: str, stopped: Stopped) -> int:
    """Make the index; prints the rate and what it takes on the disk. Gives the pages that are in it."""
    cost = Cost()
    with QdrantPageStore(folder, pictures=False, storage=storage) as store, stopped:
        store.prepare(Filler(DIMENSION))
        before = Cost()
        while cost.pages < count and not (cost.pages and stopped.reason()):  # one batch there always is
            first = cost.pages
            pages = make_pages(first, min(BATCH, count - first), words)
            vectors = list(make_vectors(first, len(pages), DIMENSION))
            cost.add(len(pages), lambda p=pages, v=vectors: store.add_pages(p, v))  # type: ignore[misc]
            if cost.pages - before.pages >= TOLD:
                tell(folder, before, cost)
                before = Cost(cost.pages, cost.clock, cost.processor)
        if cost.pages < count:
            print(f"stopped at {cost.pages} of {count} pages: {stopped.reason()}", flush=True)
        own = status("RssAnon")
    closed(folder, cost, storage, own)
    return cost.pages


def tell(folder: Path, before: Cost, now: Cost) -> None:
    """A line of progress: the pages since the last one."""
    pages = now.pages - before.pages
    print(
        f"    {now.pages:8} pages: {pages / (now.clock - before.clock):.0f}/s, "
        f"{(now.processor - before.processor) / pages * 1e3:.2f} ms of processor a page; "
        f"{megabytes(folder):.0f} MB on the disk, {status('RssAnon'):.0f} MB of memory",
        flush=True,
    )


def closed(folder: Path, cost: Cost, storage: str, own: float) -> None:
    """What the whole index took."""
    count, segments = cost.pages, megabytes(folder / "pages" / "shard" / "segments")
    original = count * DIMENSION * 4 / 1e6
    table.keep(f"{count} pages, {storage}: adding", count / cost.clock, "/s")
    table.keep(f"{count} pages, {storage}: on the disk", segments, "MB", original)
    print(
        f"{count} pages, {storage}: {count / cost.clock:.0f} pages/s, {cost.processor / count * 1e3:.2f} ms of "
        f"processor a page; {segments:.0f} MB on the disk and {megabytes(folder) - segments:.0f} MB of log, "
        f"{original:.0f} MB as float32 (1/{original / segments:.2f}); {own:.0f} MB of memory of its own while it was "
        "filled",
        flush=True,
    )


def optimize(folder: Path, count: int) -> None:
    """Build the graphs; prints the time and the room that the folder took meanwhile and takes now."""
    cost = Cost()
    with QdrantPageStore(folder, pictures=False) as store:
        cost.add(count, store.optimize)
    table.keep(f"{count} pages: building graphs", cost.clock, "s")
    print(
        f"{count} pages: graphs in {cost.clock:.0f} s, {cost.processor:.0f} s of processor; {megabytes(folder):.0f} MB "
        f"on the disk, {status('VmHWM'):.0f} MB of memory at most",
        flush=True,
    )


class Measured:
    """Times of one kind of search: by the clock, and of the processor."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    def add(self, work: Callable[[], object]) -> None:
        used = time.process_time()
        self.clock.append(seconds(work) * 1e3)
        self.processor.append((time.process_time() - used) * 1e3)

    def tell(self, title: str, mode: str) -> None:
        median = statistics.median(self.clock)
        table.keep(f"{title}: a search, {mode}", median, "ms")
        print(
            f"    {mode:11} p50 {median:7.1f} ms, p95 {np.percentile(self.clock, 95):7.1f} ms, processor p50 "
            f"{statistics.median(self.processor):7.1f} ms, first {self.clock[0]:7.1f} ms",
            flush=True,
        )


def search(folder: Path, count: int, repeats: int) -> None:
    """Open the index and search it; prints times, memory and recall."""
    before = status("RssAnon")
    opening = Measured()
    opened: list[QdrantPageStore] = []
    opening.add(lambda: opened.append(QdrantPageStore(folder, pictures=False)))
    near, far = queries(count, repeats)
    with opened[0] as store:
        held = status("RssAnon") - before
        for mode, measured in timed(store, near).items():
            measured.tell(f"{count} pages", mode)
        found = [[place(hit.page.doc_id, hit.page.number) for hit in store.search(query)] for query in near + far]
        own, mapped = status("RssAnon") - before, status("RssFile")
    print(
        f"    reopened in {opening.clock[0] / 1e3:.2f} s, {opening.processor[0] / 1e3:.2f} s of processor; "
        f"{held:+.0f} MB of memory of its own when it was open, {own:+.0f} MB after the searches, {mapped:.0f} MB of "
        "files mapped",
        flush=True,
    )
    best = exact(near + far, count)
    for name, part in (("near a document", slice(0, repeats)), ("near no page", slice(repeats, None))):
        shared = sum(len(set(a) & set(b)) for a, b in zip(found[part], best[part], strict=True))
        table.keep(f"{count} pages: recall@{TOP}, queries {name}", shared / (TOP * repeats))
        print(f"    recall@{TOP} against the cosine of the originals, queries {name}: {shared / (TOP * repeats):.3f}")


def queries(count: int, repeats: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Queries about documents that are there, and queries about nothing."""
    rng = np.random.default_rng(1)
    near = [make_vectors(int(first), 1, DIMENSION)[0] for first in rng.integers(0, count, repeats)]
    return near, list(rng.standard_normal((repeats, DIMENSION)).astype(np.float32))


def timed(store: QdrantPageStore, asked: list[np.ndarray]) -> dict[str, Measured]:
    """Every query in every mode."""
    modes = {mode: Measured() for mode in ("dense", "lexical", "hybrid", "all numbers")}
    for number, query in enumerate(asked):
        text = f"word{number % 50} word{number * 7 % 1000}"
        modes["dense"].add(lambda q=query: store.search(q))  # type: ignore[misc]
        modes["lexical"].add(lambda t=text: store.search(None, text=t, mode="lexical"))  # type: ignore[misc]
        modes["hybrid"].add(lambda q=query, t=text: store.search(q, text=t, mode="hybrid"))  # type: ignore[misc]
    # Last: they bring all vectors into the file cache, and push other things out of it.
    for query in asked[:EXACT_SEARCHES]:
        all_numbers = VectorSearch("page", query, TOP, exact=True)
        modes["all numbers"].add(lambda s=all_numbers: store._engine.nearest(s))  # type: ignore[misc]
    return modes


def place(doc_id: str, number: int) -> int:
    """The number that a page was drawn by."""
    return int(doc_id.removeprefix("document-")) * 50 + number - 1


def exact(asked: list[np.ndarray], count: int) -> list[list[int]]:
    """The five best pages for each query, in float32; only these are held while the pages pass by."""
    directions = np.stack([query / np.linalg.norm(query) for query in asked])
    best = np.full((len(asked), TOP), -np.inf, np.float32)
    numbers = np.zeros((len(asked), TOP), np.int64)
    for first in range(0, count, BATCH):
        vectors = make_vectors(first, min(BATCH, count - first), DIMENSION)
        scores = np.hstack([best, directions @ (vectors.T / np.linalg.norm(vectors, axis=1))])
        ids = np.hstack([numbers, np.tile(np.arange(first, first + len(vectors)), (len(asked), 1))])
        chosen = np.argsort(-scores, axis=1)[:, :TOP]
        best, numbers = np.take_along_axis(scores, chosen, 1), np.take_along_axis(ids, chosen, 1)
    return [list(map(int, row)) for row in numbers]


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
    parser.add_argument("--minutes", type=float, default=1e6, help="adding ends after so many")
    parser.add_argument("--keep-free", type=float, default=5, help="gigabytes of the disk that are left in any case")
    parser.add_argument("--optimize", action="store_true", help="build graphs, and search once more")
    parser.add_argument("--folder", type=Path, help="where the index is made and removed; a temporary one if not given")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        search(arguments.search, arguments.pages, arguments.repeats)
        return
    if arguments.quick:
        arguments.pages, arguments.repeats = 600, 3
    room = Room(arguments.folder, arguments.keep_free)
    needed = arguments.pages * BYTES_A_PAGE + LOG
    if arguments.optimize:
        needed *= 2  # the old segments and the new ones
    room.check(needed, f"{arguments.pages} pages")
    for storage in arguments.storage:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            run(folder / "index", storage, arguments, room)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run(index: Path, storage: str, arguments: argparse.Namespace, room: Room) -> None:
    """One index: filled, searched, and with graphs searched again."""
    count = fill(index, arguments.pages, arguments.words, storage, Stopped(arguments.minutes, room))
    again = [sys.executable, __file__, "--search", str(index), "--pages", str(count)]
    again += ["--repeats", str(arguments.repeats)]
    subprocess.run(again, check=True)
    if arguments.optimize:
        optimize(index, count)
        subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
