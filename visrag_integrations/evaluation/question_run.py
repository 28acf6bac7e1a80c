"""`QuestionRun`: what both evaluations do. Ask the questions that a record does not hold, and keep what came out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.batch_runner import BatchRunner
from visrag_integrations.evaluation.evidence_scores import EvidenceScores
from visrag_integrations.evaluation.metrics import PerQuery
from visrag_integrations.evaluation.results import EvaluationResult, QueryFailure
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.evaluation.sets import EvaluationSet, PageKey, Question
from visrag_integrations.interfaces.embedders import fingerprint_of
from visrag_integrations.interfaces.retrievers import reranker_name
from visrag_integrations.progress_bars import progress_bar
from visrag_integrations.types import ScoredPage

Done = Mapping[str, Mapping[str, Any]]
"""Question id -> what a record keeps of it."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """What was found or answered, and the metrics of it: the same of one run and of the shards of one."""

    per_query: PerQuery
    run: Mapping[str, Mapping[str, float]]
    answers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evidence: EvidenceScores | None = None

    def result(
        self,
        dataset: EvaluationSet,
        questions: Sequence[Question],
        settings: Mapping[str, Any],
        failed: tuple[QueryFailure, ...],
        seconds: float = 0.0,
    ) -> EvaluationResult:
        """As a result, with the groups of the questions that were asked."""
        return EvaluationResult(
            dataset.name,
            self.per_query,
            settings,
            dataset.groups([question.id for question in questions]),
            failed,
            self.run,
            self.answers,
            seconds,
            self.notes,
            evidence=self.evidence,
        )


@dataclasses.dataclass
class QuestionRun:
    """The questions of one evaluation, those that a record does not hold asked in batches."""

    record: RunRecord
    questions: Sequence[Question]
    ask: Callable[[list[Question]], Sequence[Any]]
    entry: Callable[[Question, Any], Mapping[str, Any]]
    batch_size: int
    workers: int
    failed: list[QueryFailure] = dataclasses.field(default_factory=list)
    started: float = dataclasses.field(default_factory=time.monotonic)

    def all(self, progress: bool | None) -> dict[str, dict[str, Any]]:
        """What came out, by question."""
        left: list[Question] = []
        for question in self.questions:
            if not self._is_done(question):
                left.append(question)
        asked_before = len(self.questions) - len(left)
        with progress_bar(progress, total=len(self.questions), initial=asked_before, unit="query") as bar:
            # Written down before the bar moves: what it shows survives a kill.
            def done(finished: list[tuple[Question, Any]]) -> None:
                entries: list[dict[str, Any]] = []
                for question, found in finished:
                    entries.append({"id": question.id, "query": question.text, **self.entry(question, found)})
                self.record.append(entries)
                bar.update(len(finished))

            def fail(question: Question, error: Exception) -> None:
                self.failed.append(QueryFailure(question.id, f"{type(error).__name__}: {error}"))
                bar.update()

            BatchRunner(self.ask, done, fail, self.batch_size, self.workers).all(left)
        # In the order of the questions, whatever order the batches ended in.
        found: dict[str, dict[str, Any]] = {}
        for question in self.questions:
            if question.id in self.record.done:
                found[question.id] = self.record.done[question.id]
        return found

    def result(self, dataset: EvaluationSet, scored: Scored) -> EvaluationResult:
        """The result of these metrics, with the settings of the run and the groups of its questions."""
        seconds = time.monotonic() - self.started
        return scored.result(dataset, self.questions, self.record.settings, tuple(self.failed), seconds)

    def _is_done(self, question: Question) -> bool:
        # The id alone is not enough: a set that was edited may ask something else under an old id.
        entry = self.record.done.get(question.id)
        if entry is not None and entry.get("query") != question.text:
            raise SettingError(
                f"{str(self.record.path)!r} holds another question {question.id!r}: {entry.get('query')!r}, "
                f"not {question.text!r}. Give another file."
            )
        return entry is not None


def keyed(hits: Iterable[ScoredPage], key: PageKey) -> list[tuple[str, float]]:
    """Page keys with scores that fall from one to the next, so that a run file keeps the retriever's own order."""
    found: dict[str, float] = {}
    before = np.float32(np.inf)
    for hit in hits:
        name = key(hit.page)
        if name in found:
            continue
        # [0.5, 0.5, 0.7] -> [0.5, 0.49999997, 0.49999994]: a run file ranks equal scores by id, in single precision.
        score = np.float32(hit.score)
        if score >= before:
            score = np.nextafter(before, np.float32(-np.inf))
        found[name] = float(score)
        before = score
    return list(found.items())


def about_set(dataset: EvaluationSet) -> dict[str, Any]:
    """Which questions were asked; results of another share of them must not be mixed with these."""
    if dataset.part is None:
        return {"set": dataset.name}
    number, count = dataset.part
    return {"set": dataset.name, "shard": f"{number}/{count}", "questions": dataset.whole}


def about(evaluated: Any) -> dict[str, Any]:
    """What a retriever or a RAG is, as far as it says; results of another one must not be mixed with its results."""
    # Read with defaults throughout: what is evaluated may be a user's own object that has none of these members.
    retriever = getattr(evaluated, "retriever", evaluated)
    embedder: Any = getattr(retriever, "embedder", None)
    store: Any = getattr(retriever, "store", None)
    settings = getattr(evaluated, "settings", None)
    said = {
        "retriever": type(retriever).__name__,
        "embedder": getattr(embedder, "name", None),
        "fingerprint": fingerprint_of(embedder),
        "reranker": reranker_name(retriever),
        "mode": getattr(retriever, "mode", None),
        "filter": getattr(retriever, "filter", None),
        "indexed": None,
        "generator": getattr(getattr(evaluated, "generator", None), "name", None),
        "prompt": getattr(evaluated, "prompt", None),
        "strategy": getattr(getattr(evaluated, "strategy", None), "__name__", None),
        "generation": None,
    }
    if embedder:
        del said["retriever"]  # the embedder and the mode say more than a class name
    if hasattr(store, "count"):
        said["indexed"] = store.count()
    if dataclasses.is_dataclass(settings):
        said["generation"] = _given_settings(settings)
    return {name: value for name, value in said.items() if value not in (None, {})}


def _given_settings(settings: Any) -> dict[str, Any]:
    """Of `GenerationSettings` what was set."""
    given: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            given[field.name] = value
    return given
