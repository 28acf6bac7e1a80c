"""UltraRAG's result files as answers and runs.

A run leaves `memory_NAME_PIPELINE_TIME.json`, what every variable was after every step:

[{"step": "benchmark.get_data", "memory": {"memory_q_ls": ["how many?"], "memory_gt_ls": [["7"]]}},
 {"step": "retriever.retriever_search", "memory": {..., "memory_ret_psg": [["/data/image/report/page_0.jpg"]]}}, ...]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation.sets import EvaluationSet, Question, page_key
from visrag_integrations.evaluation.tables import read_json
from visrag_integrations.generation.parser import parse_evidence

Value = TypeVar("Value")


@dataclass(frozen=True)
class Memory:
    """The variables at the end of a run of UltraRAG.

    Attributes:
        path: The file.
        questions: Their texts, in the run's order.
        right_answers: Of each question; empty where the benchmark has none.
        answers: What was answered: `pred_ls`, or `ans_ls` where nothing took answers from it.
        found: `ret_psg`, the paths of the pages that were found, best first; `ret_scores` and `ret_pages`, what is said
            of each; as they are written. A step may change one of them alone, and answers need none, so `memory_run`
            checks them.
    """

    path: Path
    questions: tuple[str, ...]
    right_answers: tuple[tuple[str, ...], ...] = ()
    answers: tuple[str, ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)


def is_memory(rows: Any) -> bool:
    """Whether the content of a JSON file is that of a memory file."""
    return isinstance(rows, list) and bool(rows) and all(map(_is_step, rows))


def _is_step(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("memory"), dict)


def read_memory(path: str | Path) -> Memory:
    """A memory file.

    Raises:
        DatasetError: Not such a file, or answers in it that are not one for each question.
    """
    path = Path(path)
    steps = read_json(path)
    if not is_memory(steps):
        raise DatasetError(str(path), "is no memory file of UltraRAG: a list of steps, each with its memory.")
    last: dict[str, Any] = {}
    for step in steps:
        for name, value in step["memory"].items():
            if value:  # a variable that a later step does not have is written as null or []
                last[name.removeprefix("memory_")] = value
    questions = last.get("q_ls")
    if not isinstance(questions, list) or not all(isinstance(question, str) for question in questions):
        raise DatasetError(str(path), "holds no questions (memory_q_ls).")
    right = _list_of(path, last, "gt_ls", len(questions))
    written = _list_of(path, last, "pred_ls", len(questions)) or _list_of(path, last, "ans_ls", len(questions))
    return Memory(
        path,
        tuple(questions),
        tuple(map(_texts, right)),
        tuple(map(_answer, written)),
        {name: last[name] for name in ("ret_psg", "ret_scores", "ret_pages") if name in last},
    )


def _list_of(path: Path, variables: Mapping[str, Any], name: str, questions: int) -> list[Any]:
    """A variable that has an entry for each question; empty where the run has no such variable."""
    found = variables.get(name) or []
    if not isinstance(found, list):
        raise DatasetError(str(path), f"its {name} is {type(found).__name__}; it is a list, an entry a question.")
    if found and len(found) != questions:
        raise DatasetError(str(path), f"has {questions} questions and {len(found)} entries of {name}.")
    return found


def _of_each_page(
    memory: Memory, name: str, pictures: Sequence[Sequence[str]], convert: Callable[[Any], Value]
) -> tuple[tuple[Value, ...], ...]:
    """What is said of each page that was found, a list a question; nothing where the run says nothing."""
    lists = _list_of(memory.path, memory.found, name, len(memory.questions))
    if not lists:
        return ()
    where = f"{memory.path}, {name}"
    found: list[tuple[Value, ...]] = []
    for number, (values, paths) in enumerate(zip(lists, pictures, strict=True), 1):
        try:
            converted = tuple(map(convert, values or ()))
        except (TypeError, ValueError, LookupError) as err:
            raise DatasetError(where, f"entry {number} is {values!r:.80}; it is a list, an entry a page.") from err
        if len(converted) != len(paths):
            raise DatasetError(where, f"entry {number} is of {len(converted)} pages, and ret_psg has {len(paths)}.")
        found.append(converted)
    return tuple(found)


def _page_key(page: Any) -> str:
    return str(page["key"])


def memory_questions(memory: Memory) -> tuple[Question, ...]:
    """Its questions, with ids q1, q2, ... as any file gets them whose questions have none."""
    answers = memory.right_answers or ((),) * len(memory.questions)
    questions: list[Question] = []
    for number, (text, right) in enumerate(zip(memory.questions, answers, strict=True), 1):
        questions.append(Question(f"q{number}", text.strip(), answers=right))
    return tuple(questions)


def memory_answers(memory: Memory, questions: Sequence[Question] | None = None) -> dict[str, str]:
    """Question id -> answer.

    Args:
        memory: Of a run.
        questions: Of the set that was asked: a memory file holds no ids, so questions are known by their texts. Without
            them the ids are those of `memory_questions`.

    Raises:
        DatasetError: There are no answers, or none of these questions was asked.
    """
    if not memory.answers:
        raise DatasetError(str(memory.path), "holds no answers (memory_pred_ls or memory_ans_ls).")
    return {id_: memory.answers[place] for id_, place in _places(memory, questions).items()}


def memory_run(memory: Memory, dataset: EvaluationSet | None = None) -> dict[str, dict[str, float]]:
    """Question id -> page key -> score; without scores 1 / rank, which keeps the order.

    Args:
        memory: Of a run.
        dataset: The set that was asked. A page gets the key by which the set knows it: the longest end of its path that
            is one. Else it is named as UltraRAG's corpora name pages: "report/page_0.jpg".

    Raises:
        DatasetError: No pages were found, scores or keys are not of each, or none of the set's questions was asked.
    """
    pictures = tuple(map(_texts, _list_of(memory.path, memory.found, "ret_psg", len(memory.questions))))
    if not pictures:
        raise DatasetError(str(memory.path), "holds no pages (memory_ret_psg).")
    scores = _of_each_page(memory, "ret_scores", pictures, float)
    names = _of_each_page(memory, "ret_pages", pictures, _page_key)
    keys: set[str] = set()
    questions: Sequence[Question] | None = None
    if dataset is not None:
        questions = dataset.questions
        keys.update(page_key(page) for page in dataset.pages)
        for judged in dataset.qrels.values():
            keys.update(judged)
    run: dict[str, dict[str, float]] = {}
    for id_, place in _places(memory, questions).items():
        found: dict[str, float] = {}
        for rank, path in enumerate(pictures[place]):
            key = _key_of(path, keys)
            if names:
                key = names[place][rank]
            score = 1 / (rank + 1)
            if scores:
                score = scores[place][rank]
            found.setdefault(key, score)  # a page that was found twice counts where it was found first
        run[id_] = found
    return run


def _places(memory: Memory, questions: Sequence[Question] | None) -> dict[str, int]:
    """Question id -> its place in the run. Of questions with one text the first id is the first that was asked."""
    if questions is None:
        return {question.id: place for place, question in enumerate(memory_questions(memory))}
    free: dict[str, list[int]] = {}
    for place, text in enumerate(memory.questions):
        free.setdefault(text.strip(), []).append(place)
    places: dict[str, int] = {}
    for question in questions:
        if free.get(question.text):
            places[question.id] = free[question.text].pop(0)
    if not places:
        raise DatasetError(
            str(memory.path), f"is a run of other questions: it asked {memory.questions[0]!r}, which is not in the set."
        )
    return places


def _key_of(path: str, keys: set[str]) -> str:
    """How judgements name the page whose picture has this path.

    >>> _key_of("/data/image/report/page_0.jpg", {"page_0.jpg", "report/page_0.jpg"})
    'report/page_0.jpg'
    >>> _key_of("/data/image/report/page_0.jpg", set()), _key_of("/data/7.jpg", set())
    ('report/page_0.jpg', '7.jpg')
    """
    parts = path.replace("\\", "/").split("/")
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if end in keys:
            return end
    if "image" in parts[:-1]:
        start = len(parts) - parts[::-1].index("image")  # below the last folder of that name
        return "/".join(parts[start:])
    return parts[-1]


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several; a question without any has null."""
    if value is None:
        return ()
    if isinstance(value, (list, tuple)):
        return tuple(map(str, value))
    return (str(value),)


def _answer(text: Any) -> str:
    """The answer in what a model wrote; a text without EVisRAG's tags is the answer. Null: nothing was answered."""
    if text is None:
        return ""
    if isinstance(text, str) and "<answer>" in text:
        return parse_evidence(text).text
    return str(text)
