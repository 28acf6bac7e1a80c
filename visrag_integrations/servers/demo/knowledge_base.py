"""One knowledge base: a folder with the documents that were added and the index of their pages."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from visrag_integrations.agent import VRAGAgent
from visrag_integrations.errors import SettingError, UnknownNameError
from visrag_integrations.generation.events import Event
from visrag_integrations.ingestion import IndexProgress, IndexReport, index_documents
from visrag_integrations.interfaces import Filter
from visrag_integrations.interfaces.embedders import reads_pixels
from visrag_integrations.readers import PageReader
from visrag_integrations.servers.demo.base_files import BaseFiles
from visrag_integrations.servers.demo.base_index import is_inside, remove_stored, stored_documents, stored_pages
from visrag_integrations.servers.demo.base_state import BaseState, DocumentState
from visrag_integrations.servers.demo.demo_models import Models
from visrag_integrations.servers.demo.indexing import Indexer
from visrag_integrations.servers.demo.names import safe_file_name
from visrag_integrations.servers.demo.passwords import in_words, is_locked
from visrag_integrations.servers.demo.visitor_choices import Choices
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Failure, Page, ScoredPage

logger = logging.getLogger(__name__)

INDEX = "index"
# Pages that are embedded together; progress is reported after each batch. What embeds texts on a CPU gains nothing from
# more than a few, and the visitor sees it move; a GPU that looks at pictures idles with so few.
_TEXT_BATCH, _PIXEL_BATCH = 4, 16


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
        self._files = BaseFiles(folder)
        self._indexer = Indexer(self._index, self._drop, turn)
        # Document -> what a visitor typed for it; only until it is read, and never on the disk.
        self._passwords: dict[str, str] = {}
        self._locked: set[str] = set()

    @property
    def store(self) -> QdrantPageStore:
        """The index, opened when it is first needed.

        Raises:
            StoreError: The knowledge base was closed or deleted.
        """
        with self._guard:
            if self._closed:
                raise UnknownNameError(f"The knowledge base {self.name!r} is not there any more. Choose another one.")
            if self._store is None:
                self._store = QdrantPageStore(self.folder / INDEX)
                self._indexer.put(self._unfinished())
            return self._store

    # --- its documents ----------------------------------------------------------------------------------------------

    def add(
        self, files: Sequence[tuple[Path, str]], failures: Sequence[Failure] = (), *, copied: bool = False
    ) -> list[str]:
        """Take files over and index them in the background.

        Args:
            files: Each a file, and the name it had where it came from.
            failures: What was refused before, to be shown with what goes wrong from here on.
            copied: Leave the files where they are; else they are moved.

        Returns:
            The names they have now.
        """
        _ = self.store
        taken: list[Path | str] = []
        names: list[str] = []
        failed = list(failures)
        for path, given in files:
            try:
                target = self._files.take(path, given, copied=copied)
            except OSError as err:
                failed.append(Failure(safe_file_name(given), f"it cannot be kept: {err.strerror or err}."))
                continue
            taken.append(target)
            names.append(target.name)
        self._indexer.put(taken, failed)
        return names

    def add_link(self, link: str) -> None:
        """Read what stands at a web address, and index it in the background."""
        _ = self.store
        self._files.add_link(link)
        self._indexer.put([link])

    def unlock(self, password: str) -> None:
        """Read the documents that need a password again, with this one.

        Raises:
            SettingError: There is none, or the password is empty.
        """
        _ = self.store
        with self._guard:
            locked = sorted(self._locked)
            if not locked:
                raise SettingError("No document here waits for a password.")
            if not password:
                raise SettingError("Type the password of the document first.")
            # For all of them: what it does not open asks again, with its name.
            self._passwords = dict.fromkeys(locked, password)
            self._locked.clear()
        self._indexer.put([self._files.source(name) for name in locked])

    def remove(self, names: Sequence[str]) -> None:
        """Documents less: their files, and their pages in the index.

        Raises:
            SettingError: One of them is not there, or is being indexed.
        """
        states = {document.name: document for document in self.state().documents}
        for name in names:
            if name not in states:
                raise SettingError(f"{name[:80]!r} is not in this knowledge base any more.")
            if states[name].state in ("indexing", "waiting"):
                raise SettingError(f"{name!r} is being read. Remove it when that has ended.")
        for name in names:
            # The pages first: what is left of a removal that was cut off is a file, which is indexed again.
            remove_stored(self.store, self._files, name)
            self._files.remove(name)
            with self._guard:
                self._locked.discard(name)
        self._indexer.forget(names)

    def dismiss(self) -> None:
        """Forget what failed: it was read."""
        self._indexer.forget()

    def files(self) -> list[str]:
        """The names of its documents, sorted."""
        return self._files.names()

    @property
    def is_indexing(self) -> bool:
        """Whether documents are being read."""
        return self._indexer.state.running

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
            if name in self._locked:
                document = replace(document, state="locked")
            elif not indexing.running or document.complete:
                document = replace(document, state="done")
            elif document.pages:
                document = replace(document, state="indexing")
            elif first_waiting is None:
                first_waiting = len(documents)
            documents.append(document)
        # Where none has a page yet, the first one is being opened.
        if first_waiting is not None and not any(document.state == "indexing" for document in documents):
            documents[first_waiting] = replace(documents[first_waiting], state="indexing")
        return BaseState(tuple(documents), indexing)

    # --- questions --------------------------------------------------------------------------------------------------

    def ask(self, question: str, choices: Choices | None = None) -> Iterator[Event]:
        """What happens, as it happens; see `VisRAG.stream`."""
        choices = choices or Choices()
        return self._models.rag(self.store, choices, self.only(choices.documents)).stream(question)

    def agent(self, choices: Choices, turns: int) -> VRAGAgent:
        """A model that searches this knowledge base by itself, in at most so many turns."""
        return self._models.agent(self.store, choices, self.only(choices.documents), turns)

    def find(self, question: str, choices: Choices) -> list[ScoredPage]:
        """The pages that are found, best first; nothing is answered."""
        retriever = self._models.retriever(self.store, choices, self.only(choices.documents))
        return retriever.retrieve(question, choices.top_k or 3)

    def only(self, names: Sequence[str]) -> Filter | None:
        """The filter for these documents; None for all.

        Raises:
            SettingError: None of them has a page.
        """
        if not names:
            return None
        ids = [document.doc_id for document in stored_documents(self.store, self._files, set(names))]
        if not ids:
            raise SettingError("The documents that are ticked are gone or not read yet. Tick others, or none for all.")
        return {"$doc_ids": ids}

    def pages_of(self, ids: Iterable[str]) -> dict[str, Page]:
        """The stored pages with these ids, those that are still there."""
        wanted = list(dict.fromkeys(ids))
        return {page.id: page for page in self.store.get_pages(wanted)}

    def close(self, timeout: float = 30.0) -> None:
        """Stop indexing after the batch at hand, and let others have the index."""
        with self._guard:
            self._closed = True
        if not self._indexer.stop(timeout):
            logger.warning("%s: indexing did not stop in %g seconds; it is left alone", self.name, timeout)
        elif self._store is not None:
            self._store.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _index(
        self,
        sources: Sequence[Path | str],
        on_progress: Callable[[IndexProgress], None],
        on_failure: Callable[[Failure], None],
    ) -> IndexReport:
        store = self._store
        assert store is not None, "opened before anything is put in"
        embedder = self._models.embedder_for(store)
        report = IndexReport()
        for password, together in self._by_password(sources):
            report = index_documents(
                together,
                store=store,
                embedder=embedder,
                reader=PageReader(password=password),
                batch_size=_PIXEL_BATCH if reads_pixels(embedder) else _TEXT_BATCH,
                progress=False,
                on_progress=on_progress,
                on_failure=lambda failure: on_failure(self._for_visitors(failure)),
            )
        return report

    def _by_password(self, sources: Sequence[Path | str]) -> list[tuple[str | None, list[Path | str]]]:
        """The sources that are read together, with the password that was typed for them."""
        with self._guard:
            groups: dict[str | None, list[Path | str]] = {}
            # Only those of this run: a password that was typed meanwhile is for the next one.
            for source in sources:
                password = self._passwords.pop(self._files.name_of(str(source)), None)
                groups.setdefault(password, []).append(source)
        return list(groups.items())

    def _drop(self, failures: Sequence[Failure]) -> None:
        """Documents of which nothing could be indexed are not kept; they would fail each time. Locked ones wait."""
        stored = self._stored()
        for failure in failures:
            # Without a page number, the whole document failed.
            if failure.page is not None or failure.source in stored:
                continue
            if is_locked(failure.error):
                with self._guard:
                    self._locked.add(failure.source)
            else:
                self._files.remove(failure.source)

    def _unfinished(self) -> list[Path | str]:
        """Documents that a run which was killed left behind."""
        stored = self._stored()
        unfinished: list[Path | str] = []
        for name in self.files():
            if not DocumentState(name, *stored.get(name, (0, None))).complete:
                unfinished.append(self._files.source(name))
        return unfinished

    def _stored(self) -> dict[str, tuple[int, int | None]]:
        """Document -> its pages that are indexed, and those it has; nothing is opened for it."""
        if self._store is None:
            return {}
        return stored_pages(self._store, self._files)

    def _for_visitors(self, failure: Failure) -> Failure:
        """The same without the paths of this machine, and with words that help on the page."""
        error = in_words(failure.error.replace(str(self._files.folder) + os.sep, ""))
        name = self._files.name_of(failure.source)
        if is_inside(failure.source, name):
            error = f"{failure.source.replace(os.sep, '/').rpartition('/')[2]} in it: {error}"
        return Failure(name, error, failure.page)
