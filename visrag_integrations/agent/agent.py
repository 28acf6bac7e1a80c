"""`VRAGAgent`: does what an `Episode` asks for: in this thread, in an event loop, or for many questions at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.agent.budget import ANSWER_TOKENS, Rules, capacity_of
from visrag_integrations.agent.episode import Episode, Find, Look, Request, Write
from visrag_integrations.agent.pictures import PictureRules
from visrag_integrations.agent.steps import Step
from visrag_integrations.agent.trace import Trace
from visrag_integrations.errors import GenerationError, SettingError
from visrag_integrations.generation.defaults import with_defaults
from visrag_integrations.generation.vrag import STOP, TEMPLATE
from visrag_integrations.types import Conversation, Generation, GenerationSettings, ScoredPage

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
        max_turns: At most so many; before the last one the model is asked to answer.
        token_budget: At most about so many tokens read and written in all turns of a question together.
        template: The prompt; `{question}` in it is replaced. The model's own template, if you have it.
        pictures: How large pages and crops are shown.
        filter: Metadata the pages must have, for example `{"source": "report.pdf"}`.
        settings: How to write; the generator's defaults where None.
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        max_turns: int = 10,
        *,
        token_budget: int | None = None,
        template: str = TEMPLATE,
        pictures: PictureRules | None = None,
        filter: Filter | None = None,
        settings: GenerationSettings | None = None,
    ) -> None:
        self.retriever, self.generator, self.filter = retriever, generator, filter
        self.settings = with_defaults(settings, GenerationSettings(max_tokens=ANSWER_TOKENS, stop=STOP))
        answer_tokens = self.settings.max_tokens or ANSWER_TOKENS
        self.rules = Rules(max_turns, token_budget, answer_tokens, template, pictures or PictureRules())

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
        (episode,) = self.begin([question])
        return self._streamed(episode)

    def _streamed(self, episode: Episode) -> Iterator[Step | Trace]:
        given = 0
        while episode.waiting is not None:
            episode.tell(self.perform([episode.waiting])[0])
            yield from episode.steps[given:]
            given = len(episode.steps)
        yield episode.trace

    async def astream(self, question: str) -> AsyncIterator[Step | Trace]:
        """`stream`, without blocking the event loop."""
        (episode,) = await self.abegin([question])
        given = 0
        while episode.waiting is not None:
            episode.tell((await self.aperform([episode.waiting]))[0])
            for step in episode.steps[given:]:
                yield step
            given = len(episode.steps)
        yield episode.trace

    # --- many questions ---------------------------------------------------------------------------------------------

    def run_many(self, questions: Iterable[str]) -> list[Trace]:
        """The runs in order; in each round the turns of all of them go to the generator as one batch."""
        episodes = self.begin(questions)
        while waiting := next_round(episodes):
            for episode, result in zip(waiting, self.perform(_requests(waiting)), strict=True):
                episode.tell(result)
        return [episode.trace for episode in episodes]

    async def arun_many(self, questions: Iterable[str]) -> list[Trace]:
        """`run_many`, without blocking the event loop."""
        episodes = await self.abegin(questions)
        while waiting := next_round(episodes):
            for episode, result in zip(waiting, await self.aperform(_requests(waiting)), strict=True):
                episode.tell(result)
        return [episode.trace for episode in episodes]

    # --- for those who drive episodes themselves ----------------------------------------------------------------------

    def begin(self, questions: Iterable[str]) -> list[Episode]:
        """The runs before their first turn; the generator may be loaded for it."""
        asked = [checked_question(question) for question in questions]
        return [Episode(question, self.rules, lambda: capacity_of(self.generator)) for question in asked]

    async def abegin(self, questions: Iterable[str]) -> list[Episode]:
        """`begin`, without blocking the event loop."""
        return await asyncio.to_thread(self.begin, questions)

    def perform(self, requests: Sequence[Request]) -> list[Any]:
        """The results of requests of one kind, in order."""
        if not requests:
            return []
        if isinstance(requests[0], Write):
            conversations = _conversations(requests)
            return one_each(self.generator.name, self.generator.generate(conversations, self.settings), conversations)
        if isinstance(requests[0], Find):
            return self._found([request for request in requests if isinstance(request, Find)])
        return [request.work() for request in requests if isinstance(request, Look)]

    async def aperform(self, requests: Sequence[Request]) -> list[Any]:
        """`perform`, without blocking the event loop."""
        agenerate = getattr(self.generator, "agenerate", None)
        if agenerate is None or not requests or not isinstance(requests[0], Write):
            return await asyncio.to_thread(self.perform, requests)
        conversations = _conversations(requests)
        written: list[Generation] = await agenerate(conversations, self.settings)
        return one_each(self.generator.name, written, conversations)

    def _found(self, requests: Sequence[Find]) -> list[Sequence[ScoredPage]]:
        """Each with as many pages as the one that needs most; a run takes the first it has not seen."""
        only: Mapping[str, Any] = {"filter": self.filter} if self.filter else {}
        many = getattr(self.retriever, "retrieve_many", None)
        if many is not None and len(requests) > 1:
            most = max(request.count for request in requests)
            return list(many([request.query for request in requests], most, **only))
        return [self.retriever.retrieve(request.query, request.count, **only) for request in requests]


def next_round(episodes: Sequence[Episode]) -> list[Episode]:
    """Those whose requests can be done together; nobody writes before all who have to look or search have done so."""
    for kind in (Look, Find, Write):
        waiting = [episode for episode in episodes if isinstance(episode.waiting, kind)]
        if waiting:
            return waiting
    return []


def checked_question(question: str) -> str:
    """The question, if it is one.

    Raises:
        SettingError: It is empty.
    """
    if not question.strip():
        raise SettingError("The question is empty. Ask something, for example: agent.run('What is the total?').")
    return question


def one_each(name: str, written: Sequence[Generation], conversations: Sequence[Conversation]) -> list[Generation]:
    """What was written, if it is one text for each conversation.

    Raises:
        GenerationError: It is not.
    """
    if len(written) != len(conversations):
        raise GenerationError(
            f"Generator {name!r} gave {len(written)} texts for {len(conversations)} conversations; "
            "generate() must give one for each, in order."
        )
    return list(written)


def _requests(episodes: Sequence[Episode]) -> list[Request]:
    return [episode.waiting for episode in episodes if episode.waiting is not None]


def _conversations(requests: Sequence[Request]) -> list[Conversation]:
    return [request.conversation for request in requests if isinstance(request, Write)]
