"""What a search costs above the engine: the engine's own requests, the core, LangChain and LlamaIndex, in one run.

    python benchmarks/search.py                                  591, 10,000 and 100,000 drawn pages
    python benchmarks/search.py --index .visrag                  an index that the embedder `ocr` filled
    python benchmarks/search.py --pages 2000 --kind multi        ten vectors a page
    python benchmarks/search.py --quick                          some seconds: only whether it runs

Every round asks another question, and in each every layer takes its turn, in another order each time, so that a busy
machine hits all alike. Printed are medians in milliseconds, and those of the processor's time of this process. Vectors
are made beforehand: what it takes to embed a question is a line of its own.

The engine's side is asked for what the store asks of it, by requests made beforehand, and gives back its own objects.
"The engine's two searches" are those that a hybrid search begins with: by the vector and by the words, 100 candidates
each, without their payload. "... read" is what any program needs of them: the ids and scores of what was found, and the
payload of five. "... alone" is a retriever of the host's own that gives the same Documents or nodes ready-made.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import table
from langchain_core.retrievers import BaseRetriever as LangChainBase
from llama_index.core.base.base_retriever import BaseRetriever as LlamaIndexBase
from pydantic import Field

from visrag_integrations import Page, PageRetriever, QdrantPageStore, load_embedder
from visrag_integrations.langchain import VisRAGRetriever as LangChainRetriever
from visrag_integrations.llamaindex import VisRAGRetriever as LlamaIndexRetriever
from visrag_integrations.scores import lexical
from visrag_integrations.store.edge_search import nearest_request
from visrag_integrations.store.engine import TEXT_VECTOR, SparseVector, VectorSearch

K = 5
CANDIDATES = 100
BATCH = 512
QUESTIONS = (
    "torque of the bolts",
    "who pays the rent of the house?",
    "install the package from a mirror",
    "median survival",
)


class Given:
    """An embedder whose vectors are there already: those of pages are drawn, those of questions are looked up."""

    def __init__(self, kind: str, dimension: int) -> None:
        self.name, self.kind, self.dimension = "given", kind, dimension
        self.random = np.random.default_rng(0)
        self.known: dict[str, Any] = {}

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        shape = (10, self.dimension) if self.kind == "multi" else (self.dimension,)
        return [self.random.standard_normal(shape).astype(np.float32) for _ in pages]

    def embed_queries(self, queries: Iterable[Any]) -> list[Any]:
        return [self.known[query] for query in queries]

    def learn(self, query: str) -> None:
        shape = (1, self.dimension) if self.kind == "multi" else (self.dimension,)
        self.known[query] = self.random.standard_normal(shape).astype(np.float32)


class Looked:
    """The embedder of an index, with the vectors of its questions made beforehand."""

    def __init__(self, embedder: Any) -> None:
        self.name, self.kind, self.dimension = embedder.name, embedder.kind, embedder.dimension
        self.fingerprint = embedder.fingerprint
        self.embedder = embedder
        self.known: dict[str, Any] = {}

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        raise NotImplementedError

    def embed_queries(self, queries: Iterable[Any]) -> list[Any]:
        return [self.known[query] for query in queries]

    def learn(self, query: str) -> None:
        (self.known[query],) = self.embedder.embed_queries([query])


@dataclass
class Times:
    """Of one layer: wall-clock and processor seconds of each round."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def note(self, work: Callable[[], object]) -> None:
        processor, wall = time.process_time(), time.perf_counter()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)

    @property
    def ms(self) -> float:
        return 1000 * statistics.median(self.wall)

    @property
    def cpu_ms(self) -> float:
        return 1000 * statistics.median(self.processor)


def draw_pages(first: int, count: int) -> list[Page]:
    """Pages of documents of 50, of some 60 words each that are as frequent as words are, and a key to filter by."""
    rng = np.random.default_rng(first)
    known = " ".join(QUESTIONS).split()
    pages: list[Page] = []
    for index in range(first, first + count):
        words = [f"word{number}" for number in rng.zipf(1.4, 60) % 20_000]
        words += [known[index % len(known)], known[index // 7 % len(known)]]
        metadata = {"total_pages": 50, "year": 1990 + index % 40}
        pages.append(Page(f"d{index // 50}", index % 50 + 1, " ".join(words), f"docs/{index // 50}.pdf", metadata))
    return pages


def fill(store: QdrantPageStore, embedder: Given, count: int) -> None:
    store.prepare(embedder)
    for first in range(0, count, BATCH):
        pages = draw_pages(first, min(BATCH, count - first))
        store.add_pages(pages, embedder.embed_pages(pages))


def questions(rounds: int) -> list[str]:
    """Another one in each round, so that nothing is answered from a cache."""
    return [f"{QUESTIONS[place % len(QUESTIONS)]} word{place % 997}" for place in range(rounds)]


@dataclass(frozen=True)
class Asked:
    """One question, with the engine's own requests for it."""

    text: str
    dense: Any
    candidates: tuple[Any, Any]


def engine_requests(store: QdrantPageStore, embedder: Any, text: str) -> Asked:
    """As the store makes them."""
    assert store.info is not None
    vector = embedder.known[text]
    if vector.ndim == 1:
        vector = vector / np.linalg.norm(vector)
    by_vector = VectorSearch(store.info.schema.vector_name, vector, K)
    indices, values = lexical.query_vector(text)
    by_words = VectorSearch(TEXT_VECTOR, SparseVector(indices, values), CANDIDATES)
    candidates = []
    for half in (by_vector, by_words):
        candidates.append(nearest_request(half, CANDIDATES, with_payload=False))
    return Asked(text, nearest_request(by_vector, K, with_payload=True), (candidates[0], candidates[1]))


def read(shard: Any, asked: Asked) -> object:
    """The engine's two searches, with what a program needs of them."""
    found = [shard.query(request) for request in asked.candidates]
    scores = [[(hit.id, hit.score) for hit in hits] for hits in found]
    return scores, shard.retrieve([hit.id for hit in found[0][:K]], with_payload=True, with_vector=False)


class ReadyDocuments(LangChainBase):
    """LangChain's own part of a call."""

    ready: list[Any] = Field(default_factory=list)

    def _get_relevant_documents(self, query: str, *, run_manager: Any = None) -> list[Any]:
        return self.ready


class ReadyNodes(LlamaIndexBase):
    """LlamaIndex's own part of a call."""

    def __init__(self, ready: list[Any]) -> None:
        self.ready = ready
        super().__init__()

    def _retrieve(self, query_bundle: Any) -> list[Any]:
        return list(self.ready)


Layers = dict[str, Callable[[Asked], object]]


def layers_of(store: QdrantPageStore, embedder: Any) -> Layers:
    """Every way to ask, by its name."""
    shard: Any = store._engine._ready()  # type: ignore[attr-defined]
    core = PageRetriever(embedder, store, mode="dense")
    langchain = {mode: LangChainRetriever(retriever=core, k=K, mode=mode) for mode in ("dense", "hybrid")}
    llamaindex = {mode: LlamaIndexRetriever(core, K, mode=mode) for mode in ("dense", "hybrid")}
    documents = ReadyDocuments(ready=langchain["dense"].invoke(next(iter(embedder.known))))
    nodes = ReadyNodes(llamaindex["dense"].retrieve(next(iter(embedder.known))))
    return {
        "engine, dense": lambda asked: shard.query(asked.dense),
        "store, dense": lambda asked: store.search(embedder.known[asked.text], top_k=K),
        "core, dense": lambda asked: core.retrieve(asked.text, K),
        "LangChain, dense": lambda asked: langchain["dense"].invoke(asked.text),
        "LlamaIndex, dense": lambda asked: llamaindex["dense"].retrieve(asked.text),
        "engine, two searches": lambda asked: [shard.query(request) for request in asked.candidates],
        "engine, ... read": lambda asked: read(shard, asked),
        "core, lexical": lambda asked: core.retrieve(asked.text, K, mode="lexical"),
        "core, hybrid": lambda asked: core.retrieve(asked.text, K, mode="hybrid"),
        "LangChain, hybrid": lambda asked: langchain["hybrid"].invoke(asked.text),
        "LlamaIndex, hybrid": lambda asked: llamaindex["hybrid"].retrieve(asked.text),
        "LangChain alone": lambda asked: documents.invoke(asked.text),
        "LlamaIndex alone": lambda asked: nodes.retrieve(asked.text),
    }


def measure(layers: Layers, asked: Sequence[Asked]) -> dict[str, Times]:
    """Every layer once a round, in another order each time."""
    times = {name: Times() for name in layers}
    order = list(layers)
    shuffle = random.Random(0)
    for each in asked[: min(3, len(asked))]:
        for work in layers.values():
            work(each)
    for each in asked:
        shuffle.shuffle(order)
        for name in order:
            times[name].note(lambda work=layers[name], one=each: work(one))  # type: ignore[misc]
    return times


def print_times(title: str, times: dict[str, Times]) -> None:
    print(f"\n{title}: milliseconds, median (processor)")
    for name, taken in times.items():
        print(f"  {name:<22}{taken.ms:8.2f} ({taken.cpu_ms:.2f})")
    dense, two = times["engine, dense"], times["engine, two searches"]
    core, hybrid = times["core, dense"], times["core, hybrid"]
    table.keep("search: core, dense", core.ms, "ms", dense.ms)
    table.keep("search: core, hybrid", hybrid.ms, "ms", two.ms)
    print(f"  core dense - engine: {core.ms - dense.ms:+.2f} ({core.cpu_ms - dense.cpu_ms:+.2f}); aim: 0.3")
    ratio = hybrid.ms / two.ms
    print(f"  core hybrid / the engine's two searches: {ratio:.2f} ({hybrid.cpu_ms / two.cpu_ms:.2f}); aim: 1.5")
    all_of_it = times["engine, ... read"]
    print(f"  core hybrid / the same, read: {hybrid.ms / all_of_it.ms:.2f} ({hybrid.cpu_ms / all_of_it.cpu_ms:.2f})")
    for host in ("LangChain", "LlamaIndex"):
        for mode, base in (("dense", core), ("hybrid", hybrid)):
            own = times[f"{host}, {mode}"]
            table.keep(f"search: {host} over core, {mode}", own.ms, "ms", base.ms)
            print(f"  {host} {mode} - core: {own.ms - base.ms:+.2f} ({own.cpu_ms - base.cpu_ms:+.2f}); aim: 0.3")


def measure_store(title: str, store: QdrantPageStore, embedder: Any, rounds: int) -> None:
    texts = questions(rounds)
    for text in texts:
        embedder.learn(text)
    asked = [engine_requests(store, embedder, text) for text in texts]
    print_times(title, measure(layers_of(store, embedder), asked))


def measure_embedding(rounds: int) -> None:
    """What the embedder `ocr` and the store's words make of a question."""
    embedder = load_embedder("ocr")
    embedder.embed_queries(["once"])
    vectors, words = Times(), Times()
    for text in questions(rounds):
        vectors.note(lambda one=text: embedder.embed_queries([one]))  # type: ignore[misc]
        words.note(lambda one=text: lexical.query_vector(one))  # type: ignore[misc]
    print(f"\nA question as a vector (ocr): {vectors.ms:.3f} ms; as words: {words.ms:.3f} ms")


def measure_filters(store: QdrantPageStore, embedder: Any, rounds: int) -> None:
    """A filter on a key without an index, and on one with."""
    text = next(iter(embedder.known))
    asked: dict[str, dict[str, object]] = {"no index: year": {"year": 2001}, "indexed: doc_id": {"doc_id": "d1"}}
    for name, only in asked.items():
        times = Times()
        for _ in range(rounds):
            times.note(lambda one=only: store.search(embedder.known[text], top_k=K, filter=one))  # type: ignore[misc]
        print(f"  filter, {name}: {times.ms:.2f} ({times.cpu_ms:.2f}), first {1000 * times.wall[0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, nargs="+", default=[591, 10_000, 100_000])
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--kind", choices=("single", "multi"), default="single")
    parser.add_argument("--index", type=Path, help="an index that the embedder `ocr` filled, in place of drawn pages")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="60 pages, 5 rounds")
    options = parser.parse_args()
    if options.quick:
        options.pages, options.rounds = [60], 5
    measure_embedding(options.rounds)
    if options.index is not None:
        with QdrantPageStore(options.index) as store:
            measure_store(
                f"{options.index}, {store.count()} pages", store, Looked(load_embedder("ocr")), options.rounds
            )
        return
    for count in options.pages:
        with tempfile.TemporaryDirectory() as folder, QdrantPageStore(folder, pictures=False) as store:
            embedder = Given(options.kind, options.dimension)
            fill(store, embedder, count)
            title = f"{count:,} pages, {options.kind} vectors of {options.dimension}"
            measure_store(title, store, embedder, options.rounds)
            measure_filters(store, embedder, min(9, options.rounds))


if __name__ == "__main__":
    main()
