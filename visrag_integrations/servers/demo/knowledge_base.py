"""One knowledge base: a folder with the documents that were uploaded and the index of their pages."""

from __future__ import annotations

import filecmp
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from visrag_integrations.embedders import load_embedder
from visrag_integrations.errors import StoreError
from visrag_integrations.generation.events import Event
from visrag_integrations.ingestion import IndexProgress, IndexReport, index_documents
from visrag_integrations.interfaces import Generator, PageEmbedder
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.embedders import reads_pixels
from visrag_integrations.rag import VisRAG
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.servers.demo.indexing import Indexer, IndexingState
from visrag_integrations.servers.demo.names import safe_file_name, unused_name
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure

logger = logging.getLogger(__name__)

DOCUMENTS, INDEX = "documents", "index"
# Pages that are embedded together; progress is reported after each batch. What embeds texts on a CPU gains nothing from
# more than a few, and the visitor sees it move; a GPU that looks at pictures idles with so few.
_TEXT_BATCH, _PIXEL_BATCH = 4, 16


class LoadedEmbedders:
    """The embedders of knowledge bases that another one filled than the demo's own; each is loaded once.

    Args:
        load: Loads one by its name; as any other where None.
    """

    def __init__(self, load: Callable[[str], PageEmbedder] | None = None) -> None:
        self._load = load or functools.partial(load_embedder, shared=True)
        self._guard = threading.Lock()
        self._embedders: dict[str, PageEmbedder] = {}

    def get(self, name: str) -> PageEmbedder:
        """The embedder of that name."""
        with self._guard:
            if name not in self._embedders:
                logger.warning("a knowledge base was filled by the embedder %r, and is searched with it", name)
                self._embedders[name] = self._load(name)
            return self._embedders[name]

    def close(self) -> None:
        """Let go of all of them."""
        with self._guard:
            while self._embedders:
                close(self._embedders.popitem()[1])


@dataclass(frozen=True)
class Models:
    """What embeds and what answers, for all knowledge bases.

    Attributes:
        embedder: Fills new knowledge bases.
        generator: Writes the answers.
        answering: Other arguments of `VisRAG`: `strategy`, `prompt`, `top_k`, `settings`.
        load_embedder: Finds the embedder of a base that another one filled.
        searching: Other arguments of `PageRetriever`: `reranker`, `candidates`.
    """

    embedder: PageEmbedder
    generator: Generator
    answering: Mapping[str, Any] = field(default_factory=dict)
    load_embedder: Callable[[str], PageEmbedder] | None = None
    searching: Mapping[str, Any] = field(default_factory=dict)

    def embedder_for(self, store: QdrantPageStore) -> PageEmbedder:
        """The embedder that filled the store, or is to fill it."""
        info = store.info
        if info is None or info.embedder == self.embedder.name or self.load_embedder is None:
            return self.embedder
        return self.load_embedder(info.embedder)

    def rag(self, store: QdrantPageStore) -> VisRAG:
        """What answers from this store."""
        retriever = PageRetriever(self.embedder_for(store), store, **self.searching)
        return VisRAG(retriever, self.generator, **self.answering)


@dataclass(frozen=True)
class DocumentState:
    """One document of a knowledge base, and how much of it is indexed; `total` is None until it was opened."""

    name: str
    pages: int = 0
    total: int | None = None
    state: Literal["done", "indexing", "waiting"] = "done"

    @property
    def complete(self) -> bool:
        """Whether every page it has is indexed."""
        return self.total is not None and self.pages >= self.total


@dataclass(frozen=True)
class BaseState:
    """A knowledge base as the page shows it."""

    documents: tuple[DocumentState, ...] = ()
    indexing: IndexingState = field(default_factory=IndexingState)


class KnowledgeBase:
    """Documents that were uploaded together, to be asked about.

    Its index belongs to this process while it is open. What was left half indexed goes on when it is opened.

    Args:
        folder: Where it is kept; made when it is not there.
        name: As people chose it.
        models: What embeds and answers.
        turn: Held while pages are indexed, by one knowledge base at a time.
    """

    def __init__(self, folder: Path, name: str, models: Models, turn: threading.Lock | None = None) -> None:
        self.folder, self.name = folder, name
        self._models = models
        self._guard = threading.RLock()
        self._store: QdrantPageStore | None = None
        self._closed = False
        self._documents = folder / DOCUMENTS
        self._documents.mkdir(parents=True, exist_ok=True)
        self._indexer = Indexer(self._index, self._drop, turn)

    @property
    def store(self) -> QdrantPageStore:
        """The index, opened when it is first needed.

        Raises:
            StoreError: The knowledge base was closed or deleted.
        """
        with self._guard:
            if self._closed:
                raise StoreError(f"The knowledge base {self.name!r} is not there any more. Choose another one.")
            if self._store is None:
                self._store = QdrantPageStore(self.folder / INDEX)
                self._indexer.put(self._unfinished())
            return self._store

    def add(self, files: Sequence[tuple[Path, str]], failures: Sequence[Failure] = ()) -> list[str]:
        """Take files over and index them in the background.

        Args:
            files: Each a file, which is moved, and the name it had where it came from.
            failures: What was refused before, to be shown with what goes wrong from here on.

        Returns:
            The names they have now.
        """
        _ = self.store
        taken: list[Path] = []
        failed = list(failures)
        for path, given in files:
            try:
                taken.append(self._take(path, safe_file_name(given)))
            except OSError as err:
                failed.append(Failure(safe_file_name(given), f"it cannot be kept: {err.strerror or err}."))
        self._indexer.put(taken, failed)
        return [path.name for path in taken]

    def ask(self, question: str) -> Iterator[Event]:
        """What happens, as it happens; see `VisRAG.stream`."""
        return self._models.rag(self.store).stream(question)

    def state(self) -> BaseState:
        """Its documents, and how far indexing is."""
        _ = self.store
        # In this order: the last pages of a run are stored before it says that it has ended.
        indexing, stored = self._indexer.state, self._stored()
        documents: list[DocumentState] = []
        first_waiting: int | None = None
        for name in self.files():
            pages, total = stored.get(name, (0, None))
            document = DocumentState(name, pages, total, "waiting")
            if not indexing.running or document.complete:
                document = replace(document, state="done")
            elif pages:
                document = replace(document, state="indexing")
            elif first_waiting is None:
                first_waiting = len(documents)
            documents.append(document)
        # Where none has a page yet, the first one is being opened.
        if first_waiting is not None and not any(document.state == "indexing" for document in documents):
            documents[first_waiting] = replace(documents[first_waiting], state="indexing")
        return BaseState(tuple(documents), indexing)

    def files(self) -> list[str]:
        """The names of its documents, sorted."""
        return sorted(entry.name for entry in os.scandir(self._documents) if entry.is_file())

    def close(self, timeout: float = 30.0) -> None:
        """Stop indexing after the batch at hand, and let others have the index."""
        with self._guard:
            self._closed = True
        if not self._indexer.stop(timeout):
            logger.warning("%s: indexing did not stop in %g seconds; it is left alone", self.name, timeout)
        elif self._store is not None:
            self._store.close()

    def _take(self, path: Path, name: str) -> Path:
        """Move a file to the documents; the same file under the same name is there once."""
        with self._guard:
            target = self._documents / name
            # The same file again is replaced by itself, and not indexed twice; another one of that name gets a number.
            if not (target.is_file() and filecmp.cmp(path, target, shallow=False)):
                target = self._documents / unused_name(name, os.listdir(self._documents))
            os.replace(path, target)
            return target

    def _index(
        self,
        paths: Sequence[Path],
        on_progress: Callable[[IndexProgress], None],
        on_failure: Callable[[Failure], None],
    ) -> IndexReport:
        store = self._store
        assert store is not None, "opened before anything is put in"
        embedder = self._models.embedder_for(store)
        return index_documents(
            paths,
            store=store,
            embedder=embedder,
            batch_size=_PIXEL_BATCH if reads_pixels(embedder) else _TEXT_BATCH,
            progress=False,
            on_progress=on_progress,
            on_failure=lambda failure: on_failure(self._without_folder(failure)),
        )

    def _drop(self, failures: Sequence[Failure]) -> None:
        """Documents of which nothing could be indexed are not kept; they would fail each time."""
        stored = self._stored()
        for failure in failures:
            # Without a page number, the whole document failed.
            if failure.page is None and failure.source not in stored:
                (self._documents / failure.source).unlink(missing_ok=True)

    def _unfinished(self) -> list[Path]:
        """Files that a run which was killed left behind."""
        stored = self._stored()
        unfinished: list[Path] = []
        for name in self.files():
            if not DocumentState(name, *stored.get(name, (0, None))).complete:
                unfinished.append(self._documents / name)
        return unfinished

    def _stored(self) -> dict[str, tuple[int, int | None]]:
        """File name -> its pages that are indexed, and those it has."""
        if self._store is None:
            return {}
        found: dict[str, tuple[int, int | None]] = {}
        for document in self._store.documents():
            # Files with the same content are one document of several sources.
            for source in document.sources:
                found[_name(source)] = (document.pages, document.total_pages)
        return found

    def _without_folder(self, failure: Failure) -> Failure:
        """The same without the paths of this machine."""
        error = failure.error.replace(str(self._documents) + os.sep, "")
        return Failure(_name(failure.source), error, failure.page)


def _name(source: str) -> str:
    """File names are unique in a knowledge base, wherever its folder was when they were indexed."""
    return source.replace("\\", "/").rpartition("/")[2]
