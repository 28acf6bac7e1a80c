"""What each layer costs: `VisRAGRetriever` and an index over `VisRAGVectorStore`, over the core's own call.

The query's vector is made beforehand, so only the layers are measured. Rounds take turns; medians.

python benchmarks/llamaindex.py --pages 2000 --dimension 1024
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import table
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import ImageNode
from PIL import Image

from visrag_integrations import Page, PageRetriever, QdrantPageStore
from visrag_integrations.llamaindex import VisRAGRetriever, VisRAGVectorStore


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


def fill(store: QdrantPageStore, embedder: Given, count: int) -> None:
    """Pages as the core indexes them."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "JPEG")
    store.prepare(embedder)
    pages = [
        Page(f"d{n // 50}", n % 50 + 1, f"page {n} " * 200, f"d{n // 50}.pdf", picture=buffer.getvalue())
        for n in range(count)
    ]
    store.add_pages(pages, embedder.embed_pages(pages))


def fill_with_nodes(store: QdrantPageStore, embedder: Given, count: int, picture: Path) -> VisRAGVectorStore:
    """Nodes as LlamaIndex hands them over."""
    vector_store = VisRAGVectorStore(store=store, embedder=embedder)
    metadata = {"file_name": "a.pdf", "file_path": "/reports/a.pdf", "image_sha256": "0" * 64}
    vector_store.add(
        [
            ImageNode(text=f"page {n} " * 200, image_path=str(picture), metadata={**metadata, "page_label": str(n + 1)})
            for n in range(count)
        ]
    )
    return vector_store


def measure(core: PageRetriever, others: dict[str, Callable[[], object]], rounds: int, k: int) -> None:
    """Print the medians, and what the others cost over the core's call."""
    works = {"core": lambda: core.retrieve("q", k), **others}
    for work in works.values():
        work()
    taken = [{name: milliseconds(work) for name, work in works.items()} for _ in range(rounds)]
    medians = {name: statistics.median(one[name] for one in taken) for name in works}
    print(", ".join(f"{name} {value:.2f} ms" for name, value in medians.items()))
    for name in others:
        table.keep(f"LlamaIndex: {name} over core", medians[name], "ms", medians["core"])
        extra = medians[name] - medians["core"]
        share = 100 * extra / medians["core"]
        print(f"{name} over core: {extra:+.2f} ms, {share:+.0f} % (aim: at most 1 ms or 10 %, whichever is more)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    embedder, k = Given(arguments.dimension), arguments.k
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        with QdrantPageStore(Path(folder, "pages")) as store:
            fill(store, embedder, arguments.pages)
            core = PageRetriever(embedder, store)
            retriever = VisRAGRetriever(retriever=core, similarity_top_k=k)
            layers: dict[str, Callable[[], object]] = {
                "retrieve": lambda: retriever.retrieve("q"),
                "aretrieve": lambda: loop.run_until_complete(retriever.aretrieve("q")),
            }
            measure(core, layers, arguments.rounds, k)
        picture = Path(folder, "page.jpg")
        Image.new("RGB", (64, 64), "white").save(picture)
        with QdrantPageStore(Path(folder, "nodes")) as store:
            vector_store = fill_with_nodes(store, embedder, arguments.pages, picture)
            index = VectorStoreIndex.from_vector_store(vector_store, embed_model=vector_store.embed_model)
            of_index = index.as_retriever(similarity_top_k=k)
            measure(PageRetriever(embedder, store), {"index": lambda: of_index.retrieve("q")}, arguments.rounds, k)
    loop.close()


if __name__ == "__main__":
    main()
