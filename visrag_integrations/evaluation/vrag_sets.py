"""VRAG's own layouts of questions: `rag_dataset.json`, and the parquet files its reinforcement learning reads.

rag_dataset.json    {"examples": [{"uid", "query", "reference_answer",
                     "meta_info": {"file_name": "deck.pdf", "reference_page": [3], ...}}]}
parquet             data_source, prompt, ability, reward_model {style, ground_truth},
                     extra_info {question, answer, file_name, reference_page}, id, file_name, reference_page
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DatasetError, MissingExtraError, SettingError
from visrag_integrations.evaluation.metrics import relevant_pages
from visrag_integrations.evaluation.sets import EvaluationSet, Question, key_of
from visrag_integrations.evaluation.tables import parquet_columns, read_json, read_rows
from visrag_integrations.files import whole_file
from visrag_integrations.generation.vrag import TEMPLATE, build_prompt

DATA_SOURCE = "rag"
"""What the published reward code knows; rows of its own training data say `slidevqa_train`, and stop it."""
ABILITY = "rag"
# How `page_key` names a page of a document: "deck.pdf#page=3".
_KEY = re.compile(r"(?P<file>.+)#page=(?P<number>\d+)")


def is_rag_dataset(read: Any) -> bool:
    """Whether what a JSON file holds is laid out as a `rag_dataset.json`.

    >>> is_rag_dataset({"examples": []}), is_rag_dataset([{"question": "Why?"}])
    (True, False)
    """
    return isinstance(read, dict) and "examples" in read


def load_rag_dataset(path: str | Path) -> EvaluationSet:
    """The questions of a `rag_dataset.json`.

    Raises:
        DatasetError: It cannot be read, or holds no question.
    """
    path = Path(path)
    kept = read_json(path)
    examples = None
    if is_rag_dataset(kept):
        examples = kept["examples"]
    if not isinstance(examples, list) or not examples:
        raise DatasetError(str(path), 'holds no {"examples": [...]} as a rag_dataset.json does.')
    rows: list[dict[str, Any]] = []
    for number, example in enumerate(examples, 1):
        if not isinstance(example, Mapping):
            raise DatasetError(f"{path.name}, example {number}", "it is no JSON object.")
        about = example.get("meta_info")
        if not isinstance(about, Mapping):
            about = {}
        rows.append(
            {
                "id": example.get("uid", number),
                "question": example.get("query"),
                "answers": example.get("reference_answer"),
                "file_name": about.get("file_name"),
                "reference_page": about.get("reference_page"),
                "group": about.get("query_type") or about.get("source_type"),
            }
        )
    return _as_set(path, rows)


def is_vrag_parquet(path: Path) -> bool:
    """Whether a parquet file has the columns of VRAG-RL's training data."""
    return {"reward_model", "extra_info", "reference_page"} <= parquet_columns(path)


def load_vrag_parquet(path: str | Path) -> EvaluationSet:
    """The questions of VRAG-RL's own training data.

    Raises:
        DatasetError: It cannot be read, or holds no question.
    """
    path = Path(path)
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(read_rows(path, path.parent), 1):
        about = row.get("extra_info") or {}
        truth = (row.get("reward_model") or {}).get("ground_truth")
        rows.append(
            {
                "id": row.get("id", number),
                "question": about.get("question"),
                "answers": about.get("answers") or truth or about.get("answer"),
                "file_name": row.get("file_name") or about.get("file_name"),
                "reference_page": row.get("reference_page", about.get("reference_page")),
                "group": None,
            }
        )
    return _as_set(path, rows)


def write_vrag_parquet(questions: EvaluationSet, path: str | Path, *, template: str = TEMPLATE) -> None:
    """Write questions as VRAG-RL's training reads them.

    Args:
        questions: With answers, and judgements of pages that are all of one document a question.
        path: A .parquet file.
        template: The prompt, with `{question}`.

    Raises:
        DatasetError: A question has no answer, or its pages are not of one document.
        SettingError: The file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for question in questions.questions:
        rows.append(_as_vrag_row(questions, question, template))
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as err:
        raise MissingExtraError("pyarrow, which parquet files need,", "eval") from err
    try:
        with whole_file(path) as scratch:
            pq.write_table(pa.Table.from_pylist(rows), scratch)
    except OSError as err:
        raise SettingError(f"{str(path)!r} cannot be written: {err}. Name another file.") from err


def _as_vrag_row(questions: EvaluationSet, question: Question, template: str) -> dict[str, Any]:
    where = f"{questions.name}, question {question.id!r}"
    if not question.answers:
        raise DatasetError(where, "it has no answer, so there is nothing to reward.")
    files: dict[str, list[int]] = {}
    for key in relevant_pages(questions.qrels.get(question.id, {})):
        found = _KEY.fullmatch(key)
        if found is None:
            raise DatasetError(where, f"its page {key!r} does not say of which document it is (FILE#page=NUMBER).")
        files.setdefault(found["file"], []).append(int(found["number"]))
    if len(files) != 1:
        raise DatasetError(where, f"its pages are of {len(files)} documents; this layout has one file_name a question.")
    ((name, numbers),) = files.items()
    about = {
        "question": question.text,
        "answer": question.answers[0],
        "answers": list(question.answers),  # ours: the published columns have room for one
        "file_name": name,
        "reference_page": sorted(numbers),
    }
    return {
        "data_source": DATA_SOURCE,
        "prompt": [{"role": "user", "content": build_prompt(question.text, template)}],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": question.answers[0]},
        "extra_info": about,
        "id": question.id,
        "file_name": name,
        "reference_page": sorted(numbers),
    }


def _as_set(path: Path, rows: Sequence[Mapping[str, Any]]) -> EvaluationSet:
    questions: list[Question] = []
    qrels: dict[str, dict[str, int]] = {}
    names: set[str] = set()
    for number, row in enumerate(rows, 1):
        where = f"{path.name}, question {number}"
        text = row["question"]
        if not isinstance(text, str) or not text.strip():
            raise DatasetError(where, f"its question is {text!r:.80}; it must be text.")
        name = str(row["id"])
        if name in names:
            raise DatasetError(where, f"its id {name!r} was there before; ids tell questions apart.")
        names.add(name)
        answers = tuple(_texts(row["answers"], where))
        questions.append(Question(name, text.strip(), answers, group=str(row["group"] or "")))
        relevant = dict.fromkeys(_pages(row["file_name"], row["reference_page"], where), 1)
        # Without a page it is not judged: an empty judgement would count as a page that was not found.
        if relevant:
            qrels[name] = relevant
    if not questions:
        raise DatasetError(str(path), "holds no question.")
    return EvaluationSet(path.stem, tuple(questions), qrels)


def _texts(value: Any, where: str) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, list):
        value = [value]
    for each in value:
        if not isinstance(each, (str, int, float)):
            raise DatasetError(where, f"an answer of it is {each!r:.80}; it must be text.")
        yield str(each)


def _pages(name: Any, numbers: Any, where: str) -> Iterator[str]:
    if numbers is None or numbers == []:
        return
    if not isinstance(name, str) or not name:
        raise DatasetError(where, f"its file_name is {name!r:.80}; it must name the document of its pages.")
    if not isinstance(numbers, list):
        numbers = [numbers]
    for number in numbers:
        if isinstance(number, bool) or not str(number).isdecimal():
            raise DatasetError(where, f"its reference_page holds {number!r:.80}; page numbers are whole.")
        yield key_of(name, int(number))
