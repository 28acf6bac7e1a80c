"""What comes out where evidence is measured: the scores, and right answers against right evidence; as tables too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from visrag_integrations.evaluation.answers import RIGHT_FROM
from visrag_integrations.evaluation.boxes import BoxesByPage
from visrag_integrations.evaluation.statistics import Comparison, Interval, compare, mean, mean_interval

EVIDENCE_METRICS = {
    "box-precision": "the share of the area of the answer's boxes that lies in right boxes",
    "box-recall": "the share of the area of the right boxes that the answer's boxes cover",
    "box-f1": "the harmonic mean of the two",
    "box-precision@0.5": "the share of the answer's boxes that are a right box (IoU of 0.5 or more, each used once)",
    "box-recall@0.5": "the share of the right boxes that are one of the answer's",
    "box-f1@0.5": "the harmonic mean of the two",
    "page-f1": "the pages of the evidence against the relevant pages",
    "supported": "the share of the pieces of evidence whose words stand on their page, of those that could be checked",
    "refusal": "1 where a question is refused that cannot be answered, or one is answered that can be",
}
"""Name -> what it says of one question; all from 0 to 1."""
EVIDENCE_RIGHT_FROM = 0.5
"""Evidence is called right where its box-f1 (or, in a set without boxes, its page-f1) is this or more."""


@dataclass(frozen=True)
class EvidenceScores:
    """Each metric of `EVIDENCE_METRICS` for the questions that it can be said of; printed, it is a table.

    Attributes:
        values: Metric -> question id -> value. Boxes: questions with right boxes; pages: those with relevant pages;
            supported: answers with evidence that was checked.
        notes: What was left out, and why.
        boxes: Question id -> page key -> the boxes of the answer's evidence on that page.
    """

    values: Mapping[str, Mapping[str, float]] = field(repr=False)
    notes: tuple[str, ...] = ()
    boxes: Mapping[str, BoxesByPage] = field(default_factory=dict, repr=False)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The mean of each metric that any question has."""
        means: dict[str, float] = {}
        for metric, of_metric in self.values.items():
            if of_metric:
                means[metric] = mean(list(of_metric.values()))
        return means

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Where each mean lies with 95 % confidence (bootstrap over the questions)."""
        found: dict[str, Interval] = {}
        for metric in self.metrics:
            found[metric] = mean_interval(list(self.values[metric].values()))
        return found

    @property
    def deciding(self) -> str:
        """The metric that says whether evidence is right: box-f1, page-f1 in a set without boxes; "" without both."""
        for metric in ("box-f1", "page-f1"):
            if self.values.get(metric):
                return metric
        return ""

    def compare(self, other: EvidenceScores) -> list[Comparison]:
        """Each metric of both over the questions that both have it for, paired; see `Comparison`."""
        comparisons: list[Comparison] = []
        for metric in self.metrics:
            first, second = _as_rows(metric, self), _as_rows(metric, other)
            if first.keys() & second.keys():
                comparisons += compare(first, second)
        return comparisons

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows: dict[str, Any] = {}
        for metric, value in self.metrics.items():
            rows[metric] = {
                "questions": len(self.values[metric]),
                "mean": value,
                "interval": list(self.intervals[metric]),
            }
        return {"metrics": rows, "notes": list(self.notes)}

    def rows(self) -> list[list[str]]:
        """The table: a row for each metric."""
        rows = [["evidence", "questions", "mean [95 % interval]"]]
        for metric, value in self.metrics.items():
            low, high = self.intervals[metric]
            rows.append([metric, str(len(self.values[metric])), f"{value:.3f} [{low:.3f}, {high:.3f}]"])
        return rows


@dataclass(frozen=True)
class AnswersByEvidence:
    """How many questions have a right answer, right evidence, both or neither.

    Attributes:
        both: Answer and evidence right.
        answer_only: A right answer that does not rest on the right evidence: guessed, or found elsewhere.
        evidence_only: The right evidence, and a wrong answer.
        neither: Both wrong.
        answer_rule: What says that an answer is right.
        evidence_rule: What says that evidence is.
    """

    both: int
    answer_only: int
    evidence_only: int
    neither: int
    answer_rule: str
    evidence_rule: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    def rows(self) -> list[list[str]]:
        """The table, two by two."""
        return [
            [f"questions ({self.answer_rule}; {self.evidence_rule})", "evidence right", "evidence wrong"],
            ["answer right", str(self.both), str(self.answer_only)],
            ["answer wrong", str(self.evidence_only), str(self.neither)],
        ]


def answers_by_evidence(
    answer_values: Mapping[str, float], answer_rule: str, evidence: EvidenceScores
) -> AnswersByEvidence | None:
    """The questions counted by both, where both are known; None where no question has both.

    Args:
        answer_values: Question id -> how right the answer is; right from a half on.
        answer_rule: What that is called.
        evidence: Of the same answers.
    """
    of_evidence = evidence.values.get(evidence.deciding, {})
    counts: Counter[tuple[bool, bool]] = Counter()  # (answer right, evidence right) -> questions
    for id_, value in answer_values.items():
        if id_ in of_evidence:
            counts[value >= RIGHT_FROM, of_evidence[id_] >= EVIDENCE_RIGHT_FROM] += 1
    if not counts:
        return None
    # A rule that gives shares needs the limit beside its name; one that says right or wrong does not.
    if not set(answer_values.values()) <= {0.0, 1.0}:
        answer_rule = f"{answer_rule} from {RIGHT_FROM}"
    return AnswersByEvidence(
        both=counts[True, True],
        answer_only=counts[True, False],
        evidence_only=counts[False, True],
        neither=counts[False, False],
        answer_rule=answer_rule,
        evidence_rule=f"{evidence.deciding} from {EVIDENCE_RIGHT_FROM}",
    )


def _as_rows(metric: str, scores: EvidenceScores) -> dict[str, dict[str, float]]:
    """Question id -> metric -> value, as `compare` takes them."""
    rows: dict[str, dict[str, float]] = {}
    for id_, value in scores.values.get(metric, {}).items():
        rows[id_] = {metric: value}
    return rows
