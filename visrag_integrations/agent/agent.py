"""`VRAGAgent`: does what an `Episode` asks for: in this thread, in an event loop, or for many questions at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from visrag_integrations.agent.budget import ANSWER_TOKENS, capacity_of
from visrag_integrations.agent.episode import Episode, Find, Look, Request, Write
from visrag_integrations.agent.pictures import PictureRules
from visrag_integrations.agent.remembered import rules_for
from visrag_integrations.agent.rounds import arun_rounds, requests_of, run_rounds
from visrag_integrations.agent.steps import Step
from visrag_integrations.agent.trace import Trace
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.defaults import with_defaults
from visrag_integrations.generation.vrag import STOP
from visrag_integrations.interfaces.generators import agenerate, generate
from visrag_integrations.interfaces.retrievers import retrieve_many
from visrag_integrations.types import Conversation, GenerationSettings, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter, Generator
    from visrag_integrations.interfaces.retrievers import Retriever


class VRAGAgent:
    """Answers questions by searching several times and looking closer, as VRAG-RL's models are trained to.

    What the model writes never raises: a turn that cannot be carried out is answered with what is wrong, and counted.
    A store or an engine that fails does raise.

    >>> agent = VRAGAgent(retriever, load_generator("http://localhost:8000/v1"))  # doctest: +SKIP
    >>> agent.run("How high was the cost of travel in 2019?").answer.text  # doctest: +SKIP
    '4,200'

    Args:
        retriever: Finds pages, for example a `PageRetriever`.
        generator: Writes the turns. It must take as many pictures in one conversation as the agent may show, one a
            turn: `load_generator(..., max_images=9)`. One that says it takes fewer is asked to answer when it has them.
        max_turns: At most so many; before the last one the model is asked to answer. None: what the checkpoint of the
            generator was trained with (`train_agent` writes it there), else 10.
        token_budget: At most about so many tokens read and written in all turns of a question together.
        template: The prompt; `{question}` in it is replaced. The model's own template, if you have it. None: as above,
            else `TEMPLATE`.
        pictures: How large pages and crops are shown. None: as above, else `PictureRules()`.
        filter: Metadata the pages must have, for example `{"source": "report.pdf"}`.
        settings: How to write; the generator's defaults where None.
        trained: The folder of the trained checkpoint, where the generator is a server that does not say.
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        max_turns: int | None = None,
        *,
        token_budget: int | None = None,
        template: str | None = None,
        pictures: PictureRules | None = None,
        filter: Filter | None = None,
        settings: GenerationSettings | None = None,
        trained: str | Path | None = None,
    ) -> None:
        self.retriever = retriever
        self.generator = generator
        self.filter = filter
        self.settings = with_defaults(settings, GenerationSettings(max_tokens=ANSWER_TOKENS, stop=STOP))
        self.rules = rules_for(
            trained or getattr(generator, "name", ""),
            max_turns=max_turns,
            template=template,
            pictures=pictures,
            token_budget=token_budget,
            answer_tokens=self.settings.max_tokens or ANSWER_TOKENS,
        )

    # --- one question -----------------------------------------------------------------------------------------------

    def run(self, question: str) -> Trace:
        """Everything that happened; `trace.answer` is the answer.

        Raises:
            SettingError: The question is empty.
        """
        return self.run_many([question])[0]

    async def arun(self, question: str) -> Trace:
        """`run`, without blocking the event loop."""
        return (await self.arun_many([question]))[0]

    def stream(self, question: str) -> Iterator[Step | Trace]:
        """The steps as they happen, then the whole `Trace`. Closing the iterator ends the run."""
        # Not a generator itself: an empty question is refused here, not at the first `next`.
        return self._steps(self.begin([question]))

    def _steps(self, episodes: list[Episode]) -> Iterator[Step | Trace]:
        for _, steps in run_rounds(episodes, self._performed):
            yield from steps
        yield episodes[0].trace

    async def astream(self, question: str) -> AsyncGenerator[Step | Trace, None]:
        """`stream`, without blocking the event loop."""
        episodes = await self.abegin([question])
        async for _, steps in arun_rounds(episodes, self._aperformed):
            for step in steps:
                yield step
        yield episodes[0].trace

    # --- many questions ---------------------------------------------------------------------------------------------

    def run_many(self, questions: Iterable[str]) -> list[Trace]:
        """The runs in order; in each round the turns of all of them go to the generator as one batch."""
        episodes = self.begin(questions)
        for _ in run_rounds(episodes, self._performed):
            pass  # the steps stay in their episode
        return [episode.trace for episode in episodes]

    async def arun_many(self, questions: Iterable[str]) -> list[Trace]:
        """`run_many`, without blocking the event loop."""
        episodes = await self.abegin(questions)
        async for _ in arun_rounds(episodes, self._aperformed):
            pass
        return [episode.trace for episode in episodes]

    # --- for those who drive episodes themselves ----------------------------------------------------------------------

    def begin(self, questions: Iterable[str]) -> list[Episode]:
        """The runs before their first turn; the generator may be loaded for it."""
        asked = list(map(checked_question, questions))  # all of them, before the engine is loaded for any
        # Asked anew in each turn: a server may tell what it takes only once it has answered.
        return [Episode(question, self.rules, lambda: capacity_of(self.generator)) for question in asked]

    async def abegin(self, questions: Iterable[str]) -> list[Episode]:
        """`begin`, without blocking the event loop."""
        return await asyncio.to_thread(self.begin, questions)

    def perform(self, requests: Sequence[Request]) -> list[Any]:
        """The results of requests of one kind, in order."""
        if not requests:
            return []
        if isinstance(requests[0], Write):
            return generate(self.generator, _conversations(requests), self.settings)
        if isinstance(requests[0], Find):
            return self._find(cast("Sequence[Find]", requests))
        return [look.work() for look in cast("Sequence[Look]", requests)]

    async def aperform(self, requests: Sequence[Request]) -> list[Any]:
        """`perform`, without blocking the event loop."""
        if requests and isinstance(requests[0], Write):
            return await agenerate(self.generator, _conversations(requests), self.settings)
        return await asyncio.to_thread(self.perform, requests)

    def _performed(self, episodes: list[Episode]) -> list[Any]:
        return self.perform(requests_of(episodes))

    async def _aperformed(self, episodes: list[Episode]) -> list[Any]:
        return await self.aperform(requests_of(episodes))

    def _find(self, requests: Sequence[Find]) -> list[Sequence[ScoredPage]]:
        """Each with as many pages as the one that needs most; a run takes the first it has not seen."""
        only: dict[str, Any] = {}
        if self.filter:
            only["filter"] = self.filter
        # Without a filter the argument is left out: a retriever of the user's own may not know it.
        if len(requests) == 1:
            (request,) = requests
            return [self.retriever.retrieve(request.query, request.count, **only)]
        queries = [request.query for request in requests]
        most = max(request.count for request in requests)
        return retrieve_many(self.retriever, queries, most, **only)


def checked_question(question: str) -> str:
    """The question, if it is one.

    Raises:
        SettingError: It is empty.
    """
    if not question.strip():
        raise SettingError("The question is empty. Ask something, for example: agent.run('What is the total?').")
    return question


def _conversations(requests: Sequence[Request]) -> list[Conversation]:
    return [request.conversation for request in cast("Sequence[Write]", requests)]
