"""`evaluate_answers`: every question of a set through a whole RAG, or through its generator alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation.answers import evaluate_answers_of, find_answer_metric
from visrag_integrations.evaluation.chosen_pages import (
    given_pages,
    pages_that_are_right,
    retrieved_pages,
    stored_pages,
)
from visrag_integrations.evaluation.evidence import evidence_entry, score_entries
from visrag_integrations.evaluation.metrics import Run
from visrag_integrations.evaluation.question_run import Done, QuestionRun, Scored, about, about_set, keyed
from visrag_integrations.evaluation.results import EvaluationResult
from visrag_integrations.evaluation.run_pages import digest_of_run, notes_of_run, pages_of_run
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.evaluation.sets import EvaluationSet, PageKey, Question, page_key
from visrag_integrations.evaluation.tables import read_rows
from visrag_integrations.evaluation.ultrarag import memory_answers, read_memory
from visrag_integrations.generation.parser import parse_evidence
from visrag_integrations.types import Answer

PagesFrom = Literal["auto", "retrieved", "given", "relevant"]
# An answerer that does not say how many pages it shows gets as many as `VisRAG` shows by default.
_DEFAULT_TOP_K = 3


class Answerer(Protocol):
    """What is evaluated: `VisRAG`, or an object of yours.

    Used where they are there: `ask_many(questions, top_k)`, and, to choose the pages, `retriever` and
    `answer_from(questions, pages)`.
    """

    def ask(self, question: str) -> Answer: ...


def evaluate_answers(
    dataset: EvaluationSet,
    rag: Answerer,
    metrics: Sequence[str] = ("em", "accuracy", "f1"),
    *,
    pages: PagesFrom = "auto",
    run: Run | None = None,
    top_k: int | None = None,
    record: str | Path | None = None,
    batch_size: int = 8,
    workers: int = 1,
    progress: bool | None = None,
    key: PageKey = page_key,
    ground: Callable[[Answer], Answer] | None = None,
) -> EvaluationResult:
    """How well questions are answered.

    Args:
        dataset: What is asked; questions whose answer is not known are left out.
        rag: What is evaluated.
        metrics: Names such as "anls"; see `ANSWER_METRICS`.
        pages: What the generator is shown: "retrieved" pages, those "given" with the question, or the "relevant" ones
            (how good it would be if search were perfect). "auto": given where there are some, else retrieved.
        run: What was found before, from `read_run`: its best pages are shown, and `pages` is left out.
        top_k: So many pages; the RAG's own number when not given, all where they are given.
        record: As in `evaluate_retrieval`; answers are kept, so other metrics need no new ones.
        batch_size: Questions asked together.
        workers: Batches asked at the same time.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.
        key: How the judgements name a page.
        ground: `visrag_integrations.grounding.ground`: the evidence is scored too, `EvaluationResult.evidence`.

    Raises:
        SettingError: The set has no answers or not the pages that are wanted, or an argument that does not fit.
    """
    for metric in metrics:
        find_answer_metric(metric)
    questions = answered_questions(dataset)
    source = _source_of_pages(questions, pages, run)
    if source in ("retrieved", "run") and top_k is None:
        top_k = getattr(rag, "top_k", None)
    settings = {"task": "answers", **about_set(dataset), **about(rag), "pages": source, "top_k": top_k}
    if run is not None:
        settings["run"] = digest_of_run(run)
    if ground is not None:
        settings["evidence"] = True  # a record without evidence cannot be gone on with

    def entry(question: Question, answer: Answer) -> dict[str, Any]:
        kept = {
            "answer": answer.text,
            "sufficient": answer.sufficient,
            "problems": list(answer.problems),
            "raw": answer.raw,
            "hits": keyed(answer.pages, key),
        }
        if ground is None:
            return kept
        return {**kept, **evidence_entry(ground(answer), key)}

    ask = _asker(dataset, rag, source, top_k, key, run)
    question_run = QuestionRun(RunRecord(record, settings), questions, ask, entry, batch_size, workers)
    done = question_run.all(progress)
    notes: tuple[str, ...] = ()
    if run is not None:
        notes = notes_of_run(questions, run)
    return question_run.result(dataset, scored_answers(dataset, done, metrics, notes, with_evidence=ground is not None))


def answered_questions(dataset: EvaluationSet) -> list[Question]:
    """Those that are asked: a question whose answer is not known cannot be scored.

    Raises:
        SettingError: There is none.
    """
    questions: list[Question] = []
    for question in dataset.questions:
        # Of one that cannot be answered the right answer is known too: a refusal.
        if question.answers or not question.answerable:
            questions.append(question)
    if not questions:
        raise SettingError(f"{dataset.name} does not say what the right answers are; evaluate its retrieval instead.")
    return questions


def scored_answers(
    dataset: EvaluationSet,
    done: Done,
    metrics: Sequence[str],
    notes: tuple[str, ...] = (),
    *,
    with_evidence: bool = False,
) -> Scored:
    """The metrics of what was answered."""
    answers: dict[str, str] = {}
    shown: dict[str, dict[str, float]] = {}
    for id_, kept in done.items():
        answers[id_] = str(kept["answer"])
        shown[id_] = dict(kept["hits"])
    evidence = None
    if with_evidence:
        evidence = score_entries(done, dataset.with_boxes())
    values = evaluate_answers_of(answers, dataset.questions, metrics)
    return Scored(values, shown, answers, notes, evidence)


def _source_of_pages(questions: Sequence[Question], pages: str, run: Run | None) -> str:
    """Where the pages that are shown come from: "run", or what `pages` says."""
    if run is not None and pages != "auto":
        raise SettingError(f"pages={pages!r} and a run both say what is shown. Leave one of them out.")
    if run is not None:
        return "run"
    if pages != "auto":
        return pages
    if all(question.pages for question in questions):
        return "given"
    return "retrieved"


def read_answers(path: str | Path, questions: Sequence[Question] | None = None) -> dict[str, str]:
    """Question id -> answer, from a record of `evaluate_answers`, a file of JSON lines, or UltraRAG's memory.

    Such a line has `id` or `qid`, and `answer` or, as EVisRAG's scripts write it, `pred` with the answer in its tags.

    Args:
        path: The file; a `memory_....json` is one of UltraRAG.
        questions: Of the set that was asked; UltraRAG's files name questions by their texts.

    Raises:
        DatasetError: Not such a file; says which line.
    """
    if Path(path).suffix == ".json":
        return memory_answers(read_memory(path), questions)
    answers: dict[str, str] = {}
    for number, row in enumerate(read_rows(Path(path), Path(path).parent), 1):
        id_ = row.get("id", row.get("qid"))
        said = row.get("answer", row.get("pred"))
        if id_ is None and number == 1:  # the first line of a record
            continue
        if id_ is None or not isinstance(said, str):
            raise DatasetError(str(path), f"line {number} is no answer: it needs id and answer, or qid and pred.")
        if "pred" in row and "<answer>" in said:
            said = parse_evidence(said).text
        answers[str(id_)] = said
    return answers


def with_options(question: Question) -> str:
    """The question as a generator is asked it: a multiple-choice question lists its options by letter.

    >>> print(with_options(Question("q", "Which?", options=("red", "blue"))))
    Which?
    Options:
    A. red
    B. blue
    Answer with the letter of the right option only.
    """
    if not question.options:
        return question.text
    # Some sets write the letters themselves: "A) red", "A". "Asia", "A lot" and "A-10" only begin with them.
    has_letters = True
    plain: list[str] = []
    lettered: list[str] = []
    for place, option in enumerate(map(str.strip, question.options)):
        letter = chr(ord("A") + place)
        has_letters = has_letters and (
            option == letter or option.startswith((f"{letter}.", f"{letter})", f"{letter}:"))
        )
        plain.append(option)
        lettered.append(f"{letter}. {option}")
    options = plain if has_letters else lettered
    return "\n".join([question.text, "Options:", *options, "Answer with the letter of the right option only."])


def _asker(
    dataset: EvaluationSet, rag: Any, pages: str, top_k: int | None, key: PageKey, run: Run | None
) -> Callable[[list[Question]], Sequence[Answer]]:
    """How a batch of questions is answered, with the pages that are wanted."""
    chooses = hasattr(rag, "answer_from")
    # An agent, say, finds its pages itself.
    if pages == "retrieved" and not (chooses and hasattr(rag, "retriever")):
        if any(question.candidates is not None for question in dataset.questions):
            raise SettingError(
                f"{dataset.name} asks its questions of some of its pages only, and {type(rag).__name__} searches by "
                "itself. Give an object with answer_from(questions, pages) and a retriever, such as VisRAG."
            )
        return _asker_without_pages(rag, top_k)
    if pages not in ("retrieved", "given", "relevant") and run is None:
        raise SettingError(f"pages is {pages!r}; allowed: auto, retrieved, given, relevant.")
    if not chooses:
        raise SettingError(f"pages={pages!r} needs an object with answer_from(questions, pages), such as VisRAG.")
    if pages == "retrieved":
        choose = retrieved_pages(dataset, rag.retriever, top_k or _DEFAULT_TOP_K)
    elif run is not None:
        choose = pages_of_run(dataset, lambda: list(stored_pages(rag)), run, top_k or _DEFAULT_TOP_K, key)
    elif pages == "given":
        choose = given_pages(dataset, top_k)
    else:
        choose = pages_that_are_right(dataset, rag, top_k, key)

    def ask(batch: list[Question]) -> list[Answer]:
        shown = choose(batch)
        return list(rag.answer_from(list(map(with_options, batch)), shown))

    return ask


def _asker_without_pages(rag: Any, top_k: int | None) -> Callable[[list[Question]], Sequence[Answer]]:
    """Asks the object as it is: `ask_many` where it has one, else question by question."""
    extra = () if top_k is None else (top_k,)

    def ask(batch: list[Question]) -> list[Answer]:
        texts = list(map(with_options, batch))
        if hasattr(rag, "ask_many"):
            return list(rag.ask_many(texts, *extra))
        answers: list[Answer] = []
        for text in texts:
            answers.append(rag.ask(text, *extra))
        return answers

    return ask
