"""A question in, an answer with its evidence out: retrieve pages, show them to a generator, read what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.events import AnswerReady, Event, PagesFound, SectionStarted, SectionText
from visrag_integrations.generation.evisrag import INSUFFICIENT, EvidenceStream
from visrag_integrations.generation.strategies import Plan, Prompt, Strategy, find_strategy, run_plans
from visrag_integrations.interfaces.arguments import refuse_name, refuse_text
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.generators import agenerate, astream, streams_async
from visrag_integrations.interfaces.retrievers import nothing_found, retrieve_many
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
        refuse_name("generator", generator, "load_generator")
        self.retriever = retriever
        self.generator = generator
        self.strategy = find_strategy(strategy)
        self.prompt = prompt
        self.settings = settings
        self.top_k = _checked_top_k(top_k)

    # --- search, then answer ----------------------------------------------------------------------------------------

    def ask(self, question: str | Query, top_k: int | None = None, filter: Filter | None = None) -> Answer:
        """The answer, with evidence by page and the pages it rests on.

        A `Query` with a picture finds pages by both; the generator reads its text and the pages.

        Raises:
            SettingError: The question is empty, or has no text.
        """
        return self.ask_many([question], top_k, filter)[0]

    async def aask(self, question: str | Query, top_k: int | None = None, filter: Filter | None = None) -> Answer:
        """`ask`, without blocking the event loop; many at once, where the generator has `agenerate`."""
        question = _checked_question(question)
        (hits,) = await asyncio.to_thread(self._retrieve, [question], top_k, filter)
        return await self.aanswer_from(question, hits)

    def ask_many(
        self, questions: Iterable[str | Query], top_k: int | None = None, filter: Filter | None = None
    ) -> list[Answer]:
        """The answers in order; all questions go to the generator as one batch."""
        refuse_text("questions", questions, "ask")
        asked = list(map(_checked_question, questions))
        return self.answer_from(asked, self._retrieve(asked, top_k, filter))

    def stream(self, question: str | Query, top_k: int | None = None, filter: Filter | None = None) -> Iterator[Event]:
        """What happens, as it happens: the pages, then what is written, then `AnswerReady` with what `ask` would give.

        Closing the iterator stops the generator.
        """
        question = _checked_question(question)
        (hits,) = self._retrieve([question], top_k, filter)
        return self.stream_from(question, hits)

    async def astream(
        self, question: str | Query, top_k: int | None = None, filter: Filter | None = None
    ) -> AsyncGenerator[Event, None]:
        """`stream`, without blocking the event loop; closing it stops the generator."""
        question = _checked_question(question)
        (hits,) = await asyncio.to_thread(self._retrieve, [question], top_k, filter)
        async with contextlib.aclosing(self.astream_from(question, hits)) as events:
            async for event in events:
                yield event

    # --- answer from pages that are there -----------------------------------------------------------------------------

    def answer_from(self, questions: Iterable[str | Query], pages: Iterable[Sequence[ScoredPage]]) -> list[Answer]:
        """The answers in order, each from the pages that are given with its question; nothing is searched."""
        plans = [self._plan(question, hits) for question, hits in zip(questions, pages, strict=True)]
        # A question without pages has no plan, and is not asked.
        asked = [plan for plan in plans if plan is not None]
        answered = iter(run_plans(asked, self.generator, self.settings))
        answers = []
        for plan in plans:
            answers.append(next(answered) if plan is not None else self._nothing_found())
        return answers

    async def aanswer_from(self, question: str | Query, pages: Sequence[ScoredPage]) -> Answer:
        """The answer from these pages, without blocking the event loop; nothing is searched."""
        plan = await asyncio.to_thread(self._plan, question, pages)
        if plan is None:
            return await asyncio.to_thread(self._nothing_found)
        written = await agenerate(self.generator, plan.conversations, self.settings)
        return await asyncio.to_thread(plan.combine, written)

    def stream_from(self, question: str | Query, pages: Sequence[ScoredPage]) -> Iterator[Event]:
        """`stream` from these pages; nothing is searched."""
        return self._events(self._plan(question, pages), pages)

    async def astream_from(self, question: str | Query, pages: Sequence[ScoredPage]) -> AsyncGenerator[Event, None]:
        """`stream_from`, without blocking the event loop; closing it stops the generator."""
        plan = await asyncio.to_thread(self._plan, question, pages)
        if plan is not None and len(plan.conversations) == 1 and streams_async(self.generator):
            events = self._awritten(plan, pages)
        else:
            events = in_thread(self._events(plan, pages))
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    # --- inside -----------------------------------------------------------------------------------------------------

    def _events(self, plan: Plan | None, hits: Sequence[ScoredPage]) -> Iterator[Event]:
        yield PagesFound(tuple(hits))
        if plan is None:
            yield AnswerReady(self._nothing_found())
        elif len(plan.conversations) > 1:
            # Which of several texts becomes the answer is known only when all are written.
            yield AnswerReady(run_plans([plan], self.generator, self.settings)[0])
        else:
            yield from self._written(plan)

    def _written(self, plan: Plan) -> Iterator[Event]:
        """Events while the generator writes the plan's one conversation."""
        reader = _AnswerReader(plan, self.prompt)
        writing = self.generator.stream(plan.conversations[0], self.settings)
        try:
            yield from reader.begin()
            for piece in writing:
                yield from reader.feed(piece)
        finally:
            close(writing)
        yield from reader.finish()

    async def _awritten(self, plan: Plan, hits: Sequence[ScoredPage]) -> AsyncGenerator[Event, None]:
        """`_events` of a plan with one conversation, from a generator that streams by itself."""
        reader = _AnswerReader(plan, self.prompt)
        async with contextlib.aclosing(astream(self.generator, plan.conversations[0], self.settings)) as writing:
            yield PagesFound(tuple(hits))
            for event in reader.begin():
                yield event
            async for piece in writing:
                for event in reader.feed(piece):
                    yield event
        for event in await asyncio.to_thread(reader.finish):
            yield event

    def _retrieve(
        self, questions: Sequence[str | Query], top_k: int | None, filter: Filter | None
    ) -> list[Sequence[ScoredPage]]:
        wanted = self.top_k
        if top_k is not None:
            wanted = _checked_top_k(top_k)
        return retrieve_many(self.retriever, questions, wanted, filter=filter)

    def _nothing_found(self) -> Answer:
        return Answer(INSUFFICIENT, sufficient=False, problems=(nothing_found(self.retriever),))

    def _plan(self, question: str | Query, hits: Sequence[ScoredPage]) -> Plan | None:
        """How the question is put to the generator; None where there is no page to show."""
        question = _checked_question(question)
        if not hits:
            return None
        return self.strategy(_text(question), hits, self.prompt)


class _AnswerReader:
    """Pieces of the model's text in, events out."""

    def __init__(self, plan: Plan, prompt: Prompt) -> None:
        self._plan = plan
        self._pieces: list[str] = []
        self._finish_reason: str | None = None
        # Only EVisRAG's prompt asks for sections.
        self._sections: EvidenceStream | None = None
        if prompt == "evisrag":
            self._sections = EvidenceStream(plan.shown)

    def begin(self) -> list[Event]:
        if self._sections is None:
            return [SectionStarted("answer")]
        return []

    def feed(self, piece: Generation) -> list[Event]:
        self._pieces.append(piece.text)
        self._finish_reason = piece.finish_reason or self._finish_reason
        if self._sections is not None:
            return self._sections.feed(piece.text)
        if piece.text:
            return [SectionText("answer", piece.text)]
        return []

    def finish(self) -> list[Event]:
        rest: list[Event] = []
        if self._sections is not None:
            # Without its last event, the answer: the plan says what the answer is.
            rest = self._sections.finish(cut_off=self._finish_reason == "length")[:-1]
        written = Generation("".join(self._pieces), finish_reason=self._finish_reason)
        return [*rest, AnswerReady(self._plan.combine([written]))]


def _text(question: str | Query) -> str:
    if isinstance(question, Query):
        return question.text
    return question


def _checked_question(question: str | Query) -> str | Query:
    if not isinstance(question, (str, Query)):
        raise SettingError(f"The question is {type(question).__name__} {question!r}. Give a text, or a Query.")
    if not _text(question).strip():
        raise SettingError("The question is empty. Ask something, for example: rag.ask('What is the total?').")
    return question


def _checked_top_k(top_k: int) -> int:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise SettingError(f"top_k is {top_k!r}; it is the number of pages to show and must be 1 or more.")
    return top_k
