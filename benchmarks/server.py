"""What a Qdrant server is asked, and how fast it is: this store beside the raw client and langchain-qdrant.

    python benchmarks/server.py --count                    requests and bytes, counted on tests/fake_qdrant
    python benchmarks/server.py http://localhost:6333      rates, times and recall on a real one; --grpc, --pages 10000

The collections it makes on a real server are removed at the end.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visrag_integrations import Page, PageReader, QdrantPageStore, index_documents

DIMENSION = 384
BATCH = 64
WORDS = [f"word{number}" for number in range(2000)]


class Filler:
    """An embedder of random vectors, the same for the same text: embedding takes no time here."""

    name, kind, dimension = "filler", "single", DIMENSION

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        return [vector_of(page.doc_id + str(page.number)) for page in pages]

    def embed_queries(self, queries: Iterable[Any]) -> list[np.ndarray]:
        return [vector_of(str(query)) for query in queries]


def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(text.encode()[-8:], "little")
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def made_pages(count: int, words: int = 300) -> list[Page]:
    rng = np.random.default_rng(0)
    pages = []
    for number in range(count):
        text = " ".join(WORDS[int(chosen)] for chosen in rng.integers(0, len(WORDS), words))
        document, page = divmod(number, 10)
        pages.append(Page(f"d{document}", page + 1, text=text, source=f"d{document}.pdf"))
    return pages


# --- counted --------------------------------------------------------------------------------------------------------


def count_requests() -> None:
    """Requests and bytes of what users do most, on the server in this process."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from fake_qdrant import serving

    with serving() as server, tempfile.TemporaryDirectory() as folder:
        embedder, pages = Filler(), made_pages(BATCH)
        with QdrantPageStore(server.url, pictures=False) as store:
            counted(server, "prepare", lambda: store.prepare(embedder))
            vectors = embedder.embed_pages(pages)
            counted(server, "add 64 pages", lambda: store.add_pages(pages, vectors))
            query, text = embedder.embed_queries(["question"])[0], "word7 word11"
            counted(server, "dense search", lambda: store.search(query))
            counted(server, "lexical search", lambda: store.search(None, text=text, mode="lexical"))
            counted(server, "hybrid search", lambda: store.search(query, text=text, mode="hybrid"))
            counted(server, "count", store.count)
        documents = small_documents(Path(folder), 600)
        with QdrantPageStore(server.url, "documents", pictures=False) as store:

            def index() -> None:
                reader = PageReader(ocr="never")
                report = index_documents(documents, store=store, embedder=embedder, reader=reader, workers=1)
                assert (report.pages, report.failed) == (600, ()), report

            counted(server, "600 documents, first run", index)
            counted(server, "600 documents, again", index)


def counted(server: Any, doing: str, work: Callable[[], Any]) -> None:
    """Do it, and print what it asked of the server."""
    start = len(server.log)
    work()
    asked = server.log[start:]
    sent, answered = sum(call.sent for call in asked), sum(call.answered for call in asked)
    print(f"| {doing} | {len(asked)} | {sent:,} | {answered:,} |", flush=True)


def small_documents(folder: Path, count: int) -> Path:
    """Pictures of a few pixels, each another one."""
    for number in range(count):
        Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(folder / f"{number:04}.png")
    return folder


# --- timed ----------------------------------------------------------------------------------------------------------


def time_server(url: str, count: int, options: dict[str, Any]) -> None:
    """Rates and times on a real server, each way into a collection of its own."""
    from qdrant_client import QdrantClient

    prefix = f"visrag-benchmark-{uuid.uuid4().hex[:8]}"
    client = QdrantClient(url, timeout=60, check_compatibility=False, **options)
    pages = made_pages(count)
    vectors = [vector_of(page.doc_id + str(page.number)) for page in pages]
    try:
        time_raw_client(client, f"{prefix}-raw", pages, vectors)
        time_langchain(client, f"{prefix}-langchain", pages, vectors)
        time_this_store(url, f"{prefix}-ours", pages, vectors, options)
    finally:
        for collection in client.get_collections().collections:
            if collection.name.startswith(prefix):
                client.delete_collection(collection.name)
        client.close()


def time_raw_client(client: Any, name: str, pages: list[Page], vectors: list[np.ndarray]) -> None:
    from qdrant_client import models

    client.create_collection(name, models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))

    def add(some: list[Page], of: list[np.ndarray]) -> None:
        points = []
        for page, vector in zip(some, of, strict=True):
            points.append(models.PointStruct(id=page.id, vector=vector.tolist(), payload={"page_content": page.text}))
        client.upsert(name, points, wait=True)

    rate = added(pages, vectors, add)
    search = searched(vectors, lambda vector: client.query_points(name, vector.tolist(), limit=5, with_payload=True))
    print(f"| raw client | {rate:.0f} | {search:.2f} | | |", flush=True)


def time_langchain(client: Any, name: str, pages: list[Page], vectors: list[np.ndarray]) -> None:
    try:
        from langchain_core.embeddings import Embeddings
        from langchain_qdrant import QdrantVectorStore
    except ImportError:
        print("| langchain-qdrant | not installed: pip install langchain-qdrant | | | |")
        return
    from qdrant_client import models

    known: dict[str, list[float]] = {}
    for page, vector in zip(pages, vectors, strict=True):
        known[page.text] = vector.tolist()

    class Known(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            # It asks for a text of its own, to see how long the vectors are.
            return [known.get(text, [1.0] * DIMENSION) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return known[text]

    client.create_collection(name, models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))
    host = QdrantVectorStore(client, name, Known())
    rate = added(pages, vectors, lambda some, _: host.add_texts([page.text for page in some]))
    search = searched(vectors, lambda vector: host.similarity_search_with_score_by_vector(vector.tolist(), k=5))
    print(f"| langchain-qdrant | {rate:.0f} | {search:.2f} | | |", flush=True)


def time_this_store(url: str, name: str, pages: list[Page], vectors: list[np.ndarray], options: dict[str, Any]) -> None:
    with QdrantPageStore(url, name, pictures=False, **options) as store:
        store.prepare(Filler())
        rate = added(pages, vectors, store.add_pages)
        dense = searched(vectors, lambda vector: store.search(vector, top_k=5))
        text = "word7 word11 word13"
        lexical = searched(vectors, lambda _: store.search(None, text=text, mode="lexical", top_k=5))
        hybrid = searched(vectors, lambda vector: store.search(vector, text=text, mode="hybrid", top_k=5))
        print(f"| this store | {rate:.0f} | {dense:.2f} | {lexical:.2f} | {hybrid:.2f} |")
        print(f"\nrecall of the five best, dense: {recall(store, pages, vectors):.3f}")


def recall(store: QdrantPageStore, pages: list[Page], vectors: list[np.ndarray]) -> float:
    """Of the five pages nearest to twenty queries, by numpy."""
    units = np.stack(vectors)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    found = 0
    for number in range(20):
        query = vector_of(f"query {number}")
        nearest = np.argsort(units @ query)[::-1][:5]
        expected = {pages[int(place)].id for place in nearest}
        found += len(expected & {hit.page.id for hit in store.search(query, top_k=5)})
    return found / 100


def added(pages: list[Page], vectors: list[np.ndarray], add: Callable[[list[Page], list[np.ndarray]], Any]) -> float:
    """Pages a second, in batches of 64."""
    started = time.perf_counter()
    for start in range(0, len(pages), BATCH):
        add(pages[start : start + BATCH], vectors[start : start + BATCH])
    return len(pages) / (time.perf_counter() - started)


def searched(vectors: list[np.ndarray], search: Callable[[np.ndarray], Any]) -> float:
    """Milliseconds of a search, the median of a hundred after ten."""
    times = []
    for vector in (vectors * 110)[:110]:
        started = time.perf_counter()
        search(vector)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[10:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="of a real server")
    parser.add_argument("--count", action="store_true", help="count requests and bytes, without a server")
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--grpc", action="store_true", help="ask by gRPC")
    parser.add_argument("--grpc-port", type=int, default=6334)
    parser.add_argument("--api-key")
    arguments = parser.parse_args()
    if arguments.count or not arguments.url:
        print("| | requests | bytes sent | bytes answered |\n|---|---|---|---|")
        count_requests()
    if arguments.url:
        options: dict[str, Any] = {}
        if arguments.grpc:
            options = {"prefer_grpc": True, "grpc_port": arguments.grpc_port}
        if arguments.api_key:
            options["api_key"] = arguments.api_key
        print("| | pages/s | dense ms | lexical ms | hybrid ms |\n|---|---|---|---|---|")
        time_server(arguments.url, arguments.pages, options)


if __name__ == "__main__":
    main()
