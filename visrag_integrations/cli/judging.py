"""`visrag eval answers --judge`: a model that says whether answers are right."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.evaluation import EvaluationResult, EvaluationSet, JudgedAnswers
    from visrag_integrations.interfaces import Generator


def add_judge_options(parser: argparse.ArgumentParser) -> None:
    """Add --judge and what belongs to it."""
    parser.add_argument("--judge", metavar="NAME|FOLDER|URL", help="a generator that says whether answers are right")
    parser.add_argument("--judge-record", metavar="FILE", help="keep its verdicts; no answer is judged twice")


def load_judge(arguments: argparse.Namespace, opened: contextlib.ExitStack) -> Generator | None:
    """The generator that judges, loaded before the work begins; None where none is asked for."""
    from visrag_integrations.cli import loading, opening

    if not arguments.judge:
        if arguments.judge_record:
            raise SettingError("--judge-record keeps the verdicts of --judge. Say who judges: --judge NAME|FOLDER|URL")
        return None
    loading.refuse_several(arguments, opening.generator_name(arguments), arguments.judge)
    judge = loading.load_another(arguments, arguments.judge)
    if judge.name == "extractive":
        raise SettingError("The extractive generator quotes; it cannot judge. Name a model or a server's URL.")
    opened.callback(close, judge)
    return judge


def judged_by(
    arguments: argparse.Namespace, dataset: EvaluationSet, result: EvaluationResult, judge: Generator
) -> JudgedAnswers:
    from visrag_integrations.evaluation import judge_answers

    return judge_answers(
        result.answers,
        dataset.questions,
        judge,
        rules=result.per_query,
        record=arguments.judge_record,
        batch_size=arguments.batch_size,
        progress=False if arguments.quiet else None,
    )
