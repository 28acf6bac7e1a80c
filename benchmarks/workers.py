"""What a second process of `visrag serve --workers N` brings: answers a second, p95 and processor time, in turns.

    python benchmarks/workers.py             the tests' own Qdrant server, filled with drawn pages
    python benchmarks/workers.py --url http://localhost:6333 --workers 1 2 4      a real one
    python benchmarks/workers.py --quick     some seconds: only whether it runs

The pages lie in a collection of their own, made anew. The tests' server is one Python process that searches with
numpy: what it takes for an answer is printed too, and no number of workers passes it. The clients take processor time
as well: on two cores the three may be full before two workers are.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import serve
import table

from visrag_integrations import Page, QdrantPageStore, load_embedder

TESTS = Path(__file__).parent.parent / "tests"
COLLECTION = "visrag_benchmark"


@contextlib.contextmanager
def tests_server() -> Iterator[subprocess.Popen[str]]:
    """The tests' own server in a process of its own; the first line it prints is its address."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from fake_qdrant import serving\n"
        "with serving() as server: print(server.url, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(TESTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def fill(url: str, pages: int) -> None:
    """A collection of pages of drawn words, for the embedder `ocr`."""
    import random

    chance, embedder = random.Random(0), load_embedder("ocr")
    with QdrantPageStore(url, COLLECTION, pictures=False) as store:
        store.prepare(embedder, recreate=True)
        for first in range(0, pages, 50):
            some: list[Page] = [serve.page_of(number, chance, embedder) for number in range(first, first + 50)]
            store.add_pages(some, embedder.embed_pages(some))


def measure(url: str, options: argparse.Namespace, store_process: int | None) -> None:
    """Each number of workers in turn, so many times, and the medians."""
    seen: dict[int, list[dict[str, float]]] = {count: [] for count in options.workers}
    for _ in range(options.rounds):
        for count in options.workers:
            settings = argparse.Namespace(**{**vars(options), "index": url, "collection": COLLECTION, "workers": count})
            before = serve.processor_seconds(store_process) if store_process else 0.0
            result = serve.measure(settings, options.max_batch)
            after = serve.processor_seconds(store_process) if store_process else 0.0
            seen[count].append({**result, "store_cpu": 1000 * (after - before) / result["answers"]})
            print(line_of(count, seen[count][-1]), flush=True)
    medians = {}
    for count, results in seen.items():
        medians[count] = {name: statistics.median(result[name] for result in results) for name in results[0]}
    first = medians[options.workers[0]]
    print("medians:")
    for count, found in medians.items():
        print(f"{line_of(count, found)}; {found['rate'] / first['rate']:.2f} x the first")
        table.keep(f"workers: answers a second, {count}", found["rate"], "/s", first["rate"])


def line_of(count: int, found: dict[str, float]) -> str:
    return (
        f"{count} workers: {found['rate']:.0f} answers/s, p50 {found['p50']:.0f} ms, p95 {found['p95']:.0f} ms, "
        f"{found['errors']:.0f} wrong; processor an answer: {found['cpu']:.2f} ms workers, "
        f"{found['store_cpu']:.2f} store, {found['client_cpu']:.2f} clients"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a Qdrant server; the tests' own when not given")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="2 seconds, 4 clients, 50 pages, once")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.clients, options.pages, options.rounds = 2.0, 4, 50, 1
    if options.url:
        fill(options.url, options.pages)
        measure(options.url, options, None)
        return
    with tests_server() as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        fill(url, options.pages)
        measure(url, options, process.pid)


if __name__ == "__main__":
    main()
