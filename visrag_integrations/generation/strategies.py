"""How retrieved pages become an answer: one function each, in one table.

A strategy only plans: which conversations to hold, and how what was generated becomes one `Answer`. So the plans of
many questions can go to the generator as one batch.

A page without a picture is shown as its text: generators read `Page.text` of every page whose `picture` is None.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from visrag_integrations import images
from visrag_integrations.errors import GenerationError, SettingError, UnknownNameError
from visrag_integrations.generation.evisrag import evisrag_messages, plain_messages
from visrag_integrations.generation.page_texts import TEXT_BUDGET, check_budget, limited_texts, page_text
from visrag_integrations.generation.parser import parse_evidence
from visrag_integrations.generation.plain_answers import plain_answer
from visrag_integrations.interfaces import Generator
from visrag_integrations.types import (
    Answer,
    Conversation,
    Evidence,
    Generation,
    GenerationSettings,
    Page,
    Part,
    ScoredPage,
)

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
    shown = [dataclasses.replace(hit.page, picture=None, words=()) for hit in pages]
    return _one_conversation(question, pages, shown, prompt)


def image_and_text(question: str, pages: Hits, prompt: Prompt = "evisrag", *, characters: int = TEXT_BUDGET) -> Plan:
    """Every page as a picture, and before it its text; for another budget use `with_text_budget`.

    Args:
        question: As it was asked.
        pages: Best first.
        prompt: "evisrag" or "plain".
        characters: At most so many of all texts together; what is cut stands in the answer's `problems`.
    """
    limited = limited_texts([hit.page for hit in pages], characters)
    shown = []
    for hit, room in zip(pages, limited, strict=True):
        page = hit.page
        if page.picture is None:  # generators read its text by themselves
            page = dataclasses.replace(page, text=room.text, words=())
        shown.append(page)
    plan = _one_conversation(question, pages, shown, prompt)
    message = plan.conversations[0][0]
    content: list[Part] = []
    place = 0
    for part in message.content:
        if isinstance(part, Page):
            place += 1
            kept = limited[place - 1].text
            if part.picture is not None and kept:
                content.append(page_text(place, kept))
        content.append(part)
    cut = tuple(room.problem for room in limited if room.problem)

    def combine(generations: Sequence[Generation]) -> Answer:
        answer = plan.combine(generations)
        return dataclasses.replace(answer, problems=(*answer.problems, *cut))

    conversation = (dataclasses.replace(message, content=tuple(content)),)
    return Plan((conversation,), combine, plan.shown)


def with_text_budget(characters: int) -> Strategy:
    """`image_and_text` with room for so many characters of the pages' texts together.

    >>> with_text_budget(5000).__name__
    'image_and_text_5000'

    Raises:
        SettingError: It is fewer than one.
    """
    check_budget(characters)

    def strategy(question: str, pages: Hits, prompt: Prompt = "evisrag") -> Plan:
        return image_and_text(question, pages, prompt, characters=characters)

    strategy.__name__ = f"image_and_text_{characters}"  # records of an evaluation tell strategies apart by it
    return strategy


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
        picture=functools.partial(_concatenated, pages, direction),  # joined when it is opened, not before
    )
    plan = _one_conversation(question, pages, [joined], prompt)

    def combine(generations: Sequence[Generation]) -> Answer:
        answer = plan.combine(generations)
        # Its one image is several pages: no entry can name one of them.
        evidence = tuple(dataclasses.replace(entry, page=None) for entry in answer.evidence)
        return dataclasses.replace(answer, evidence=evidence)

    return dataclasses.replace(plan, combine=combine)


def weighted_selection(question: str, pages: Hits, prompt: Prompt = "evisrag") -> Plan:
    """An answer from each page alone; the one with the largest retrieval weight times probability stands."""
    plans = [_one_conversation(question, [hit], [hit.page], prompt) for hit in pages]

    def combine(generations: Sequence[Generation]) -> Answer:
        answers: list[Answer] = []
        for plan, generation in zip(plans, generations, strict=True):
            answers.append(plan.combine([generation]))
        logprobs = [generation.logprob for generation in generations]
        weights = selection_weights([hit.score for hit in pages], logprobs)
        best = answers[weights.index(max(weights))]  # of equal ones the first: its page was found first
        evidence = []
        for index, answer in enumerate(answers, start=1):
            if answer.evidence:
                evidence.append(_renumbered(answer, index))
        problems = best.problems
        if None in logprobs:
            problems += ("the generator gives no log-probabilities, so the retrieval scores alone chose",)
        return dataclasses.replace(best, evidence=tuple(evidence), pages=tuple(pages), problems=problems)

    conversations = tuple(plan.conversations[0] for plan in plans)
    return Plan(conversations, combine, shown=tuple(hit.page for hit in pages))


STRATEGIES: dict[str, Strategy] = {
    "multi_image": multi_image,
    "page_concatenation": page_concatenation,
    "weighted_selection": weighted_selection,
    "text": text,
    "image_and_text": image_and_text,
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
    conversations: list[Conversation] = []
    for plan in plans:
        conversations += plan.conversations
    generations = generator.generate(conversations, settings) if conversations else []
    return combine_plans(plans, generations, generator.name)


def combine_plans(plans: Sequence[Plan], generations: Sequence[Generation], name: str) -> list[Answer]:
    """The answers to all plans, from what the generator of that name wrote for their conversations in order."""
    wanted = sum(len(plan.conversations) for plan in plans)
    if len(generations) != wanted:
        raise GenerationError(
            f"Generator {name!r} gave {len(generations)} texts for {wanted} conversations; "
            "generate() must give one for each, in order."
        )
    answers = []
    start = 0
    for plan in plans:
        end = start + len(plan.conversations)
        answers.append(plan.combine(generations[start:end]))
        start = end
    return answers


def selection_weights(scores: Sequence[float], logprobs: Sequence[float | None]) -> list[float]:
    """softmax(scores) times exp(mean log-probability); without all log-probabilities the softmax alone.

    >>> [round(weight, 3) for weight in selection_weights([0.0, 0.0], [-0.1, -1.2])]
    [0.452, 0.151]
    """
    highest = max(scores, default=0.0)  # taken off all scores, so that no power overflows; the softmax is the same
    raised = [math.exp(score - highest) for score in scores]
    total = sum(raised)
    weights = [value / total for value in raised]
    if None in logprobs:
        return weights
    probabilities = [math.exp(logprob) for logprob in logprobs if logprob is not None]
    return list(map(operator.mul, weights, probabilities))


def _one_conversation(question: str, hits: Hits, shown: Sequence[Page], prompt: Prompt) -> Plan:
    if prompt not in ("evisrag", "plain"):
        raise SettingError(f'prompt is {prompt!r}; it is "evisrag" (for EVisRAG checkpoints) or "plain" (for others).')
    to_messages = {"evisrag": evisrag_messages, "plain": plain_messages}[prompt]

    def combine(generations: Sequence[Generation]) -> Answer:
        (written,) = generations
        if prompt == "plain":
            return plain_answer(written.text, hits)
        answer = parse_evidence(written.text, list(shown), cut_off=written.finish_reason == "length")
        return dataclasses.replace(answer, evidence=_with_hits(answer.evidence, hits, shown), pages=tuple(hits))

    return Plan((to_messages(question, shown),), combine, tuple(shown))


def _with_hits(evidence: Sequence[Evidence], hits: Hits, shown: Sequence[Page]) -> tuple[Evidence, ...]:
    """The entries with the pages as they were found, where one was shown for each."""
    if len(hits) != len(shown):
        return tuple(evidence)
    found = []
    for entry in evidence:
        if entry.page is not None:
            entry = dataclasses.replace(entry, page=hits[entry.page_index - 1].page)
        found.append(entry)
    return tuple(found)


def _renumbered(answer: Answer, index: int) -> Evidence:
    """What was found on one page alone, as one entry under that page's place."""
    entries = [entry for entry in answer.evidence if entry.relevant]
    if not entries:
        entries = [answer.evidence[0]]
    joined = "\n".join(entry.text for entry in entries)
    return Evidence(index, joined, relevant=entries[0].relevant, page=answer.pages[0].page)


def _concatenated(pages: Hits, direction: images.Direction) -> Image:
    return images.concatenate([hit.page.open_image() for hit in pages], direction)
