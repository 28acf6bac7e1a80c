"""What a run of the agent is rewarded for: pages found early, the form of its actions, and an answer that is right."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visrag_integrations.agent import Trace
from visrag_integrations.evaluation.judging import AnswerToJudge
from visrag_integrations.evaluation.sets import key_of, page_key
from visrag_integrations.generation.vrag import Turn, parse_turn
from visrag_integrations.training.judges import Judged
from visrag_integrations.training.rewards import action_format_reward, ndcg_reward, trajectory_reward
from visrag_integrations.types import Page

WEIGHTS = (0.2, 0.1, 0.7)
"""Of pages, form and answer: published."""
# VRAG names the picture of a page after its document and number: "report_12.jpg".
_PICTURE_OF_PAGE = re.compile(r"(?P<document>.+)_(?P<number>\d{1,7})\.(?:jpe?g|png|webp)", re.IGNORECASE)


@dataclass(frozen=True)
class RunScore:
    """The parts of a run's reward, each from 0 to 1.

    Attributes:
        ndcg: How early the right pages were seen.
        form: Whether it searched and answered in whole tags.
        judged: Whether the answer is right; 0 where the form is 0, and nobody was asked.
        reward: All of it.
    """

    ndcg: float
    form: float
    judged: float
    reward: float


class TrajectoryReward:
    """VRAG-RL's reward of whole runs.

    Args:
        judged: Says whether answers are right.
        weights: Of pages, form and answer.
    """

    def __init__(self, judged: Judged, *, weights: tuple[float, float, float] = WEIGHTS) -> None:
        self.judged, self.weights = judged, weights

    @property
    def away(self) -> int:
        """Answers that counted 0 because the judge was away, so far."""
        return self.judged.away

    def score(self, traces: Sequence[Trace], rows: Sequence[Mapping[str, Any]]) -> list[RunScore]:
        """The rewards of runs.

        Args:
            traces: The runs.
            rows: Of each, `answers`, the right ones, and `golden`, the pages that hold the answer: by their ids, or as
                `page_key` names them.

        Raises:
            TrainingError: The judge is away.
        """
        forms = [action_format_reward(own_text(trace)) for trace in traces]
        answers: list[AnswerToJudge] = []
        for trace, row, form in zip(traces, rows, forms, strict=True):
            # The form multiplies all: without it the judge would be asked for nothing.
            answer = trace.answer.text if form > 0 else ""
            answers.append(AnswerToJudge(trace.question, answer, tuple(row["answers"])))
        scores: list[RunScore] = []
        for trace, row, form, verdict in zip(traces, rows, forms, self.judged.many(answers), strict=True):
            ndcg = seen_ndcg(trace, row["golden"])
            reward = trajectory_reward(ndcg, form, verdict, weights=self.weights)
            scores.append(RunScore(ndcg, form, verdict, reward))
        return scores


def seen_ndcg(trace: Trace, golden: Collection[str]) -> float:
    """How early the golden pages were seen, from 0 to 1."""
    return ndcg_reward([name_among(page, golden) for page in seen_pages(trace)], golden)


def seen_pages(trace: Trace) -> list[Page]:
    """The pages a run was shown, in order; crops are no pages."""
    return [shown.page.page for shown in trace.shown if shown.whole]


def name_among(page: Page, golden: Collection[str]) -> str:
    """By which of its names a page is among the golden ones; its id where it is not.

    >>> name_among(Page("d", 1, source="corpus/report_12.jpg"), {"report.pdf#page=12"})
    'report.pdf#page=12'
    """
    for name in (page.id, page_key(page), *_as_picture(page.source or "")):
        if name in golden:
            return name
    return page.id


def _as_picture(source: str) -> list[str]:
    """The page of a document that a picture shows, as VRAG names pictures."""
    found = _PICTURE_OF_PAGE.fullmatch(source.replace("\\", "/").rpartition("/")[2])
    if found is None:
        return []
    number = int(found["number"])
    return [key_of(f"{found['document']}.pdf", number), key_of(found["document"], number)]


def own_text(trace: Trace) -> str:
    """What the model itself wrote, all turns together.

    The published code scores the whole run, with the rules in it that an invalid action is answered by: these hold
    `<search>` and `<answer>`, so that a model that never wrote either got the form's reward, and "Beijing" judged.
    """
    return "\n".join(turn.text for turn in trace.turns)


def parsed(trace: Trace) -> list[Turn]:
    """The turns of a run, read."""
    return [parse_turn(turn.text, cut_off=turn.finish_reason == "length") for turn in trace.turns]


def was_cut(trace: Trace) -> bool:
    """Whether a turn of it ended at the token limit."""
    return any(turn.finish_reason == "length" for turn in trace.turns)
