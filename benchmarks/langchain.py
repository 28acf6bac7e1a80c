"""What each layer costs: `VisRAGRetriever` over the core's call, the core's call over the engine's own query.

The query's vector is made beforehand, so only the layers are measured. Rounds take turns; medians.

python benchmarks/langchain.py --pages 2000 --dimension 1024
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import table

from visrag_integrations import Page, PageRetriever, QdrantPageStore
from visrag_integrations.langchain import VisRAGRetriever


class Given:
    """An embedder whose vectors are there already."""

    name, kind = "given", "single"

    def __init__(self, dimension: int) -> None:
        self.dimension, self.random = dimension, np.random.default_rng(0)
        self.query = self.random.standard_normal(dimension).astype(np.float32)

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        return [self.random.standard_normal(self.dimension).astype(np.float32) for _ in pages]

    def embed_queries(self, queries: Iterable[Any]) -> list[Any]:
        return [self.query for _ in queries]


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def raw_query(store: QdrantPageStore, embedder: Given, k: int) -> Callable[[], object]:
    """The embedded engine asked directly, with the request the store would make."""
    import qdrant_edge as qe

    shard: Any = store._engine._ready()  # type: ignore[attr-defined]
    info: Any = store.info
    oversampling = max(2.0, 300 / k)
    params = qe.SearchParams(
        exact=False, quantization=qe.QuantizationSearchParams(ignore=False, rescore=True, oversampling=oversampling)
    )
    vector = embedder.query.tolist()

    def query() -> object:
        asked = qe.Query.Nearest(vector, using="page")
        return shard.query(qe.QueryRequest(limit=k, query=asked, with_payload=True, params=params))

    assert info.dimension == embedder.dimension
    return query


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    embedder = Given(arguments.dimension)
    with tempfile.TemporaryDirectory() as folder, QdrantPageStore(folder) as store:
        store.prepare(embedder)
        pages = [Page(f"d{n // 50}", n % 50 + 1, f"page {n} " * 200, f"d{n // 50}.pdf") for n in range(arguments.pages)]
        store.add_pages(pages, embedder.embed_pages(pages))
        core = PageRetriever(embedder, store)
        retriever = VisRAGRetriever(retriever=core, k=arguments.k)
        loop = asyncio.new_event_loop()
        layers: dict[str, Callable[[], object]] = {
            "engine": raw_query(store, embedder, arguments.k),
            "core": lambda: core.retrieve("q", arguments.k),
            "invoke": lambda: retriever.invoke("q"),
            "ainvoke": lambda: loop.run_until_complete(retriever.ainvoke("q")),
        }
        for work in layers.values():
            work()
        rounds = [{name: milliseconds(work) for name, work in layers.items()} for _ in range(arguments.rounds)]
        loop.close()
    medians = {name: statistics.median(one[name] for one in rounds) for name in layers}
    print(", ".join(f"{name} {value:.2f} ms" for name, value in medians.items()))
    for name, base in (("core", "engine"), ("invoke", "core"), ("ainvoke", "core")):
        table.keep(f"LangChain: {name} over {base}", medians[name], "ms", medians[base])
        extra = medians[name] - medians[base]
        share = 100 * extra / medians[base]
        print(f"{name} over {base}: {extra:+.2f} ms, {share:+.0f} % (aim: at most 1 ms or 10 %, whichever is more)")


if __name__ == "__main__":
    main()
