"""What both evaluations do: ask the questions that a record does not hold, and write down what came out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.record import Record, Work
from visrag_integrations.evaluation.results import EvaluationResult, QueryFailure
from visrag_integrations.evaluation.sets import Question
from visrag_integrations.types import Page, ScoredPage

Key = Callable[[Page], str]
"""How judgements name a page."""


@dataclasses.dataclass
class Asking:
    """The questions of one evaluation, those that a record does not hold asked in batches."""

    record: Record
    questions: Sequence[Question]
    ask: Callable[[list[Question]], Sequence[Any]]
    entry: Callable[[Question, Any], Mapping[str, Any]]
    batch_size: int
    workers: int
    failed: list[QueryFailure] = dataclasses.field(default_factory=list)
    started: float = dataclasses.field(default_factory=time.monotonic)

    def all(self, progress: bool | None) -> dict[str, dict[str, Any]]:
        """What came out, by question."""
        left = [question for question in self.questions if not self._is_done(question)]
        hidden = None if progress is None else not progress
        with tqdm(
            total=len(self.questions), initial=len(self.questions) - len(left), unit="query", disable=hidden
        ) as bar:

            def done(finished: list[tuple[Question, Any]]) -> None:
                entries = [{"id": q.id, "query": q.text, **self.entry(q, found)} for q, found in finished]
                self.record.append(entries)
                bar.update(len(finished))

            def fail(question: Question, error: Exception) -> None:
                self.failed.append(QueryFailure(question.id, f"{type(error).__name__}: {error}"))
                bar.update()

            Work(self.ask, done, fail, self.batch_size, self.workers).all(left)
        return {q.id: self.record.done[q.id] for q in self.questions if q.id in self.record.done}

    def result(self, name: str, per_query: dict[str, dict[str, float]], **found: Any) -> EvaluationResult:
        groups: dict[str, list[str]] = {}
        for question in self.questions:
            groups.setdefault(question.group, []).append(question.id)
        return EvaluationResult(
            name,
            per_query,
            self.record.settings,
            {group: ids for group, ids in groups.items() if group},
            tuple(self.failed),
            seconds=time.monotonic() - self.started,
            **found,
        )

    def _is_done(self, question: Question) -> bool:
        entry = self.record.done.get(question.id)
        if entry is not None and entry.get("query") != question.text:
            raise SettingError(
                f"{str(self.record.path)!r} holds another question {question.id!r}: {entry.get('query')!r}, "
                f"not {question.text!r}. Give another file."
            )
        return entry is not None


def search(retriever: Any, texts: Sequence[str], top_k: int, **options: Any) -> list[Sequence[ScoredPage]]:
    """The pages for each text; as one batch where the retriever can."""
    many = getattr(retriever, "retrieve_many", None)
    if many is not None:
        return list(many(texts, top_k, **options))
    return [retriever.retrieve(text, top_k, **options) for text in texts]


def keyed(hits: Iterable[ScoredPage], key: Key) -> list[tuple[str, float]]:
    """Page keys with scores that fall from one to the next, so that a run file keeps the retriever's own order."""
    found: dict[str, float] = {}
    before = np.float32(np.inf)
    for hit in hits:
        name = key(hit.page)
        if name in found:
            continue
        score = np.float32(hit.score)
        before = score if score < before else np.nextafter(before, np.float32(-np.inf))
        found[name] = float(before)
    return list(found.items())


def about(evaluated: Any) -> dict[str, Any]:
    """What a retriever or a RAG is, as far as it says; results of another one must not be mixed with its."""
    retriever = getattr(evaluated, "retriever", evaluated)
    embedder: Any = getattr(retriever, "embedder", None)
    store: Any = getattr(retriever, "store", None)
    reranker = getattr(getattr(retriever, "reranker", None), "embedder", None)
    settings = getattr(evaluated, "settings", None)
    said = {
        "retriever": None if embedder else type(retriever).__name__,
        "embedder": getattr(embedder, "name", None),
        "fingerprint": getattr(embedder, "fingerprint", None),
        "reranker": getattr(reranker, "name", None),
        "mode": getattr(retriever, "mode", None),
        "filter": getattr(retriever, "filter", None),
        "indexed": store.count() if hasattr(store, "count") else None,
        "generator": getattr(getattr(evaluated, "generator", None), "name", None),
        "prompt": getattr(evaluated, "prompt", None),
        "strategy": getattr(getattr(evaluated, "strategy", None), "__name__", None),
        "generation": _given_settings(settings) if dataclasses.is_dataclass(settings) else None,
    }
    return {name: value for name, value in said.items() if value not in (None, {})}


def _given_settings(settings: Any) -> dict[str, Any]:
    """Of `GenerationSettings` what was set."""
    return {
        f.name: getattr(settings, f.name)
        for f in dataclasses.fields(settings)
        if getattr(settings, f.name) != f.default
    }
