"""`judge_answers`: whether answers are right, asked of a model, and how far the string rules agree with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.answer_runs import with_options
from visrag_integrations.evaluation.answers import right_answers
from visrag_integrations.evaluation.batch_runner import BatchRunner
from visrag_integrations.evaluation.judged import JudgedAnswers, agreements
from visrag_integrations.evaluation.judging import (
    SETTINGS,
    AnswerToJudge,
    judge_name,
    judge_template,
    no_verdict,
    parse_judge,
)
from visrag_integrations.evaluation.metrics import PerQuery
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.evaluation.sets import Question
from visrag_integrations.interfaces.generators import generate
from visrag_integrations.progress_bars import progress_bar

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator


def judge_answers(
    answers: Mapping[str, str],
    questions: Iterable[Question],
    judge: Generator,
    *,
    rules: PerQuery | None = None,
    record: str | Path | None = None,
    batch_size: int = 16,
    progress: bool | None = None,
) -> JudgedAnswers:
    """Whether answers are right, by a model. Equal answers to a question are asked for once.

    An answer that gets no verdict, because the judge cannot be reached or writes something else, is counted and told,
    never taken for wrong. After five failures in a row the judge is not asked any more. An empty answer is wrong
    without being asked for.

    Args:
        answers: Question id -> answer.
        questions: Of the set; those without a right answer are left out.
        judge: Any generator; it is asked with `judge.txt`.
        rules: What string rules say (`EvaluationResult.per_query`), to be compared with the judge.
        record: A file that keeps verdicts, so that no answer is judged twice, in this run or another.
        batch_size: Answers that the judge gets together.
        progress: A progress bar; by default where standard error is a terminal, and in a notebook.

    Raises:
        SettingError: The judge is no generator, or the record is of another judge or prompt.
    """
    if not hasattr(judge, "generate"):
        raise SettingError(f"judge is {type(judge).__name__}; give a Generator, such as load_generator(NAME).")
    wanted: dict[str, AnswerToJudge] = {}
    for question in questions:
        right = tuple(right_answers(question))
        if right and question.id in answers:
            wanted[question.id] = AnswerToJudge(with_options(question), answers[question.id], right)
    run = _JudgeRun(judge, record)
    run.all(wanted.values(), batch_size, progress)
    verdicts: dict[str, float] = {}
    unjudged: dict[str, str] = {}
    for id_, each in wanted.items():
        if not each.answer.strip():
            verdicts[id_] = 0.0
        elif each.key in run.kept.done:
            verdicts[id_] = float(run.kept.done[each.key]["verdict"])
        else:
            unjudged[id_] = run.problems.get(each.key, run.ended)
    return JudgedAnswers(judge_name(judge), verdicts, unjudged, agreements(verdicts, rules or {}))


class _JudgeRun:
    """Asks the judge; what it said is kept by the answers' keys (`kept`, and `problems` where it gave no verdict)."""

    def __init__(self, judge: Generator, record: str | Path | None) -> None:
        # Another wording is another judge: its verdicts are not mixed.
        prompt = hashlib.sha256(judge_template().encode("utf-8")).hexdigest()[:12]
        self.judge = judge
        self.kept = RunRecord(record, {"task": "judged answers", "judge": judge_name(judge), "prompt": prompt})
        self.problems: dict[str, str] = {}
        self.ended = ""

    def all(self, answers: Iterable[AnswerToJudge], batch_size: int, progress: bool | None) -> None:
        new: dict[str, AnswerToJudge] = {}
        for each in answers:
            if each.answer.strip() and each.key not in self.kept.done:
                new[each.key] = each
        with progress_bar(progress, total=len(new), unit="verdict") as bar:

            def done(finished: list[tuple[AnswerToJudge, str]]) -> None:
                self._keep(finished)
                bar.update(len(finished))

            def fail(each: AnswerToJudge, error: Exception) -> None:
                self.problems[each.key] = f"{type(error).__name__}: {error}"
                bar.update()

            runner = BatchRunner(self._written, done, fail, batch_size)
            try:
                runner.all(new.values())
            except Exception as err:  # noqa: BLE001  the answers are made: a judge that is away must not lose them
                self.ended = f"not asked any more after {type(err).__name__}: {err}"

    def _written(self, batch: list[AnswerToJudge]) -> Sequence[str]:
        conversations = [each.conversation for each in batch]
        return [written.text for written in generate(self.judge, conversations, SETTINGS)]

    def _keep(self, finished: Sequence[tuple[AnswerToJudge, str]]) -> None:
        kept: list[dict[str, Any]] = []
        for each, text in finished:
            verdict = parse_judge(text)
            if verdict is None:
                self.problems[each.key] = no_verdict(text)
            else:
                kept.append({"id": each.key, "verdict": float(verdict)})
        self.kept.append(kept)
