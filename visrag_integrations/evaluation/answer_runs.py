"""`evaluate_answers`: every question of a set through a whole RAG, or through its generator alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation.answers import evaluate_answers_of, find_answer_metric
from visrag_integrations.evaluation.asking import Asking, Key, about, keyed, search
from visrag_integrations.evaluation.record import Record
from visrag_integrations.evaluation.results import EvaluationResult
from visrag_integrations.evaluation.sets import EvaluationSet, Question, page_key
from visrag_integrations.evaluation.tables import read_rows
from visrag_integrations.generation.parser import parse_evidence, scored
from visrag_integrations.types import Answer, Page, ScoredPage

PagesFrom = Literal["auto", "retrieved", "given", "relevant"]


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
    top_k: int | None = None,
    record: str | Path | None = None,
    batch_size: int = 8,
    workers: int = 1,
    progress: bool | None = None,
    key: Key = page_key,
) -> EvaluationResult:
    """How well questions are answered.

    Args:
        dataset: What is asked; questions whose answer is not known are left out.
        rag: What is evaluated.
        metrics: Names such as "anls"; see `ANSWER_METRICS`.
        pages: What the generator is shown: "retrieved" pages, those "given" with the question, or the "relevant" ones
            (how good it would be if search were perfect). "auto": given where there are some, else retrieved.
        top_k: So many pages; the RAG's own number when not given, all where they are given.
        record: As in `evaluate_retrieval`; answers are kept, so other metrics need no new ones.
        batch_size: Questions asked together.
        workers: Batches asked at the same time.
        progress: A progress bar; by default only where standard error is a terminal.
        key: How the judgements name a page.

    Raises:
        SettingError: The set has no answers or not the pages that are wanted, or an argument that does not fit.
    """
    for metric in metrics:
        find_answer_metric(metric)
    questions = [question for question in dataset.questions if question.answers or not question.answerable]
    if not questions:
        raise SettingError(f"{dataset.name} does not say what the right answers are; evaluate its retrieval instead.")
    if pages == "auto":
        pages = "given" if all(question.pages for question in questions) else "retrieved"
    top_k = getattr(rag, "top_k", None) if pages == "retrieved" and top_k is None else top_k
    settings = {"task": "answers", "set": dataset.name, **about(rag), "pages": pages, "top_k": top_k}

    def entry(question: Question, answer: Answer) -> dict[str, Any]:
        said = {"answer": answer.text, "sufficient": answer.sufficient, "problems": list(answer.problems)}
        return {**said, "raw": answer.raw, "hits": keyed(answer.pages, key)}

    ask = _asker(dataset, rag, pages, top_k, key)
    asking = Asking(Record(record, settings), questions, ask, entry, batch_size, workers)
    done = asking.all(progress)
    answers = {id_: str(entry["answer"]) for id_, entry in done.items()}
    run = {id_: dict(entry["hits"]) for id_, entry in done.items()}
    return asking.result(dataset.name, evaluate_answers_of(answers, questions, metrics), run=run, answers=answers)


def read_answers(path: str | Path) -> dict[str, str]:
    """Question id -> answer, from a record of `evaluate_answers` or a file of one JSON object a line.

    Such a line has `id` or `qid`, and `answer` or, as EVisRAG's scripts write it, `pred` with the answer in its tags.

    Raises:
        DatasetError: Not such a file; says which line.
    """
    answers: dict[str, str] = {}
    for number, row in enumerate(read_rows(Path(path), Path(path).parent), 1):
        id_, said = row.get("id", row.get("qid")), row.get("answer", row.get("pred"))
        if id_ is None and number == 1:  # the first line of a record
            continue
        if id_ is None or not isinstance(said, str):
            raise DatasetError(str(path), f"line {number} is no answer: it needs id and answer, or qid and pred.")
        tagged = "pred" in row and "<answer>" in said
        answers[str(id_)] = parse_evidence(said).text if tagged else said
    return answers


def with_options(question: Question) -> str:
    """The question as a generator is asked it: a multiple-choice question lists its options by letter."""
    if not question.options:
        return question.text
    letters = [chr(ord("A") + i) for i in range(len(question.options))]
    lettered = all(option.strip().startswith(letter) for letter, option in zip(letters, question.options, strict=True))
    lines = [
        o.strip() if lettered else f"{letter}. {o.strip()}" for letter, o in zip(letters, question.options, strict=True)
    ]
    return "\n".join([question.text, "Options:", *lines, "Answer with the letter of the right option only."])


def _asker(
    dataset: EvaluationSet, rag: Any, pages: str, top_k: int | None, key: Key
) -> Callable[[list[Question]], Sequence[Answer]]:
    """How a batch of questions is answered, with the pages that are wanted."""
    chooses = hasattr(rag, "answer_from")
    if pages == "retrieved" and not (chooses and hasattr(rag, "retriever")):
        extra = () if top_k is None else (top_k,)
        if hasattr(rag, "ask_many"):
            return lambda batch: list(rag.ask_many([with_options(question) for question in batch], *extra))
        return lambda batch: [rag.ask(with_options(question), *extra) for question in batch]
    if pages not in ("retrieved", "given", "relevant"):
        raise SettingError(f"pages is {pages!r}; allowed: auto, retrieved, given, relevant.")
    if not chooses:
        raise SettingError(f"pages={pages!r} needs an object with answer_from(questions, pages), such as VisRAG.")
    choose = {"retrieved": _retrieved, "given": _given, "relevant": _relevant}[pages](dataset, rag, key)

    def ask(batch: list[Question]) -> list[Answer]:
        shown = choose(batch, top_k)
        return list(rag.answer_from([with_options(question) for question in batch], shown))

    return ask


Chosen = Callable[[Sequence[Question], Any], Sequence[Sequence[ScoredPage]]]


def _retrieved(dataset: EvaluationSet, rag: Any, key: Key) -> Chosen:
    return lambda batch, number: search(rag.retriever, [question.text for question in batch], number or 3)


def _given(dataset: EvaluationSet, rag: Any, key: Key) -> Chosen:
    if not any(question.pages for question in dataset.questions):
        raise SettingError(f"{dataset.name} gives no pages with its questions. Say pages='retrieved'.")
    return lambda batch, number: [scored(question.pages[:number]) for question in batch]


def _relevant(dataset: EvaluationSet, rag: Any, key: Key) -> Chosen:
    wanted = {name for judged in dataset.qrels.values() for name, grade in judged.items() if grade > 0}
    store: Any = getattr(getattr(rag, "retriever", None), "store", None)
    pages = dataset.pages or (store.scroll() if hasattr(store, "scroll") else ())
    known = {name: page for page in pages if (name := key(page)) in wanted}
    if not known:
        raise SettingError(f"None of the pages that {dataset.name} calls relevant is in the set or in the index.")

    def choose(batch: Sequence[Question], number: int | None) -> list[Sequence[ScoredPage]]:
        return [scored(_best(dataset.qrels.get(question.id, {}), known)[:number]) for question in batch]

    return choose


def _best(judged: Mapping[str, int], known: Mapping[str, Page]) -> list[Page]:
    """The relevant pages, the highest grade first."""
    relevant = sorted((key for key, grade in judged.items() if grade > 0), key=lambda key: -judged[key])
    return [known[key] for key in relevant if key in known]
