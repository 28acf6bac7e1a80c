"""Answers from the pages that an existing run found: they are shown to the generator, and nothing is searched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.metrics import Run
from visrag_integrations.evaluation.sets import EvaluationSet, PageKey, Question
from visrag_integrations.types import Page, ScoredPage


def pages_of_run(
    dataset: EvaluationSet, stored: Callable[[], Sequence[Page]], run: Run, top_k: int, key: PageKey
) -> Callable[[Sequence[Question]], list[Sequence[ScoredPage]]]:
    """Chooses the best pages of a run for each question; none for a question that the run lacks.

    Args:
        dataset: What is asked; its pages are shown.
        stored: Gives the pages of the index, for a set that comes without pages.
        run: Question id -> page key -> score.
        top_k: So many pages.
        key: How the run names a page.

    Raises:
        SettingError: The run names a page that is neither in the set nor in the index, or none of the questions.
    """
    wanted: set[str] = set()
    for question in dataset.questions:
        wanted.update(run.get(question.id, {}))
    if not wanted:
        raise SettingError(
            f"The run has no page for any question of {dataset.name}: it asks {next(iter(run), 'nothing')!r}, and the "
            f"set {dataset.questions[0].id!r}."
        )
    known: dict[str, Page] = {}
    for page in dataset.pages or stored():
        name = key(page)
        if name in wanted:
            known[name] = page
    missing = sorted(wanted - set(known))
    if missing:
        raise SettingError(
            f"{len(missing)} pages of the run are neither in {dataset.name} nor in the index, such as {missing[0]!r}. "
            "Give the run of this set, or the index that was searched."
        )

    def choose(batch: Sequence[Question]) -> list[Sequence[ScoredPage]]:
        chosen: list[Sequence[ScoredPage]] = []
        for question in batch:
            # Pages with the same score stay in the run's order, as in VisRAG-Gen's own script.
            best = sorted(run.get(question.id, {}).items(), key=lambda found: -found[1])[:top_k]
            pages: list[ScoredPage] = []
            for name, score in best:
                pages.append(ScoredPage(known[name], score, "run"))
            chosen.append(pages)
        return chosen

    return choose


def digest_of_run(run: Run) -> str:
    """A short name of what a run holds: answers from other pages must not be mixed with these.

    >>> digest_of_run({"q": {"a": 1.0}}) == digest_of_run({"q": {"a": 2.0}})
    False
    """
    plain: dict[str, dict[str, float]] = {}
    for query, found in run.items():
        plain[query] = dict(found)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def notes_of_run(asked: Sequence[Question], run: Run) -> tuple[str, ...]:
    """What a reader of the numbers should know: questions that the run lacks were answered from no page."""
    lacking = [question.id for question in asked if not run.get(question.id)]
    if not lacking:
        return ()
    return (f"{len(lacking)} questions are not in the run, and were answered from no page; the first: {lacking[0]}.",)
