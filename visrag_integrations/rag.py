"""A question in, an answer with its evidence out: retrieve pages, show them to a generator, read what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.events import AnswerReady, Event, PagesFound, SectionStarted, SectionText
from visrag_integrations.generation.evisrag import INSUFFICIENT, EvidenceStream
from visrag_integrations.generation.strategies import Plan, Prompt, Strategy, combine_plans, find_strategy, run_plans
from visrag_integrations.interfaces.threads import in_thread
from visrag_integrations.types import Answer, Generation, GenerationSettings, Query, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter, Generator
    from visrag_integrations.interfaces.retrievers import Retriever


class VisRAG:
    """Answers questions from page images.

    >>> rag = VisRAG(retriever, load_generator("extractive"))  # doctest: +SKIP
    >>> rag.ask("How many packages are there?").text  # doctest: +SKIP
    '12'

    Args:
        retriever: Finds pages, for example a `PageRetriever`.
        generator: Writes the answer, for example `load_generator("openbmb/EVisRAG-7B")`.
        strategy: How pages are shown: a name in `STRATEGIES`, or a function like those in it.
        top_k: How many pages are shown unless a call says otherwise.
        prompt: "evisrag" for EVisRAG checkpoints, "plain" (the question before the pages) for general models.
        settings: How to write; the generator's defaults where None.
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        strategy: str | Strategy = "multi_image",
        *,
        top_k: int = 3,
        prompt: Prompt = "evisrag",
        settings: GenerationSettings | None = None,
    ) -> None:
        if prompt not in ("evisrag", "plain"):
            raise SettingError(
                f'prompt is {prompt!r}; it is "evisrag" (EVisRAG checkpoints) or "plain" (general models).'
            )
        self.retriever, self.generator, self.settings = retriever, generator, settings
        self.strategy, self.prompt = find_strategy(strategy), prompt
        self.top_k = _checked_top_k(top_k)

    def ask(self, question: str | Query, top_k: int | None = None, filter: Filter | None = None) -> Answer:
        """The answer, with evidence by page and the pages it rests on.

        A `Query` with a picture finds pages by both; the generator reads its text and the pages.

        Raises:
            SettingError: The question is empty, or has no text.
        """
        return self.ask_many([question], top_k, filter)[0]

    async def aask(self, question: str | Query, top_k: int | None = None, filter: Filter | None = None) -> Answer:
        """`ask`, without blocking the event loop; many at once, where the generator has `agenerate`."""
        agenerate = getattr(self.generator, "agenerate", None)
        if agenerate is None:
            return await asyncio.to_thread(self.ask, question, top_k, filter)
        plan = await asyncio.to_thread(self._plan_for, question, top_k, filter)
        if plan is None:
            return _nothing_found()
        written = await agenerate(plan.conversations, self.settings)
        return (await asyncio.to_thread(combine_plans, [plan], written, self.generator.name))[0]

    def ask_many(
        self, questions: Iterable[str | Query], top_k: int | None = None, filter: Filter | None = None
    ) -> list[Answer]:
        """The answers in order; all questions go to the generator as one batch."""
        asked = [_checked_question(question) for question in questions]
        return self.answer_from(asked, self._retrieve(asked, top_k, filter))

    def answer_from(self, questions: Iterable[str | Query], pages: Iterable[Sequence[ScoredPage]]) -> list[Answer]:
        """The answers in order, each from the pages that are given with its question; nothing is searched."""
        plans = [self._plan(_checked_question(q), hits) for q, hits in zip(questions, pages, strict=True)]
        answers = iter(run_plans([plan for plan in plans if plan is not None], self.generator, self.settings))
        return [next(answers) if plan is not None else _nothing_found() for plan in plans]

    def stream(self, question: str | Query, top_k: int | None = None, filter: Filter | None = None) -> Iterator[Event]:
        """What happens, as it happens: the pages, then what is written, then `AnswerReady` with what `ask` would give.

        Closing the iterator stops the generator.
        """
        question = _checked_question(question)
        hits = self._retrieve([question], top_k, filter)[0]
        return self._events(self._plan(question, hits), hits)

    async def astream(
        self, question: str | Query, top_k: int | None = None, filter: Filter | None = None
    ) -> AsyncGenerator[Event, None]:
        """`stream`, without blocking the event loop; closing it stops the generator."""
        question = _checked_question(question)
        hits = (await asyncio.to_thread(self._retrieve, [question], top_k, filter))[0]
        plan = await asyncio.to_thread(self._plan, question, hits)
        own = getattr(self.generator, "astream", None)
        if own is None or plan is None or len(plan.conversations) > 1:
            events = in_thread(self._events(plan, hits))
        else:
            events = self._awritten(plan, hits, own(plan.conversations[0], self.settings))
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    def _events(self, plan: Plan | None, hits: Sequence[ScoredPage]) -> Iterator[Event]:
        yield PagesFound(tuple(hits))
        if plan is None:
            yield AnswerReady(_nothing_found())
        elif len(plan.conversations) > 1:
            yield AnswerReady(run_plans([plan], self.generator, self.settings)[0])
        else:
            yield from self._written(plan)

    def _written(self, plan: Plan) -> Iterator[Event]:
        """Events while the generator writes the plan's one conversation."""
        reading = _Reading(plan, self.prompt)
        writing = self.generator.stream(plan.conversations[0], self.settings)
        try:
            yield from reading.begin()
            for piece in writing:
                yield from reading.feed(piece)
        finally:
            close = getattr(writing, "close", None)
            if close is not None:
                close()
        yield from reading.finish()

    async def _awritten(
        self, plan: Plan, hits: Sequence[ScoredPage], writing: AsyncGenerator[Generation, None]
    ) -> AsyncGenerator[Event, None]:
        reading = _Reading(plan, self.prompt)
        async with contextlib.aclosing(writing):
            for event in (PagesFound(tuple(hits)), *reading.begin()):
                yield event
            async for piece in writing:
                for event in reading.feed(piece):
                    yield event
        for event in await asyncio.to_thread(reading.finish):
            yield event

    def _retrieve(
        self, questions: Sequence[str | Query], top_k: int | None, filter: Filter | None
    ) -> list[Sequence[ScoredPage]]:
        wanted = self.top_k if top_k is None else _checked_top_k(top_k)
        many = getattr(self.retriever, "retrieve_many", None)
        if many is not None:
            return list(many(questions, wanted, filter=filter))
        find = self.retriever.retrieve
        return [find(question, wanted, filter=filter) for question in questions]  # type: ignore[arg-type]

    def _plan_for(self, question: str | Query, top_k: int | None, filter: Filter | None) -> Plan | None:
        question = _checked_question(question)
        return self._plan(question, self._retrieve([question], top_k, filter)[0])

    def _plan(self, question: str | Query, hits: Sequence[ScoredPage]) -> Plan | None:
        return self.strategy(_text(question), hits, self.prompt) if hits else None


class _Reading:
    """Pieces of the model's text in, events out."""

    def __init__(self, plan: Plan, prompt: Prompt) -> None:
        self._plan, self._pieces = plan, list[str]()
        self._sections = EvidenceStream(plan.shown) if prompt == "evisrag" else None
        self._finish_reason: str | None = None

    def begin(self) -> list[Event]:
        return [] if self._sections is not None else [SectionStarted("answer")]

    def feed(self, piece: Generation) -> list[Event]:
        self._pieces.append(piece.text)
        self._finish_reason = piece.finish_reason or self._finish_reason
        if self._sections is not None:
            return self._sections.feed(piece.text)
        return [SectionText("answer", piece.text)] if piece.text else []

    def finish(self) -> list[Event]:
        rest: list[Event] = []
        if self._sections is not None:
            rest = self._sections.finish(cut_off=self._finish_reason == "length")[:-1]
        written = Generation("".join(self._pieces), finish_reason=self._finish_reason)
        return [*rest, AnswerReady(self._plan.combine([written]))]


def _nothing_found() -> Answer:
    problem = "no page was found: the index is empty, or nothing in it matches the question and the filter"
    return Answer(INSUFFICIENT, sufficient=False, problems=(problem,))


def _text(question: str | Query) -> str:
    return question.text if isinstance(question, Query) else question


def _checked_question(question: str | Query) -> str | Query:
    if not _text(question).strip():
        raise SettingError("The question is empty. Ask something, for example: rag.ask('What is the total?').")
    return question


def _checked_top_k(top_k: int) -> int:
    if top_k < 1:
        raise SettingError(f"top_k is {top_k}; it is the number of pages to show and must be 1 or more.")
    return top_k
