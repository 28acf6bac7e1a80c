"""`VRAGWorkflow`: the agent as a workflow; what it does next is an event, and every step is an event of its stream."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

from visrag_integrations.agent import PictureRules, Step
from visrag_integrations.agent.episode import Episode, Find, Look, Write
from visrag_integrations.agent.rounds import requests_of
from visrag_integrations.agent.storage import generation_from
from visrag_integrations.llamaindex.agent import make_agent, to_response
from visrag_integrations.llamaindex.llm_generators import resolve_llm


class VRAGStepEvent(Event):
    """Something happened; `step` is a `Thought`, `Search`, `Crop` or `Finish`."""

    step: Any


class _Pending(Event):
    """A run and what was written in it so far: all that is needed to take it up again, in another process too."""

    run: str
    question: str
    turns: list[dict[str, Any]]


class WriteEvent(_Pending):
    """The model is to write its next turn."""


class FindEvent(_Pending):
    """The model searched."""


class LookEvent(_Pending):
    """A page, or a part of one, is to be shown."""


_EVENTS: dict[type, type[WriteEvent | FindEvent | LookEvent]] = {Write: WriteEvent, Find: FindEvent, Look: LookEvent}

_MOST_RUNS = 256
"""Runs that are kept between their steps, each with its pictures. One that was forgotten is taken up from its event,
which costs its searches again."""


class VRAGWorkflow(Workflow):
    """Answers a question by searching several times and looking closer, as VRAG-RL's models are trained to.

    `run(query=...)` gives the same response as `VRAGQueryEngine`; `stream_events()` of what it returns gives a
    `VRAGStepEvent` for every step. Many runs may be under way at once, and a context that was kept (`ctx.to_dict()`) is
    taken up where it was: what was written is not written again, pages are searched anew.

    >>> await VRAGWorkflow(retriever, EVisRAGLLM("http://localhost:8000/v1")).run(query="How many?")  # doctest: +SKIP

    Args:
        retriever: Any retriever of LlamaIndex, or one of the core such as `PageRetriever`.
        llm: An `EVisRAGLLM`, another multi-modal LLM, a generator of the core, or a name; `Settings.llm` when None.
        max_turns: At most so many; before the last one the model is asked to answer. None: what the checkpoint of the
            LLM was trained with (`train_agent` writes it there), else 10.
        token_budget: At most about so many tokens read and written in all turns of a question together.
        template: The prompt; `{question}` in it is replaced. None: as above, else that of the core.
        pictures: How large pages and crops are shown. None: as above, else `PictureRules()`.
        trained: The folder of the trained checkpoint, where the LLM is behind a server.
        timeout: Seconds a run may take; no limit when None.
        **workflow: Settings of LlamaIndex's `Workflow`.
    """

    def __init__(
        self,
        retriever: Any,
        llm: Any = None,
        max_turns: int | None = None,
        *,
        token_budget: int | None = None,
        template: str | None = None,
        pictures: PictureRules | None = None,
        trained: str | Path | None = None,
        timeout: float | None = None,
        **workflow: Any,
    ) -> None:
        super().__init__(timeout=timeout, **workflow)
        self.llm = resolve_llm(llm)
        self._runs: dict[str, Episode] = {}
        self.agent = make_agent(
            retriever,
            self.llm,
            max_turns,
            token_budget=token_budget,
            template=template,
            pictures=pictures,
            trained=trained,
        )

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> WriteEvent:
        """The question, as `query`, becomes a run."""
        (episode,) = await self.agent.abegin([str(ev.get("query") or "")])
        run = uuid.uuid4().hex
        self._keep(run, episode)
        return WriteEvent(run=run, question=episode.question, turns=[])

    @step
    async def write(self, ctx: Context, ev: WriteEvent) -> WriteEvent | FindEvent | LookEvent | StopEvent:
        """The model writes."""
        return await self._go_on(ctx, ev)

    @step
    async def find(self, ctx: Context, ev: FindEvent) -> WriteEvent | LookEvent:
        """The pages are searched."""
        return await self._go_on(ctx, ev)  # type: ignore[return-value]

    @step
    async def look(self, ctx: Context, ev: LookEvent) -> WriteEvent:
        """A picture is opened."""
        return await self._go_on(ctx, ev)  # type: ignore[return-value]

    async def _go_on(self, ctx: Context, ev: _Pending) -> WriteEvent | FindEvent | LookEvent | StopEvent:
        """Do what the run waits for, report the steps, and say what comes next."""
        # Out of the table while it is worked on: if that fails, the run is taken up from its event again.
        episode = self._runs.pop(ev.run, None)
        if episode is None or not _stands_at(episode, ev):
            episode = await self._taken_up(ev)
        for happened in await self._perform(episode):
            ctx.write_event_to_stream(VRAGStepEvent(step=happened))
        if episode.waiting is None:
            return StopEvent(result=to_response(episode.trace))
        self._keep(ev.run, episode)
        turns = list(map(asdict, episode.trace.turns))
        return _EVENTS[type(episode.waiting)](run=ev.run, question=ev.question, turns=turns)

    def _keep(self, run: str, episode: Episode) -> None:
        """For the next step of this run; runs that were left are forgotten, the oldest first."""
        self._runs[run] = episode
        # A dict keeps the order in which its keys came.
        while len(self._runs) > _MOST_RUNS:
            del self._runs[next(iter(self._runs))]

    async def _taken_up(self, ev: _Pending) -> Episode:
        """A run that began elsewhere, at the same point."""
        (episode,) = await self.agent.abegin([ev.question])
        written = list(map(generation_from, ev.turns))
        # What the model wrote is in the event; searches and pictures are not, and are made again.
        while written or not isinstance(ev, _EVENTS[type(episode.waiting)]):
            if isinstance(episode.waiting, Write):
                episode.tell(written.pop(0))
            else:
                await self._perform(episode)
        return episode

    async def _perform(self, episode: Episode) -> list[Step]:
        """Do what the run waits for; its new steps."""
        (result,) = await self.agent.aperform(requests_of([episode]))
        return episode.tell(result)


def _stands_at(episode: Episode, ev: _Pending) -> bool:
    """Whether the run is where the event was made; a context kept earlier speaks of another point."""
    written = list(map(asdict, episode.trace.turns))
    return isinstance(ev, _EVENTS[type(episode.waiting)]) and written == ev.turns
