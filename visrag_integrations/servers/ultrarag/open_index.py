"""What `retriever_init` opens: an embedder, and one store for each collection that is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from visrag_integrations.embedders import embedder_names, load_embedder, split_pair
from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.interfaces import PageEmbedder
from visrag_integrations.interfaces.closing import close
from visrag_integrations.retrieval import PageReranker, PageRetriever
from visrag_integrations.servers.ultrarag.filling import fill
from visrag_integrations.servers.ultrarag.image_corpus import read_corpus
from visrag_integrations.servers.ultrarag.settings import RetrieverSettings
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Mode, Page

BACKENDS = ("visrag", "sentence_transformers", "infinity", "openai", "bm25")
"""Ours, and UltraRAG's own, for parameter files that were written for its server."""


class OpenIndex:
    """An embedder and its stores; close it.

    Args:
        embedder: What fills and searches them.
        settings: From the parameter file.
        mode: How pages are searched; the embedder's own way when None.
        corpus: The corpus to index; None where the collection was filled in another way.
        collection: The one that is meant where a call names none.
    """

    def __init__(
        self,
        embedder: PageEmbedder,
        settings: RetrieverSettings,
        mode: Mode | None,
        corpus: Path | None,
        collection: str,
    ) -> None:
        self.embedder, self.settings, self.mode = embedder, settings, mode
        self.corpus, self.collection = corpus, collection
        self.multimodal, self.batch_size, self.filled = False, 16, False
        self._stores: dict[str, QdrantPageStore] = {}
        self._retrievers: dict[str, PageRetriever] = {}
        self._reranker: PageReranker | None = None
        self._closing = ExitStack()
        self._closing.callback(close, embedder)

    def close(self) -> None:
        """Close it all."""
        self._closing.close()

    def check(self) -> None:
        """Refuse what could not be searched or filled later: another embedder's collection, no corpus and no pages."""
        store = self.store()
        if store.info is not None:
            store.prepare(self.embedder)
        if store.count():
            return
        if self.corpus is None:
            raise SettingError(
                "corpus_path is empty, and so is the collection. Name a corpus, or index documents first."
            )
        read_corpus(self.corpus)

    def corpus_file(self) -> Path:
        """The corpus to index."""
        if self.corpus is None:
            raise SettingError(
                "corpus_path is empty. Say which corpus is to be indexed in the retriever's parameter.yaml."
            )
        return self.corpus

    def store(self, collection: str = "") -> QdrantPageStore:
        """The store of a collection, opened once."""
        name = collection or self.collection
        if name not in self._stores:
            key = os.environ.get("QDRANT_API_KEY") if "://" in self.settings.store else None
            self._stores[name] = self._closing.enter_context(
                QdrantPageStore(
                    self.settings.store,
                    name,
                    pictures=self.settings.pictures,
                    tenant=self.settings.tenant,
                    timeout=self.settings.timeout,
                    api_key=key,
                )
            )
        return self._stores[name]

    def retriever(self, collection: str) -> PageRetriever:
        """What searches a collection.

        Raises:
            StoreError: It is empty: every question would find nothing, and nobody would know why.
        """
        if collection not in self._retrievers:
            store = self.store(collection)
            if not store.count():
                raise StoreError(
                    f"Collection {collection!r} in {self.settings.store!r} is empty. Run corpus_index.yaml first, or "
                    f"fill it: visrag index PATH... --index {self.settings.store} --collection {collection}"
                )
            candidates = self.settings.rerank.candidates if self.settings.rerank else 50
            self._retrievers[collection] = PageRetriever(
                self.embedder,
                store,
                mode=self.mode,
                filter=self.settings.filter,
                reranker=self.reranker(),
                candidates=candidates,
            )
        return self._retrievers[collection]

    def reranker(self) -> PageReranker | None:
        """What scores again; None where none is wanted."""
        if self.settings.rerank is not None and self._reranker is None:
            second = load_embedder(self.settings.rerank.embedder)
            self._closing.callback(close, second)
            self._reranker = PageReranker(second, self.store(self.settings.rerank.collection))
        return self._reranker

    def fill(self, pages: Sequence[Page], *, overwrite: bool, maker: PageEmbedder | None = None) -> list[Failure]:
        """The corpus into the collection, and into the reranker's."""
        self._retrievers.clear()
        fills = [(maker or self.embedder, self.store())]
        reranker = self.reranker()
        if reranker is not None:
            fills.append((reranker.embedder, reranker.store))
        failed: list[Failure] = []
        for embedder, store in fills:
            failed += fill(pages, embedder, store, self.batch_size, overwrite=overwrite)
        return failed


def load_named_embedder(
    name: str, backend: str, configs: Mapping[str, Any], settings: RetrieverSettings
) -> PageEmbedder:
    """The embedder that the parameter file means, in UltraRAG's words or in ours."""
    if backend not in BACKENDS:
        raise SettingError(f"backend is {backend!r}; use visrag, or one of UltraRAG's: {', '.join(BACKENDS[1:])}.")
    if backend == "bm25":  # words only; the embedder is there to fill the collection
        return load_embedder("ocr")
    if backend == "openai":
        server = configs.get("openai") or {}
        model = str(server.get("model_name") or name)
        reached = {key: server[key] for key in ("base_url", "api_key", "concurrency") if server.get(key)}
        return load_embedder(model, system="endpoint", **reached, **settings.embedder)
    system = settings.system
    pages, _ = split_pair(name)
    known = pages in embedder_names() or Path(pages).expanduser().exists()
    # A name that is known here says its system itself; of any other the backend says what it is.
    if system is None and not known and backend in ("sentence_transformers", "infinity"):
        system = "sentence-transformers"
    return load_embedder(name, system=system, **settings.embedder)
