"""Runs and judgements as TREC files, as trec_eval and the published projects read and write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import TypeVar

from visrag_integrations.errors import DatasetError, SettingError
from visrag_integrations.evaluation.checks import warn_of_contradictions
from visrag_integrations.evaluation.metrics import Qrels, Run, ranked
from visrag_integrations.evaluation.sets import EvaluationSet
from visrag_integrations.evaluation.ultrarag import memory_run, read_memory
from visrag_integrations.files import write_whole

Number = TypeVar("Number", int, float)

_GAP = re.compile(r"[ \t]+")
# Cells stand between tabs, and a line ends a judgement.
_UNWRITABLE = re.compile(r"[\t\r\n]")
# What the first column of BEIR's .tsv files is called, whose first line names columns.
_HEADERS = {"query-id", "query_id", "qid"}


def write_run(run: Run, path: str | Path, *, name: str = "visrag") -> None:
    """Write a run, best page first: `query Q0 page rank score name`, between tabs, so that ids may hold spaces.

    Raises:
        SettingError: An id with a tab or a line break in it, or the file cannot be written.
    """
    lines: list[str] = []
    for query, scores in run.items():
        for rank, page in enumerate(ranked(scores, query), 1):
            cells = [_writable(query), "Q0", _writable(page), str(rank), repr(float(scores[page])), _writable(name)]
            lines.append("\t".join(cells))
    _write(path, lines)


def read_run(
    path: str | Path, dataset: EvaluationSet | None = None, *, pages: Container[str] | None = None
) -> dict[str, dict[str, float]]:
    """A run, of six columns (TREC) or three (query, page, score), between tabs or spaces; or a memory file of UltraRAG.

    Args:
        path: The file; a `memory_....json` is one of UltraRAG.
        dataset: The set that was asked; UltraRAG's files name questions by their texts and pages by their paths.
        pages: The keys of the pages that there are. Given, a line that names another page, or a question that the set
            lacks, is refused.

    Raises:
        DatasetError: Not such a file; says which line.
    """
    if Path(path).suffix == ".json":
        return memory_run(read_memory(path), dataset)
    asked: set[str] = set()
    if dataset is not None:
        asked.update(question.id for question in dataset.questions)
    run: dict[str, dict[str, float]] = {}
    for number, cells in _rows(path):
        if len(cells) not in (3, 6):
            raise _bad(path, number, f"has {len(cells)} columns; a run has 6 (query Q0 page rank score name)")
        if len(cells) == 6:  # query Q0 page rank score name
            cells = [cells[0], cells[2], cells[4]]
        query, page, score = cells
        value = _number(float, score)
        if value is None or math.isnan(value):
            raise _bad(path, number, f"the score {score!r} is no number")
        if pages is not None and dataset is not None and query not in asked:
            raise _bad(path, number, f"is of the question {query!r}, which {dataset.name} does not ask")
        if pages is not None and page not in pages:
            raise _bad(path, number, f"names the page {page!r}, which is neither in the set nor in the index")
        if page in run.setdefault(query, {}):
            raise _bad(path, number, f"page {page!r} was given for query {query!r} before")
        run[query][page] = value
    return run


def write_qrels(qrels: Qrels, path: str | Path) -> None:
    """Write judgements: `query 0 page grade`, between tabs. Raises as `write_run` does."""
    lines: list[str] = []
    for query, judged in qrels.items():
        for page, grade in judged.items():
            lines.append("\t".join([_writable(query), "0", _writable(page), str(int(grade))]))
    _write(path, lines)


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Judgements, of four columns (TREC) or three (query, page, grade, with or without BEIR's header line).

    Raises:
        DatasetError: Not such a file; says which line.
    """
    qrels: dict[str, dict[str, int]] = {}
    contradictions: list[str] = []
    for number, cells in _rows(path):
        if number == 1 and cells[0].lower() in _HEADERS:
            continue
        if len(cells) not in (3, 4):
            raise _bad(path, number, f"has {len(cells)} columns; judgements have 4 (query 0 page grade) or 3")
        grade = _number(int, cells[-1])
        if grade is None:
            raise _bad(path, number, f"the grade {cells[-1]!r} is no whole number")
        query, page = cells[0], cells[-2]
        if qrels.setdefault(query, {}).get(page, grade) != grade:
            contradictions.append(f"{page!r} for {query!r}")
        qrels[query][page] = grade
    warn_of_contradictions(str(path), contradictions)
    return qrels


def _rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells: cut at tabs where a line has any, else at spaces."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise DatasetError(str(path), "cannot be read: it is no UTF-8 text.") from err
    except OSError as err:
        raise DatasetError(str(path), f"cannot be read: {err.strerror or err}.") from err
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        # Tabs first, because an id between tabs may hold spaces.
        if "\t" in line:
            yield number, line.split("\t")
        else:
            yield number, _GAP.split(line.strip(" "))


def _number(kind: Callable[[str], Number], text: str) -> Number | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _writable(id_: str) -> str:
    if not id_ or _UNWRITABLE.search(id_):
        raise SettingError(f"The id {id_!r} cannot be written to a TREC file: it is empty, or has a tab or line break.")
    return id_


def _bad(path: str | Path, number: int, reason: str) -> DatasetError:
    return DatasetError(str(path), f"line {number} {reason}.")


def _write(path: str | Path, lines: list[str]) -> None:
    try:
        write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8"))
    except OSError as err:
        raise SettingError(f"{str(path)!r} cannot be written: {err.strerror or err}. Name another file.") from err
