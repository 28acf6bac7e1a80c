"""What workers of a cluster want to know of a store in a folder, which only the process that opened it can look into.

    a worker ── ask ──> Questions, an actor <── open ── AnsweringThread, beside the store
                                            ── answer ─>

So a run costs what its own documents cost: nothing is listed in advance of what else is stored.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from visrag_integrations.ingestion.documents import stored_pages
from visrag_integrations.store import QdrantPageStore, content_key
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

# How long the thread waits for a question before it looks whether the run has ended.
_WAIT_S = 0.5


@dataclass(frozen=True)
class PagesOf:
    """Which pages of this document are stored?"""

    doc_id: str


@dataclass(frozen=True)
class ContentsAmong:
    """Which of these contents (`content_key`) does some stored page have?"""

    keys: tuple[str, ...]


Question = PagesOf | ContentsAmong


@dataclass(frozen=True)
class Answered:
    """The answer to a question, or the error that it met."""

    name: str
    value: Any = None
    error: Exception | None = None


class Questions:
    """The questions that wait for an answer; an actor, many of whose methods run at a time."""

    def __init__(self) -> None:
        self._open: dict[str, Question] = {}
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._asked = asyncio.Event()

    async def ask(self, question: Question) -> Any:
        """The answer, once there is one."""
        # A name that no other question gets, not even of an actor that took the place of this one.
        name = uuid.uuid4().hex
        answer = self._answers[name] = asyncio.get_running_loop().create_future()
        self._open[name] = question
        self._asked.set()
        return await answer

    async def open(self) -> list[tuple[str, Question]]:
        """All questions without an answer; none where none came for a while.

        They stay open until they are answered: what this returns may get lost on its way.
        """
        try:
            await asyncio.wait_for(self._asked.wait(), _WAIT_S)
        except asyncio.TimeoutError:
            return []
        return list(self._open.items())

    async def answer(self, answers: Sequence[Answered]) -> None:
        """Give these answers to those who asked."""
        for answered in answers:
            self._open.pop(answered.name, None)
            waiting = self._answers.pop(answered.name, None)
            if waiting is None or waiting.done():
                continue
            if answered.error is not None:
                waiting.set_exception(answered.error)
            else:
                waiting.set_result(answered.value)
        if not self._open:
            self._asked.clear()


class AskedStore:
    """The store, as a worker sees it: by asking.

    Args:
        questions: The handle of the actor `Questions`.
    """

    def __init__(self, questions: Any) -> None:
        self._questions = questions

    def __call__(self, doc_id: str) -> tuple[int, Collection[int] | None]:
        """What of a document is stored."""
        found: tuple[int, Collection[int] | None] = self._ask(PagesOf(doc_id))
        return found

    def embeddings_of_equals(self, pages: Sequence[Page]) -> dict[str, Any]:
        """None for each content that is stored: the process that writes puts the vectors in itself."""
        keys = {content_key(page) for page in pages} - {""}
        if not keys:
            return {}
        return dict.fromkeys(self._ask(ContentsAmong(tuple(keys))))

    def _ask(self, question: Question) -> Any:
        import ray  # here, because this object also lives in workers

        return ray.get(self._questions.ask.remote(question))


class AnsweringThread:
    """Answers the questions of workers from a store, for as long as the block lasts.

    Args:
        ray: The module.
        questions: The handle of the actor `Questions`.
        store: In a folder.
    """

    def __init__(self, ray: Any, questions: Any, store: QdrantPageStore) -> None:
        self._ray, self._questions, self._store = ray, questions, store
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="visrag-answers", daemon=True)

    def __enter__(self) -> AnsweringThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._answer_some()
            except Exception:
                logger.warning("workers cannot be answered; trying again", exc_info=True)
                self._ended.wait(_WAIT_S)

    def _answer_some(self) -> None:
        asked = self._ray.get(self._questions.open.remote())
        if asked:
            answers = [self._answer(name, question) for name, question in asked]
            self._ray.get(self._questions.answer.remote(answers))

    def _answer(self, name: str, question: Question) -> Answered:
        try:
            if isinstance(question, PagesOf):
                return Answered(name, stored_pages(self._store, question.doc_id))
            return Answered(name, self._store.contents_among(question.keys))
        except Exception as err:  # noqa: BLE001  whoever asked raises it
            return Answered(name, error=err)
