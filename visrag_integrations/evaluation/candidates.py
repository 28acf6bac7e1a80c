"""A search over the pages that a question is asked of, where a set names them (`corpus_range`, mteb's `top_ranked`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.sets import EvaluationSet, Question, page_key
from visrag_integrations.interfaces.retrievers import Retriever, retrieve_many
from visrag_integrations.retrieval import PageRetriever, Search
from visrag_integrations.types import ScoredPage


@dataclass(frozen=True)
class CandidateSearch:
    """Searches for the questions of a set, each among its candidates.

    Attributes:
        dataset: What is asked; its pages say which id the page of a key has.
        retriever: What searches.
        top_k: So many pages for each question.
        options: Given to the retriever.
    """

    dataset: EvaluationSet
    retriever: Retriever
    top_k: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def search(self, batch: Sequence[Question]) -> list[Sequence[ScoredPage]]:
        """The pages for each question, best first."""
        if all(question.candidates is None for question in batch):
            return retrieve_many(self.retriever, [question.text for question in batch], self.top_k, **self.options)
        if isinstance(self.retriever, PageRetriever):
            found = self._by_one_batch_of_queries(self.retriever, batch)
        else:
            found = self._one_by_one(batch)
        for question, hits in zip(batch, found, strict=True):
            self._check(question, hits)
        return found

    def _by_one_batch_of_queries(
        self, retriever: PageRetriever, batch: Sequence[Question]
    ) -> list[Sequence[ScoredPage]]:
        """Each question has a filter of its own; the embedder still gets all of them together."""
        searches: list[Search] = []
        for question in batch:
            searches.append(Search(question.text, self.top_k, self._filter(question), **self.options))
        found: list[Sequence[ScoredPage]] = []
        for search in retriever.embed(searches):
            found.append(retriever.find(search))
        return found

    def _one_by_one(self, batch: Sequence[Question]) -> list[Sequence[ScoredPage]]:
        found: list[Sequence[ScoredPage]] = []
        for question in batch:
            condition = self._filter(question)
            found.append(self.retriever.retrieve(question.text, self.top_k, filter=condition, **self.options))
        return found

    @cached_property
    def _ids(self) -> dict[str, str]:
        # Sets name pages by keys; the store's filter takes ids.
        return {page_key(page): page.id for page in self.dataset.pages}

    def _filter(self, question: Question) -> Mapping[str, Any] | None:
        if question.candidates is None:
            return None
        ids: list[str] = []
        for key in question.candidates:
            if key not in self._ids:
                raise SettingError(
                    f"Question {question.id!r} is asked of the page {key!r}, which is not among the pages of "
                    f"{self.dataset.name}. Load the set with its pages."
                )
            ids.append(self._ids[key])
        return {"$ids": ids}

    def _check(self, question: Question, hits: Sequence[ScoredPage]) -> None:
        """A retriever that does not heed the filter would be scored on another task."""
        if question.candidates is None:
            return
        allowed = {self._ids[key] for key in question.candidates}
        for hit in hits:
            if hit.page.id not in allowed:
                raise SettingError(
                    f"{type(self.retriever).__name__} found {page_key(hit.page)!r} for question {question.id!r}, which "
                    'is not among its candidates: it does not heed filter={"$ids": [...]}.'
                )
