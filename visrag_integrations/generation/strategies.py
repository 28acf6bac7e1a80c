"""How retrieved pages become an answer: one function each, in one table.

A strategy only plans: which conversations to hold, and how what was generated becomes one `Answer`. So the plans of
many questions can go to the generator as one batch.

A page without a picture is shown as its text: generators read `Page.text` of every page whose `picture` is None.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from visrag_integrations import images
from visrag_integrations.errors import GenerationError, SettingError, UnknownNameError
from visrag_integrations.generation.evisrag import evisrag_messages, plain_messages
from visrag_integrations.generation.parser import parse_evidence
from visrag_integrations.generation.wording import says_insufficient
from visrag_integrations.interfaces import Generator
from visrag_integrations.types import Answer, Conversation, Evidence, Generation, GenerationSettings, Page, ScoredPage

if TYPE_CHECKING:
    from PIL.Image import Image

Prompt = Literal["evisrag", "plain"]
Hits = Sequence[ScoredPage]


@dataclass(frozen=True)
class Plan:
    """What to ask a generator for one question.

    Attributes:
        conversations: One or more; all are generated in one batch.
        combine: One generation per conversation in, the answer out.
        shown: The pages as the first conversation shows them, to read evidence while it is written.
    """

    conversations: tuple[Conversation, ...]
    combine: Callable[[Sequence[Generation]], Answer]
    shown: tuple[Page, ...]


Strategy = Callable[[str, Hits, Prompt], Plan]


def multi_image(question: str, pages: Hits, prompt: Prompt = "evisrag") -> Plan:
    """Every page as a picture of its own, all in one conversation."""
    return _one_conversation(question, pages, [hit.page for hit in pages], prompt)


def text(question: str, pages: Hits, prompt: Prompt = "evisrag") -> Plan:
    """The pages' texts instead of their pictures."""
    return _one_conversation(
        question, pages, [dataclasses.replace(hit.page, picture=None, words=()) for hit in pages], prompt
    )


def page_concatenation(
    question: str, pages: Hits, prompt: Prompt = "evisrag", *, direction: images.Direction = "horizontal"
) -> Plan:
    """All pages in one picture, side by side or stacked; for the other direction use `functools.partial`."""
    if len(pages) == 1:
        return multi_image(question, pages, prompt)
    joined = Page(
        doc_id="page_concatenation",
        number=1,
        text="\n".join(hit.page.text for hit in pages),
        picture=functools.partial(_concatenated, [hit.page for hit in pages], direction),
    )
    plan = _one_conversation(question, pages, [joined], prompt)

    def combine(generations: Sequence[Generation]) -> Answer:
        answer = plan.combine(generations)  # its one image is several pages: no entry can name one of them
        evidence = tuple(dataclasses.replace(entry, page=None) for entry in answer.evidence)
        return dataclasses.replace(answer, evidence=evidence)

    return dataclasses.replace(plan, combine=combine)


def weighted_selection(question: str, pages: Hits, prompt: Prompt = "evisrag") -> Plan:
    """An answer from each page alone; the one with the largest retrieval weight times probability stands."""
    plans = [_one_conversation(question, [hit], [hit.page], prompt) for hit in pages]

    def combine(generations: Sequence[Generation]) -> Answer:
        answers = [plan.combine([generation]) for plan, generation in zip(plans, generations, strict=True)]
        weights = selection_weights([hit.score for hit in pages], [item.logprob for item in generations])
        best = max(range(len(answers)), key=lambda i: (weights[i], -i))
        blind = any(item.logprob is None for item in generations)
        note = ("the generator gives no log-probabilities, so the retrieval scores alone chose",) if blind else ()
        return dataclasses.replace(
            answers[best],
            evidence=tuple(_renumbered(answer, i + 1) for i, answer in enumerate(answers) if answer.evidence),
            pages=tuple(pages),
            problems=(*answers[best].problems, *note),
        )

    return Plan(tuple(plan.conversations[0] for plan in plans), combine, shown=tuple(hit.page for hit in pages))


STRATEGIES: dict[str, Strategy] = {
    "multi_image": multi_image,
    "page_concatenation": page_concatenation,
    "weighted_selection": weighted_selection,
    "text": text,
}


def find_strategy(strategy: str | Strategy) -> Strategy:
    """The strategy of that name; a function is one itself.

    Raises:
        UnknownNameError: There is none of that name; the message lists the names.
    """
    if callable(strategy):
        return strategy
    if strategy not in STRATEGIES:
        raise UnknownNameError(f"No strategy is called {strategy!r}; choose one of {', '.join(STRATEGIES)}.")
    return STRATEGIES[strategy]


def run_plans(plans: Sequence[Plan], generator: Generator, settings: GenerationSettings | None = None) -> list[Answer]:
    """The answers to all plans, their conversations generated in one batch."""
    conversations = [conversation for plan in plans for conversation in plan.conversations]
    generations = generator.generate(conversations, settings) if conversations else []
    return combine_plans(plans, generations, generator.name)


def combine_plans(plans: Sequence[Plan], generations: Sequence[Generation], name: str) -> list[Answer]:
    """The answers to all plans, from what the generator of that name wrote for their conversations in order."""
    asked = sum(len(plan.conversations) for plan in plans)
    if len(generations) != asked:
        raise GenerationError(
            f"Generator {name!r} gave {len(generations)} texts for {asked} conversations; "
            "generate() must give one for each, in order."
        )
    remaining = iter(generations)
    return [plan.combine([next(remaining) for _ in plan.conversations]) for plan in plans]


def selection_weights(scores: Sequence[float], logprobs: Sequence[float | None]) -> list[float]:
    """softmax(scores) times exp(mean log-probability); without all log-probabilities the softmax alone.

    >>> [round(weight, 3) for weight in selection_weights([0.0, 0.0], [-0.1, -1.2])]
    [0.452, 0.151]
    """
    highest = max(scores, default=0.0)
    raised = [math.exp(score - highest) for score in scores]
    total = sum(raised)
    known = [logprob for logprob in logprobs if logprob is not None]
    if len(known) < len(logprobs):
        return [value / total for value in raised]
    return [value / total * math.exp(logprob) for value, logprob in zip(raised, known, strict=True)]


def _one_conversation(question: str, hits: Hits, shown: Sequence[Page], prompt: Prompt) -> Plan:
    if prompt not in ("evisrag", "plain"):
        raise SettingError(f'prompt is {prompt!r}; it is "evisrag" (for EVisRAG checkpoints) or "plain" (for others).')
    messages = evisrag_messages if prompt == "evisrag" else plain_messages

    def combine(generations: Sequence[Generation]) -> Answer:
        (written,) = generations
        if prompt == "plain":
            return _plain_answer(written.text, hits)
        answer = parse_evidence(written.text, list(shown))
        return dataclasses.replace(answer, evidence=_with_hits(answer.evidence, hits, shown), pages=tuple(hits))

    return Plan((messages(question, shown),), combine, tuple(shown))


def _with_hits(evidence: Sequence[Evidence], hits: Hits, shown: Sequence[Page]) -> tuple[Evidence, ...]:
    """The entries with the pages as they were found, where one was shown for each."""
    if len(hits) != len(shown):
        return tuple(evidence)
    return tuple(
        dataclasses.replace(entry, page=hits[entry.page_index - 1].page) if entry.page is not None else entry
        for entry in evidence
    )


def _plain_answer(written: str, hits: Hits) -> Answer:
    answer = written.strip()
    problems = () if answer else ("the model wrote nothing",)
    sufficient = bool(answer) and not says_insufficient(answer)
    return Answer(answer, sufficient=sufficient, pages=tuple(hits), problems=problems, raw=written)


def _renumbered(answer: Answer, index: int) -> Evidence:
    """What was found on one page alone, as one entry under that page's place."""
    entries = [entry for entry in answer.evidence if entry.relevant] or list(answer.evidence[:1])
    joined = "\n".join(entry.text for entry in entries)
    return Evidence(index, joined, relevant=entries[0].relevant, page=answer.pages[0].page)


def _concatenated(pages: Sequence[Page], direction: images.Direction) -> Image:
    return images.concatenate([page.open_image() for page in pages], direction)
