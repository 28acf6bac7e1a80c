"""`evaluate_retrieval`: every question of a set through a retriever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.candidates import CandidateSearch
from visrag_integrations.evaluation.checks import missing_pages, told
from visrag_integrations.evaluation.metrics import Qrels, Run, evaluate_run, parse_metric, relevant_pages
from visrag_integrations.evaluation.question_run import Done, QuestionRun, Scored, about, about_set, keyed
from visrag_integrations.evaluation.results import EvaluationResult
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.evaluation.sets import EvaluationSet, PageKey, Question, page_key
from visrag_integrations.interfaces.retrievers import Retriever
from visrag_integrations.types import ScoredPage


def evaluate_retrieval(
    dataset: EvaluationSet,
    retriever: Retriever,
    metrics: Sequence[str] = ("mrr@10", "recall@5"),
    *,
    top_k: int | None = None,
    mode: str | None = None,
    record: str | Path | None = None,
    batch_size: int = 32,
    workers: int = 1,
    progress: bool | None = None,
    key: PageKey = page_key,
) -> EvaluationResult:
    """How well a retriever finds the pages that hold the answers.

    Args:
        dataset: What is asked; questions without judgements are left out.
        retriever: What is evaluated: a `PageRetriever`, or an object of yours with `retrieve(query, top_k)`. Its order
            counts, also of pages with the same score.
        metrics: Names such as "ndcg@5"; see `RETRIEVAL_METRICS`.
        top_k: So many pages are asked for; by default as many as the deepest metric looks at.
        mode: Given to the retriever, where it is given.
        record: A file that keeps what was found, question by question. With the same file a run that was stopped goes
            on, and one that was finished is only scored again. A file of other settings is refused.
        batch_size: Questions asked together.
        workers: Batches asked at the same time.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        key: How the judgements name a page.

    Raises:
        SettingError: The set has no judgements, or an argument that does not fit.
    """
    top_k = pages_needed(metrics, top_k)
    questions = judged_questions(dataset)
    options: dict[str, Any] = {}
    if mode is not None:
        options["mode"] = mode
    settings = {"task": "retrieval", **about_set(dataset), **about(retriever), **options, "top_k": top_k}
    search = CandidateSearch(dataset, retriever, top_k, options)

    def entry(question: Question, hits: Sequence[ScoredPage]) -> dict[str, Any]:
        return {"hits": keyed(hits, key)}

    question_run = QuestionRun(RunRecord(record, settings), questions, search.search, entry, batch_size, workers)
    done = question_run.all(progress)
    return question_run.result(dataset, scored_retrieval(dataset, done, metrics))


def judged_questions(dataset: EvaluationSet) -> list[Question]:
    """Those that are asked: a question without judgements cannot be scored.

    Raises:
        SettingError: There is none.
    """
    questions = [question for question in dataset.questions if question.id in dataset.qrels]
    if not questions:
        raise SettingError(f"{dataset.name} does not say which pages are relevant; evaluate its answers instead.")
    return questions


def scored_retrieval(dataset: EvaluationSet, done: Done, metrics: Sequence[str]) -> Scored:
    """The metrics of what was found."""
    run: dict[str, dict[str, float]] = {}
    asked: dict[str, Mapping[str, int]] = {}
    for id_, entry in done.items():
        run[id_] = dict(entry["hits"])
        # Only what was asked is judged: a question that failed is reported, and counts neither 0 nor anything else.
        asked[id_] = dataset.qrels[id_]
    return Scored(evaluate_run(run, asked, metrics), run, notes=_notes(run, asked, dataset))


def pages_needed(metrics: Sequence[str], top_k: int | None = None) -> int:
    """How many pages to ask for: `top_k`, or as many as the deepest metric looks at.

    >>> pages_needed(["mrr@10", "recall@5"])
    10

    Raises:
        SettingError: `top_k` is less than that, or there is no metric.
    """
    deepest = 0
    for metric in metrics:
        _, depth = parse_metric(metric)
        deepest = max(deepest, depth)
    if not deepest or (top_k is not None and top_k < deepest):
        raise SettingError(
            f"The metrics {list(metrics)} look at {deepest} pages, and top_k is {top_k}. Ask for as many."
        )
    if top_k is None:
        return deepest
    return top_k


def _notes(run: Run, qrels: Qrels, dataset: EvaluationSet) -> tuple[str, ...]:
    """What is strange: as a rule the wrong documents, or pages that are missing or go by another name."""
    if dataset.pages:
        missing = missing_pages(qrels, {page_key(page) for page in dataset.pages})
        if missing:
            return (f"{told(missing)}.", *_notes_of_names(run, qrels))
    return _notes_of_names(run, qrels)


def _notes_of_names(run: Run, qrels: Qrels) -> tuple[str, ...]:
    wanted: set[str] = set()
    for judged in qrels.values():
        wanted.update(relevant_pages(judged))
    found: set[str] = set().union(*run.values())
    # One relevant page that was found is enough: then the names agree, and the rest is for the metrics to say.
    if not wanted or wanted & found:
        return ()
    if not found:
        return ("No page was found for any question: is the index empty?",)
    names = f"the set names pages like {min(wanted)!r}, and found were pages like {min(found)!r}"
    return (f"No relevant page was found at all: {names}.",)
