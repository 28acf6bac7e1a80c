"""Which pages a generator is shown for each question of a set: those found, those given with it, or the right ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.candidates import CandidateSearch
from visrag_integrations.evaluation.metrics import relevant_pages
from visrag_integrations.evaluation.sets import EvaluationSet, PageKey, Question
from visrag_integrations.generation.parser import scored
from visrag_integrations.types import Page, ScoredPage

ChosenPages = Callable[[Sequence[Question]], Sequence[Sequence[ScoredPage]]]
"""The pages to show for each question of a batch."""


def retrieved_pages(dataset: EvaluationSet, retriever: Any, top_k: int) -> ChosenPages:
    """Those that the retriever finds."""
    # Searched by the bare question: the options would be words to find.
    return CandidateSearch(dataset, retriever, top_k).search


def given_pages(dataset: EvaluationSet, top_k: int | None) -> ChosenPages:
    """Those that came with the question, the first `top_k` of them.

    Raises:
        SettingError: None came with any question.
    """
    if not any(question.pages for question in dataset.questions):
        raise SettingError(f"{dataset.name} gives no pages with its questions. Say pages='retrieved'.")

    def choose(batch: Sequence[Question]) -> list[Sequence[ScoredPage]]:
        chosen: list[Sequence[ScoredPage]] = []
        for question in batch:
            chosen.append(scored(question.pages[:top_k]))
        return chosen

    return choose


def pages_that_are_right(dataset: EvaluationSet, rag: Any, top_k: int | None, key: PageKey) -> ChosenPages:
    """Those that are judged relevant, as a perfect search would find them: the highest grade first.

    Raises:
        SettingError: None of them is in the set or in the index of the RAG.
    """
    wanted: set[str] = set()
    for judged in dataset.qrels.values():
        wanted.update(relevant_pages(judged))
    known: dict[str, Page] = {}
    for page in dataset.pages or stored_pages(rag):
        name = key(page)
        if name in wanted:
            known[name] = page
    if not known:
        raise SettingError(f"None of the pages that {dataset.name} calls relevant is in the set or in the index.")

    def choose(batch: Sequence[Question]) -> list[Sequence[ScoredPage]]:
        chosen: list[Sequence[ScoredPage]] = []
        for question in batch:
            best_first = _best_first(dataset.qrels.get(question.id, {}), known)
            chosen.append(scored(best_first[:top_k]))
        return chosen

    return choose


def stored_pages(rag: Any) -> Iterable[Page]:
    """Every page of the index that the RAG searches; none where it does not show its index."""
    store: Any = getattr(getattr(rag, "retriever", None), "store", None)
    if not hasattr(store, "scroll"):
        return ()
    pages: Iterable[Page] = store.scroll()
    return pages


def _best_first(judged: Mapping[str, int], known: Mapping[str, Page]) -> list[Page]:
    """The relevant pages that there are, the highest grade first."""
    pages: list[Page] = []
    for name in sorted(relevant_pages(judged), key=lambda name: -judged[name]):
        if name in known:
            pages.append(known[name])
    return pages
