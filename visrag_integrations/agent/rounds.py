"""The rounds of many runs: in each, what several `Episode`s wait for is done together, then each is told its result.

Whoever can do what episodes ask for gives a function for it; the order of the rounds is the same for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from visrag_integrations.agent.episode import Episode, Find, Look, Request, Write
from visrag_integrations.agent.steps import Step

Perform = Callable[[list[Episode]], Sequence[Any]]
"""Does what these episodes wait for (requests of one kind); one result for each, in order."""
AsyncPerform = Callable[[list[Episode]], Awaitable[Sequence[Any]]]


def run_rounds(episodes: Sequence[Episode], perform: Perform) -> Iterator[tuple[Episode, list[Step]]]:
    """Runs them to their end; gives the new steps of an episode whenever there are some.

    >>> from visrag_integrations.types import Generation
    >>> episode = Episode("How many?")
    >>> steps = run_rounds([episode], lambda waiting: [Generation("<answer>12</answer>")])
    >>> [step.answer.text for _, new in steps for step in new]
    ['12']
    """
    # Results are told one by one: whoever reads this sees each step before the next run goes on.
    while waiting := next_round(episodes):
        for episode, result in zip(waiting, perform(waiting), strict=True):
            yield episode, episode.tell(result)


async def arun_rounds(episodes: Sequence[Episode], perform: AsyncPerform) -> AsyncIterator[tuple[Episode, list[Step]]]:
    """`run_rounds`, without blocking the event loop."""
    while waiting := next_round(episodes):
        for episode, result in zip(waiting, await perform(waiting), strict=True):
            yield episode, episode.tell(result)


def next_round(episodes: Sequence[Episode]) -> list[Episode]:
    """Those whose requests are done together next; empty when all runs are over."""
    # The costly turns come last, so that their batch is large: all who have to look or search do so first.
    for kind in (Look, Find, Write):
        waiting = [episode for episode in episodes if isinstance(episode.waiting, kind)]
        if waiting:
            return waiting
    return []


def requests_of(episodes: Sequence[Episode]) -> list[Request]:
    """What these episodes wait for."""
    return [episode.waiting for episode in episodes if episode.waiting is not None]
