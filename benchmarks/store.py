"""The store against the raw engine in one run: searching, adding, reopening. Medians; ratios are what counts.

    python benchmarks/store.py                      10,000 pages of 2304 dimensions; reopening with 50,000
    python benchmarks/store.py --pages 2000 --reopen 0
    python benchmarks/store.py --words 0 --local    against `QdrantClient(path=...)` too

The raw side uses Qdrant's engine directly: the same configuration, payload, search parameters and batches; it is handed
payloads and lexical vectors ready-made, and gives back its own objects.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qe
import table
from qdrant_client import QdrantClient, models

from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.edge_models import to_config
from visrag_integrations.store.engine import KEYWORDS, TENANT, Schema, rescoring
from visrag_integrations.store.payload import page_to_payload
from visrag_integrations.store.vectors import text_vector
from visrag_integrations.types import Page, Word

BATCH = 64
QUESTION = "word7 word1234 word42"


@dataclass
class Filler:
    dimension: int
    name: str = "benchmark"
    kind: str = "single"


class Raw:
    """The engine alone, set up as the store sets it up."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.shard = qe.EdgeShard.create(str(folder), to_config([Schema("single", dimension, binary=True)]))
        for field in KEYWORDS:
            self.shard.update(qe.UpdateOperation.create_field_index(field, qe.PayloadSchemaType.Keyword))
        self.shard.update(qe.UpdateOperation.create_field_index(TENANT, qe.KeywordIndexParams(is_tenant=True)))

    def add(self, pages: list[Page], vectors: np.ndarray, ready: list[Any]) -> None:
        points = [
            qe.Point(page.id, {"page": vector, **sparse}, payload)
            for page, vector, (payload, sparse) in zip(pages, vectors, ready, strict=True)
        ]
        self.shard.update(qe.UpdateOperation.upsert_points(points))

    def search(self, query: np.ndarray, top_k: int) -> list[Any]:
        quantized = qe.QuantizationSearchParams(rescore=True, oversampling=rescoring(top_k))
        nearest = qe.Query.Nearest(query, using="page")
        params = qe.SearchParams(quantization=quantized)
        return self.shard.query(qe.QueryRequest(limit=top_k, query=nearest, with_payload=True, params=params))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def make_pages(first: int, count: int, words: int) -> list[Page]:
    """Pages of documents of 50, each with so many words and their boxes."""
    rng = np.random.default_rng(first)
    pages = []
    for index in range(first, first + count):
        texts = [f"word{n}" for n in rng.zipf(1.5, words) % 20_000]
        boxes = np.round(rng.random((words, 4)), 5).tolist()
        placed = tuple(Word(text, (a, b, c, d)) for text, (a, b, c, d) in zip(texts, boxes, strict=True))
        source, number = f"documents/{index // 50}.pdf", index % 50 + 1
        pages.append(Page(f"document-{index // 50}", number, " ".join(texts), source, {"total_pages": 50}, placed))
    return pages


def make_vectors(first: int, count: int, dimension: int) -> np.ndarray:
    """Pages of one document lie about one centre, as real ones do."""
    documents = np.arange(first, first + count) // 50
    centres = {int(n): np.random.default_rng((int(n), 1)).standard_normal(dimension) for n in np.unique(documents)}
    own = np.random.default_rng((first, 2)).standard_normal((count, dimension))
    return (np.stack([centres[int(n)] for n in documents]) + own).astype(np.float32)


def ready_made(pages: list[Page]) -> list[Any]:
    made = []
    for page in pages:
        sparse = text_vector(page.text)
        named = {} if sparse is None else {"text": qe.SparseVector(sparse.indices, sparse.values)}
        made.append((page_to_payload(page, sources=[page.source]), named))
    return made


def add_both(store: QdrantPageStore, raw: Raw, count: int, dimension: int, words: int) -> None:
    """Add the same pages to both, batch by batch in turn, and print the rates."""
    ours, theirs, making = [], [], []
    for number, first in enumerate(range(0, count, BATCH)):
        pages = make_pages(first, min(BATCH, count - first), words)
        vectors = make_vectors(first, len(pages), dimension)
        ready: list[Any] = []
        making.append(seconds(lambda p=pages, r=ready: r.extend(ready_made(p))) / len(pages))  # type: ignore[misc]
        turns: list[tuple[list[float], Callable[[], object]]] = [
            (ours, lambda p=pages, v=vectors: store.add_pages(p, list(v))),  # type: ignore[misc]
            (theirs, lambda p=pages, v=vectors, r=ready: raw.add(p, v, r)),  # type: ignore[misc]
        ]
        for times, work in turns if number % 2 else turns[::-1]:
            times.append(seconds(work) / len(pages))
    mine, raw_time, made = (statistics.median(times) for times in (ours, theirs, making))
    table.keep(f"store: adding pages of {words} words", 1 / mine, "/s", 1 / raw_time)
    print(
        f"adding {count} pages of {dimension} dimensions, {words} words a page: store {1 / mine:.0f}/s, "
        f"raw {1 / raw_time:.0f}/s, ratio {raw_time / mine:.2f}; "
        f"with payloads and lexical vectors made too, raw {1 / (raw_time + made):.0f}/s, "
        f"ratio {(raw_time + made) / mine:.2f}"
    )


def search_both(store: QdrantPageStore, raw: Raw, dimension: int, repeats: int) -> None:
    """The same queries to both in turn."""
    rng = np.random.default_rng(1)
    ours, theirs, lexical, hybrid = [], [], [], []
    for query in rng.standard_normal((repeats, dimension)).astype(np.float32):
        ours.append(seconds(lambda q=query: store.search(q, top_k=5)))  # type: ignore[misc]
        theirs.append(seconds(lambda q=query: raw.search(q, 5)))  # type: ignore[misc]
        lexical.append(seconds(lambda q=query: store.search(None, text=QUESTION, mode="lexical")))  # type: ignore[misc]
        hybrid.append(seconds(lambda q=query: store.search(q, text=QUESTION, mode="hybrid")))  # type: ignore[misc]
    mine, raw_time = statistics.median(ours), statistics.median(theirs)
    high = np.percentile(ours, 95) * 1e3
    table.keep("store: a dense search", mine * 1e3, "ms", raw_time * 1e3)
    print(
        f"searching: store {mine * 1e3:.2f} ms (p95 {high:.2f}), "
        f"raw {raw_time * 1e3:.2f} ms, ratio {mine / raw_time:.2f}"
    )
    print(
        f"           lexical {statistics.median(lexical) * 1e3:.2f} ms, hybrid {statistics.median(hybrid) * 1e3:.2f} ms"
    )


def recall(store: QdrantPageStore, raw: Raw, dimension: int, repeats: int = 20) -> None:
    """How many of the exact best five the quantised search finds, for queries near a page and for queries near none."""
    rng = np.random.default_rng(2)
    exact = qe.SearchParams(exact=True, quantization=qe.QuantizationSearchParams(ignore=True))
    for name, near in (("near a page", 1.0), ("near none", 0.0)):
        found = 0
        for seed in make_vectors(0, repeats, dimension):  # the first pages that were added
            query = (near * seed + rng.standard_normal(dimension)).astype(np.float32)
            request = qe.QueryRequest(limit=5, query=qe.Query.Nearest(query, using="page"), params=exact)
            best = {str(hit.id) for hit in raw.shard.query(request)}
            found += len(best & {hit.page.id for hit in store.search(query, top_k=5)})
        print(f"recall@5 of the quantised search against the exact one, queries {name}: {found / (5 * repeats):.3f}")


def reopen(folder: Path, count: int, dimension: int, words: int) -> None:
    """How long a closed index of so many pages takes to open and answer."""
    rng = np.random.default_rng(3)
    with QdrantPageStore(folder) as store:
        store.prepare(Filler(dimension))
        for first in range(0, count, 512):
            pages = make_pages(first, min(512, count - first), words)
            store.add_pages(pages, list(rng.standard_normal((len(pages), dimension)).astype(np.float32)))
    query = rng.standard_normal(dimension).astype(np.float32)

    def ours() -> None:
        with QdrantPageStore(folder) as store:
            times.append(time.perf_counter() - started)
            store.search(query, top_k=5)

    times: list[float] = []
    raw: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        ours()
        started = time.perf_counter()
        shard = qe.EdgeShard.load(str(folder / "pages" / "shard"))
        raw.append(time.perf_counter() - started)
        shard.close()
    table.keep(f"store: reopening {count} pages", statistics.median(times), "s", statistics.median(raw))
    print(
        f"reopening {count} pages, {words} words a page: store {statistics.median(times):.2f} s, "
        f"raw {statistics.median(raw):.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=2304)
    parser.add_argument("--words", type=int, nargs="+", default=[0, 300], help="words a page, one run for each")
    parser.add_argument(
        "--reopen", type=int, default=50_000, help="pages of the index that is reopened; 0 leaves it out"
    )
    parser.add_argument("--local", action="store_true", help="compare with QdrantClient(path=...)")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument(
        "--folder", type=Path, help="where the indexes are made and removed; a temporary folder if not given"
    )
    arguments = parser.parse_args()
    for words in arguments.words:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            with QdrantPageStore(folder / "ours") as store:
                store.prepare(Filler(arguments.dimension))
                raw = Raw(_made(folder / "raw"), arguments.dimension)
                add_both(store, raw, arguments.pages, arguments.dimension, words)
                search_both(store, raw, arguments.dimension, arguments.repeats)
                recall(store, raw, arguments.dimension)
                resources(folder / "ours", arguments.dimension, arguments.pages)
                if arguments.local:
                    local(store, folder / "local", arguments.pages, arguments.dimension, arguments.repeats)
                raw.shard.close()
            if arguments.reopen:
                reopen(folder / "large", arguments.reopen, arguments.dimension, words)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def local(store: QdrantPageStore, folder: Path, count: int, dimension: int, repeats: int) -> None:
    """The same vectors in the client's own local mode on a folder."""
    client = QdrantClient(path=str(folder))
    cosine = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
    client.create_collection("pages", vectors_config={"page": cosine})
    adding = []
    for first in range(0, count, BATCH):
        vectors = make_vectors(first, min(BATCH, count - first), dimension)
        structs = [
            models.PointStruct(id=first + place, vector={"page": vector.tolist()}, payload={"number": first + place})
            for place, vector in enumerate(vectors)
        ]
        adding.append(seconds(lambda s=structs: client.upsert("pages", s)) / len(structs))  # type: ignore[misc]
    ours, theirs = [], []
    for query in np.random.default_rng(1).standard_normal((repeats, dimension)).astype(np.float32):
        ours.append(seconds(lambda q=query: store.search(q, top_k=5)))  # type: ignore[misc]
        theirs.append(seconds(lambda q=query: client.query_points("pages", query=q, using="page", limit=5)))  # type: ignore[misc]
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"QdrantClient(path=...): adding {1 / statistics.median(adding):.0f}/s, searching {other * 1e3:.1f} ms; "
        f"store {mine * 1e3:.2f} ms, {other / mine:.0f} x as fast"
    )
    client.close()


def resources(folder: Path, dimension: int, count: int) -> None:
    """What the index takes on the disk, its log aside, and this process in memory."""
    segments = folder / "pages" / "shard" / "segments"
    size = sum(file.stat().st_blocks * 512 for file in segments.rglob("*") if file.is_file()) / 1e6
    pages_of_memory = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages_of_memory * os.sysconf("SC_PAGE_SIZE") / 1e6
    print(f"on disk {size:.0f} MB (vectors as float32: {count * dimension * 4 / 1e6:.0f}), resident {resident:.0f} MB")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
