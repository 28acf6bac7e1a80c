"""Whether an answer is right, asked of a judge: a large model behind any generator, or a function.

A judge is away now and then. It is asked again, and after that the run either stops with an error that says so, so that
it can go on from its last checkpoint, or, if you choose that, the answer counts 0 and the log says so. It never waits
without end, and nothing is asked twice: answers that were judged are remembered.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from visrag_integrations.errors import SettingError, TrainingError
from visrag_integrations.evaluation.judging import SETTINGS, AnswerToJudge, judge_name, no_verdict, parse_judge
from visrag_integrations.evaluation.run_record import RunRecord
from visrag_integrations.interfaces.generators import generate
from visrag_integrations.training.reward_words import words

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

logger = logging.getLogger(__name__)

JudgeFunction = Callable[[str, str, Sequence[str]], "float | bool"]
"""`function(question, answer, right answers) -> a number from 0 to 1`."""
WhenAway = Literal["error", "zero"]


class Judged:
    """A judge with limits and a memory.

    Args:
        judge: A function of question, answer and right answers that gives a number from 0 to 1, or a `Generator`, which
            is asked with `judge.txt` of evaluation.
        timeout: Seconds that one try may take.
        tries: How often a judge that fails is asked.
        when_away: After that: "error" stops the run; "zero" counts 0 and is logged.
        cache: A file that keeps verdicts, so that a run that goes on, or another one, does not ask again.
        at_once: Answers that are judged at the same time.

    Attributes:
        asked: Tries so far.
        away: Answers that counted 0 because the judge was away.
    """

    def __init__(
        self,
        judge: Generator | JudgeFunction,
        *,
        timeout: float = 60.0,
        tries: int = 3,
        when_away: WhenAway = "error",
        cache: str | Path | None = None,
        at_once: int = 16,
    ) -> None:
        if not timeout > 0 or tries < 1 or at_once < 1:
            raise SettingError(f"timeout is {timeout}, tries {tries}, at_once {at_once}; all must be above 0.")
        if when_away not in ("error", "zero"):
            raise SettingError(f'when_away is {when_away!r}; it is "error" or "zero".')
        self._judge = function_of(judge)
        self.name = judge_name(judge)
        self.timeout, self.tries, self.when_away, self.at_once = timeout, tries, when_away, at_once
        self._kept = RunRecord(cache, {"task": "judged answers", "judge": self.name})
        self.asked = 0
        self.away = 0

    def many(self, answers: Sequence[AnswerToJudge]) -> list[float]:
        """How right each is, from 0 to 1; an empty answer is 0 without being asked for.

        Raises:
            TrainingError: The judge is away, or what it gives is no number from 0 to 1.
        """
        new: dict[str, AnswerToJudge] = {}
        for each in answers:
            if each.answer.strip() and each.key not in self._kept.done:
                new[each.key] = each
        unsettled = self._asked_in_turn(new)
        found: list[float] = []
        for each in answers:
            if not each.answer.strip() or each.key in unsettled:
                found.append(0.0)
            else:
                found.append(float(self._kept.done[each.key]["verdict"]))
        return found

    def _asked_in_turn(self, new: dict[str, AnswerToJudge]) -> set[str]:
        """Asks for verdicts; the keys of the answers that have none after all tries."""
        left = list(new)
        problem = ""
        for _ in range(self.tries):
            if not left:
                break
            failed: list[str] = []
            for start in range(0, len(left), self.at_once):
                part = left[start : start + self.at_once]
                problems = self._try([new[key] for key in part])
                failed += [key for key in part if key in problems]
                problem = next(iter(problems.values()), problem)
            left = failed
        if left and self.when_away == "error":
            raise TrainingError(
                f"The judge {self.name!r} gave no verdict on {len(left)} answers in {self.tries} tries: {problem} The "
                "last checkpoint is good: run again with the same output once the judge is back, or let such answers "
                'count 0: when_away="zero".'
            )
        if left:
            self.away += len(left)
            logger.warning("The judge %r is away: %d answers count 0. %s", self.name, len(left), problem)
        return set(left)

    def _try(self, answers: Sequence[AnswerToJudge]) -> dict[str, str]:
        """One try for each, all at once; what went wrong, by key."""
        self.asked += len(answers)
        running: dict[Future[float], AnswerToJudge] = {}
        for each in answers:
            running[in_thread(self._judge, each.question, each.answer, each.right)] = each
        done, late = wait(running, timeout=self.timeout)
        problems: dict[str, str] = {}
        for future in late:
            problems[running[future].key] = f"It took longer than {self.timeout:g} s."
        kept: list[dict[str, Any]] = []
        refused: TrainingError | None = None
        for future in done:
            key = running[future].key
            error = future.exception()
            if error is None:
                try:
                    kept.append({"id": key, "verdict": checked_verdict(future.result(), self.name)})
                except TrainingError as err:
                    refused = err
            elif isinstance(error, Exception):
                problems[key] = f"{type(error).__name__}: {error}"
            else:
                raise error
        # Before the error: the other verdicts of this try were paid for.
        self._kept.append(kept)
        if refused is not None:
            raise refused
        return problems


def function_of(judge: Generator | JudgeFunction) -> JudgeFunction:
    """The judge as a function.

    Raises:
        SettingError: It is neither a generator nor a function.
    """
    if hasattr(judge, "generate"):
        generator = cast("Generator", judge)

        def ask(question: str, answer: str, right: Sequence[str]) -> bool:
            asked = AnswerToJudge(question, answer, tuple(right)).conversation
            written = generate(generator, [asked], SETTINGS)[0].text
            verdict = parse_judge(written)
            if verdict is None:
                raise ValueError(no_verdict(written))
            return verdict

        return ask
    if callable(judge):
        return judge
    raise SettingError(
        f"judge is {type(judge).__name__}; give a Generator, or a function of question, answer and right answers."
    )


def match_judge(question: str, answer: str, right: Sequence[str]) -> float:
    """A judge without a model: 1 where the answer has exactly the words of a right one, in any order; else 0.

    >>> match_judge("Who?", "The Ada Lovelace.", ["Ada Lovelace"])
    1.0
    """
    return float(any(sorted(words(answer)) == sorted(words(each)) for each in right))


def checked_verdict(value: Any, name: str) -> float:
    """The verdict, if it is a number from 0 to 1.

    Raises:
        TrainingError: It is not; asking again would give the same.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise TrainingError(f"The judge {name!r} gave {value!r}; a verdict is a number from 0 to 1, or True or False.")
    return number


def in_thread(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Call it beside this thread. A call that never ends holds up neither its caller nor the end of the process."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as err:  # noqa: BLE001 (raised again where the verdict is awaited)
            future.set_exception(err)

    threading.Thread(target=run, name="visrag-judge", daemon=True).start()
    return future
