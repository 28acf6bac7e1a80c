"""How often the right page is found: MRR@10 and Recall@5 by kind of query, for each search mode.

    python benchmarks/quality.py --documents DIR --queries FILE... [--index DIR] [--embedder ocr]

The way of the command line is taken: `index_documents` into a store, `PageRetriever` out of it, every document in one
index. A query file has one JSON object a line: `query`, `source` (file name), `page` (from 1), `kind`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visrag_integrations import PageRetriever, QdrantPageStore, index_documents, load_embedder
from visrag_integrations.types import Mode, ScoredPage

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
DEPTH = 10


def rank_of(hits: Sequence[ScoredPage], query: dict[str, Any]) -> int | None:
    """The place of the right page among the hits, from 1; None when it is not there."""
    for place, hit in enumerate(hits, 1):
        if Path(hit.page.source).name == query["source"] and hit.page.number == query["page"]:
            return place
    return None


def measure(retriever: PageRetriever, queries: Sequence[dict[str, Any]], mode: Mode) -> list[int | None]:
    found = retriever.retrieve_many([query["query"] for query in queries], DEPTH, mode=mode)
    return [rank_of(hits, query) for hits, query in zip(found, queries, strict=True)]


def mrr(ranks: Sequence[int | None]) -> float:
    return sum(1 / rank for rank in ranks if rank) / len(ranks)


def recall(ranks: Sequence[int | None], depth: int = 5) -> float:
    return sum(rank is not None and rank <= depth for rank in ranks) / len(ranks)


def groups_of(queries: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Row name -> which queries: every file as a whole, then its kinds."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, query in enumerate(queries):
        groups[query["file"]].append(i)
        groups[f"  {query['kind']}"].append(i)
    return groups


def print_table(queries: Sequence[dict[str, Any]], ranks: dict[Mode, list[int | None]]) -> None:
    print(f"{'MRR@10 / Recall@5':<22}{'queries':>8}", *(f"{mode:>15}" for mode in MODES))
    for name, members in groups_of(queries).items():
        cells = ([ranks[mode][i] for i in members] for mode in MODES)
        print(f"{name:<22}{len(members):>8}", *(f"{mrr(cell):>7.3f} / {recall(cell):.3f}" for cell in cells))


def print_missed(queries: Sequence[dict[str, Any]], ranks: Sequence[int | None]) -> None:
    for query, rank in zip(queries, ranks, strict=True):
        if rank is None or rank > 5:
            print(f"missed: rank {rank or f'> {DEPTH}'}, {query['source']} p. {query['page']}: {query['query'][:80]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", required=True, type=Path)
    parser.add_argument("--queries", required=True, type=Path, nargs="+")
    parser.add_argument("--index", type=Path, help="kept for the next run; a temporary folder when not given")
    parser.add_argument("--embedder", default="ocr")
    parser.add_argument("--missed", action="store_true", help="list what hybrid search did not find in its first five")
    options = parser.parse_args()
    queries = [
        {**json.loads(line), "file": path.stem}
        for path in options.queries
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    embedder = load_embedder(options.embedder)
    with tempfile.TemporaryDirectory() as folder, QdrantPageStore(options.index or Path(folder) / "index") as store:
        started = time.monotonic()
        report = index_documents([options.documents], store=store, embedder=embedder)
        print(f"{report.pages} pages, {len(report.failed)} failed, {time.monotonic() - started:.1f} s to index")
        retriever = PageRetriever(embedder, store)
        ranks, seconds = {}, {}
        for mode in MODES:
            started = time.monotonic()
            ranks[mode] = measure(retriever, queries, mode)
            seconds[mode] = (time.monotonic() - started) / len(queries)
    print_table(queries, ranks)
    print("ms a query:", ", ".join(f"{mode} {seconds[mode] * 1000:.1f}" for mode in MODES))
    if options.missed:
        print_missed(queries, ranks["hybrid"])


if __name__ == "__main__":
    main()
