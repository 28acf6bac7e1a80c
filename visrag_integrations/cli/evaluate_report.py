"""What `visrag eval` prints and writes of a result."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import options, output
from visrag_integrations.errors import SettingError, printable, printable_lines
from visrag_integrations.files import write_whole

if TYPE_CHECKING:
    from visrag_integrations.evaluation import Comparison, EvaluationResult, EvaluationSet
    from visrag_integrations.store import QdrantPageStore


def report_result(
    arguments: argparse.Namespace,
    dataset: EvaluationSet,
    result: EvaluationResult,
    other: EvaluationResult | None,
    failed: int,
) -> int:
    """Print the result, write what was asked for, and give the exit code."""
    from visrag_integrations.evaluation.results import comparison_table

    compared: list[Comparison] = []
    if other is not None:
        compared = result.compare(other)
    if arguments.per_query:
        _write_per_query(arguments.per_query, dataset, result)
    for failure in result.failed:
        options.note(f"failed: {printable(failure.id)}: {printable(failure.error)}")
    if arguments.json:
        output.print_json({**result.as_dict(), "comparison": [one.as_dict() for one in compared]})
    elif result.per_query:
        print(printable_lines(str(result)))
        if compared:
            table = comparison_table(compared, "this run", Path(arguments.compare).name)
            print(f"\n{printable_lines(str(table))}")
    if not result.per_query:
        options.note("no question could be asked.")
        return 2
    return 1 if result.failed or failed else 0


def write_html(
    arguments: argparse.Namespace,
    dataset: EvaluationSet,
    result: EvaluationResult,
    other: EvaluationResult | None,
    store: QdrantPageStore | None,
) -> None:
    """The report, where it is asked for; while the store is open, for it holds the pages that are shown."""
    from visrag_integrations.report import EvaluationReport

    if not arguments.html:
        return
    pages = None
    if store is not None and not dataset.pages:
        pages = store.scroll
    names = ("this run", "the other")
    if other is not None:
        names = ("this run", Path(arguments.compare).name)
    try:
        EvaluationReport(result, dataset, pages, other, names).save(arguments.html)
    except OSError as error:
        raise SettingError(
            f"The report cannot be written to {arguments.html!r} ({error.strerror or error}). Give --html another file."
        ) from error


def _write_per_query(path: str, dataset: EvaluationSet, result: EvaluationResult) -> None:
    lines: list[str] = []
    for question in dataset.questions:
        if question.id not in result.per_query:  # it failed
            continue
        row: dict[str, Any] = {"id": question.id, "query": question.text}
        if question.id in result.answers:
            row["answer"] = result.answers[question.id]
        row["metrics"] = result.per_query[question.id]
        row["pages"] = result.run.get(question.id, {})
        row["relevant"] = dataset.qrels.get(question.id, {})
        lines.append(f"{json.dumps(row, ensure_ascii=False)}\n")
    try:
        write_whole(path, "".join(lines).encode("utf-8", "replace"))
    except OSError as error:
        raise SettingError(f"{path!r} cannot be written ({error.strerror or error}). Name another file.") from error
