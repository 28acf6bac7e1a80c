"""`index_documents` against its own slowest stage, alone; what a second run costs; and whether memory stays flat.

    python benchmarks/indexing.py                                  # reading, `ocr` embedder, an embedded folder
    python benchmarks/indexing.py --device-ms 25                   # an embedder that waits for a device instead
    python benchmarks/indexing.py --device-ms 50 --read-ms 60 --pixels    # both wait: what the pipeline itself costs
    python benchmarks/indexing.py --ray                            # the same on a local Ray cluster
    python benchmarks/indexing.py --documents samples --runs 5     # documents of your own
    python benchmarks/indexing.py --memory 200 2000                # peak memory of runs of so many pages

Stages are run apart and together in one process, in turns; every figure is a median. On a machine with few cores the
stages of a run take time from each other: `bound` is what no overlapping could beat, the slowest stage or all
processor time spread over all cores, whichever is longer.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import table
from waiting import WaitingEmbedder, WaitingReader

from visrag_integrations import Page, PageReader, QdrantPageStore, index_documents, load_embedder
from visrag_integrations.ingestion import IndexReport, RayCluster, index_documents_ray
from visrag_integrations.readers.pool import PageRead, ReaderPool

WORDS = "torque valve bearing flange gasket pressure manual figure table assembly maintenance page of the and".split()  # noqa: SIM905


def draw(folder: Path, pages: int, each: int = 20) -> list[Path]:
    """Documents of text pages, no two alike."""
    import pymupdf

    random, paths = np.random.default_rng(0), []
    for first in range(0, pages, each):
        path = folder / f"{first}.pdf"
        with pymupdf.open() as document:
            for number in range(first, min(pages, first + each)):
                lines = (" ".join(random.choice(WORDS, 12)) for _ in range(45))
                document.new_page().insert_text((50, 60), [f"Page {number}", *lines], fontsize=9)
            document.save(path)
        paths.append(path)
    return paths


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock, seconds of this process and its ended children, and what came of it."""
    used, started = processor_seconds(), time.perf_counter()
    result = work()
    return time.perf_counter() - started, processor_seconds() - used, result


def processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(sources: list[Path], embedder: Any, options: argparse.Namespace) -> dict[str, float]:
    """One turn: every stage alone, then all together, then once more with nothing to do."""
    pages, alone, used_apart = apart(sources, embedder, options)
    with tempfile.TemporaryDirectory() as folder, QdrantPageStore(folder) as store:
        whole, used_whole, report = timed(lambda: index(sources, store, embedder, options))
        assert report.added == pages > 0, report
        again, _, report = timed(lambda: index(sources, store, embedder, options))
        assert report.unchanged == pages, report
    slowest = max(alone.values())
    bound = max(slowest, used_apart / len(os.sched_getaffinity(0)))
    return {"pages": pages, **alone, "whole": whole, "again": again} | {
        "slowest / whole": slowest / whole,
        "bound / whole": bound / whole,
        "whole / again": whole / again,
        "processor time": used_whole / used_apart,
    }


def apart(sources: list[Path], embedder: Any, options: argparse.Namespace) -> tuple[int, dict[str, float], float]:
    """How many pages there are, the seconds of every stage alone, and the processor time of all three."""
    exact_pixels = getattr(embedder, "reads", "pixels") == "pixels"
    pool = ReaderPool(reader_of(options), options.workers, exact_pixels=exact_pixels, keep=("JPEG", 85))
    read, used_read, events = timed(lambda: [e for e in pool.read_documents(sources) if isinstance(e, PageRead)])
    batches = [events[start : start + 16] for start in range(0, len(events), 16)]
    embed, used_embed, vectors = timed(lambda: [embedder.embed_pages([e.page for e in batch]) for batch in batches])
    with tempfile.TemporaryDirectory() as folder, QdrantPageStore(folder) as store:
        store.prepare(embedder)
        pairs = list(zip(batches, vectors, strict=True))
        write, used_write, _ = timed(
            lambda: [store.add_pages([e.stored for e in batch], made) for batch, made in pairs]
        )
    return len(events), {"read": read, "embed": embed, "write": write}, used_read + used_embed + used_write


def index(sources: list[Path], store: QdrantPageStore, embedder: Any, options: argparse.Namespace) -> IndexReport:
    settings = {"store": store, "embedder": embedder, "reader": reader_of(options), "progress": False}
    return index_documents(sources, workers=options.workers, **settings)


def reader_of(options: argparse.Namespace) -> PageReader:
    return WaitingReader(ocr="never", milliseconds=options.read_ms) if options.read_ms else PageReader()


def compare_with_ray(sources: list[Path], embedder: Any, options: argparse.Namespace) -> None:
    """Both pipelines with the same number of readers and one embedder, in turns; Ray is started once, before."""
    import ray

    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
    ray.init(num_cpus=options.workers + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    settings: dict[str, Any] = {"reader": reader_of(options), "embedder": embedder, "progress": False}
    cluster = RayCluster(readers=options.workers, embedders=1)
    runs: dict[str, list[float]] = {"plain": [], "ray": []}
    for _ in range(options.runs):
        for name, seconds in runs.items():
            with tempfile.TemporaryDirectory() as folder, QdrantPageStore(folder) as store:
                one = index_documents if name == "plain" else index_documents_ray
                extra = {"workers": options.workers} if name == "plain" else {"cluster": cluster}
                seconds.append(timed(lambda: one(sources, store=store, **settings, **extra))[0])  # noqa: B023
                pages = store.count()
    medians = {name: statistics.median(seconds) for name, seconds in runs.items()}
    print(f"{pages} pages, {options.workers} readers, 1 embedder, {options.runs} runs, medians, with starting actors:")
    for name, seconds in medians.items():
        print(f"  {name:<6} {seconds:6.1f} s  {pages / seconds:6.1f} pages/s")
    print(f"plain / ray: {medians['plain'] / medians['ray']:.2f}")


class Peak:
    """The most memory of its own that this process had (files that the engine maps are not in it), MiB."""

    def __init__(self) -> None:
        self._most, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            status = Path("/proc/self/status").read_text()
            self._most = max(self._most, int(status.split("RssAnon:")[1].split()[0]) / 1024)

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return self._most


def peak_of(pages: int, options: argparse.Namespace) -> float:
    """MiB that a run of so many pages takes at its peak, in a process of its own."""
    arguments = [f"--pages={pages}", f"--device-ms={options.device_ms or 1}", f"--workers={options.workers}", "--peak"]
    arguments += ["--pixels"] if options.pixels else []
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, nargs="+", help="files to index; drawn ones when not given")
    parser.add_argument("--pages", type=int, default=400, help="how many pages are drawn")
    parser.add_argument("--device-ms", type=float, help="embed with a stand-in that waits so long a page")
    parser.add_argument("--pixels", action="store_true", help="that embedder looks at drawn pixels, not at the text")
    parser.add_argument("--read-ms", type=float, help="read with a stand-in that waits so long a page")
    parser.add_argument("--ray", action="store_true", help="a local Ray cluster against the plain pipeline")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="+", metavar="PAGES", help="only measure peak memory of such runs")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        for pages in options.memory:
            print(f"{pages} pages: peak {peak_of(pages, options):.0f} MiB")
        return
    with tempfile.TemporaryDirectory() as folder:
        sources = options.documents or draw(Path(folder), options.pages)
        reads = "pixels" if options.pixels else "text"
        embedder = WaitingEmbedder(options.device_ms, reads) if options.device_ms else load_embedder("ocr")
        if options.ray:
            compare_with_ray(sources, embedder, options)
            return
        if options.peak:
            with QdrantPageStore(Path(folder) / "index") as store:
                peak = Peak()
                index(sources, store, embedder, options)
            print(peak.stop())
            return
        embedder.embed_pages([Page("warm", 1, "up")])
        rows = [measure(sources, embedder, options) for _ in range(options.runs)]
    medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    print(f"{medians['pages']:.0f} pages, {options.workers} readers, {options.runs} runs, medians; pages a second:")
    for key in ("read", "embed", "write", "whole", "again"):
        print(f"  {key:<6} {medians['pages'] / medians[key]:10.1f}")
    table.keep("indexing: pages a second", medians["pages"] / medians["whole"], "/s")
    table.keep("indexing: of what this machine could do at most", medians["bound / whole"])
    table.keep("indexing: a second run with nothing to do, times faster", medians["whole / again"])
    print(f"together against the slowest stage: {medians['slowest / whole']:.2f} (aim: 0.9)")
    print(f"together against what is possible on this machine: {medians['bound / whole']:.2f}")
    print(f"processor time together against apart: {medians['processor time']:.2f}")
    print(f"a second run with nothing to do: {medians['whole / again']:.0f} times faster (aim: 200)")


if __name__ == "__main__":
    main()
