"""Whether answers rest on the right evidence: boxes, pages, words that stand there, and refusals. Of any generator.

An answer's evidence says on which page it stands; `ground` of `visrag_integrations.grounding` finds where, as boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from visrag_integrations.evaluation.answers import REFUSALS, RIGHT_FROM, normalized
from visrag_integrations.evaluation.boxes import BoxesByPage, BoxScore, area_score, boxes_with_area, matched_score
from visrag_integrations.evaluation.metrics import relevant_pages
from visrag_integrations.evaluation.sets import EvaluationSet, PageKey, Question, page_key
from visrag_integrations.evaluation.statistics import Comparison, Interval, compare, mean, mean_interval
from visrag_integrations.types import Answer, Box, Evidence

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

_FOUND = ("supported", "in the speaker notes")
_CHECKED = (*_FOUND, "partly", "not found on the page")
_REFUSALS = {normalized(text) for text in REFUSALS}


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


def evaluate_evidence(answers: Mapping[str, Answer], dataset: EvaluationSet, key: PageKey = page_key) -> EvidenceScores:
    """Scores of the evidence of answers, by question id; ground the answers first (`ground`), or there are no boxes.

    Args:
        answers: Question id -> answer, from any generator.
        dataset: Its questions have `boxes`, its `qrels` say which pages are right.
        key: How the set names a page.
    """
    quoted = {id_: evidence_entry(answer, key) for id_, answer in answers.items()}
    return score_entries(quoted, dataset)


def evidence_entry(answer: Answer, key: PageKey = page_key) -> dict[str, Any]:
    """What is kept of an answer's evidence, JSON-like."""
    refused = not answer.sufficient or normalized(answer.text) in _REFUSALS
    pieces: list[dict[str, Any]] = []
    for entry in answer.evidence:
        if entry.relevant:  # else the model says that the page holds nothing: that is no evidence
            pieces.append(_piece(entry, key))
    return {"refused": refused, "evidence": pieces}


def score_entries(entries: Mapping[str, Mapping[str, Any]], dataset: EvaluationSet) -> EvidenceScores:
    """Scores of what `evidence_entry` kept, by question id."""
    values: dict[str, dict[str, float]] = {metric: {} for metric in EVIDENCE_METRICS}
    notes = _Notes()
    boxes: dict[str, dict[str, list[Box]]] = {}
    for question in dataset.questions:
        if question.id not in entries:
            continue
        entry = entries[question.id]
        pieces = entry["evidence"]
        relevant = relevant_pages(dataset.qrels.get(question.id, {}))
        boxes[question.id] = _boxes_of(pieces)
        notes.see_pages(question, relevant, boxes[question.id])
        scores: dict[str, float] = _box_scores(question, boxes[question.id], notes)
        if relevant:
            scores["page-f1"] = page_f1(boxes[question.id], relevant)
        scores.update(_support(pieces, notes))
        scores["refusal"] = float(entry["refused"] != question.answerable)
        for metric, value in scores.items():
            values[metric][question.id] = value
    set_has_boxes = any(question.boxes for question in dataset.questions)
    return EvidenceScores(values, notes.texts(set_has_boxes), boxes)


def page_f1(quoted: Iterable[str], relevant: Iterable[str]) -> float:
    """The harmonic mean of precision and recall of pages, each counted once.

    >>> page_f1(["a", "a", "b"], ["a"])
    0.6666666666666666
    >>> page_f1([], ["a"]), page_f1([], [])
    (0.0, 1.0)
    """
    given, wanted = set(quoted), set(relevant)
    if not given and not wanted:
        return 1.0
    return 2 * len(given & wanted) / (len(given) + len(wanted))


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
    return AnswersByEvidence(
        counts[True, True],
        counts[True, False],
        counts[False, True],
        counts[False, False],
        answer_rule if set(answer_values.values()) <= {0.0, 1.0} else f"{answer_rule} from {RIGHT_FROM}",
        f"{evidence.deciding} from {EVIDENCE_RIGHT_FROM}",
    )


@dataclass
class _Notes:
    """What is counted on the way."""

    without_boxes: int = 0
    without_area: int = 0
    unchecked: int = 0
    elsewhere: int = 0
    right_pages: set[str] = field(default_factory=set)
    quoted_pages: set[str] = field(default_factory=set)

    def see_pages(self, question: Question, relevant: Sequence[str], quoted: Iterable[str]) -> None:
        """Looks whether the set and the evidence name pages alike: else every score is 0, and nobody knows why."""
        boxed = {box.page for box in question.boxes}
        self.elsewhere += bool(relevant and boxed - set(relevant))
        if boxed:
            self.right_pages |= boxed
            self.quoted_pages.update(quoted)

    def texts(self, set_has_boxes: bool) -> tuple[str, ...]:
        texts: list[str] = []
        if self.elsewhere:
            texts.append(f"{self.elsewhere} questions have right boxes on pages that the set does not call relevant.")
        if self.right_pages and self.quoted_pages and not self.right_pages & self.quoted_pages:
            names = f"like {min(self.right_pages)!r}, and the evidence is on pages like {min(self.quoted_pages)!r}"
            texts.append(f"No evidence is on a page that has right boxes: the set names pages {names}.")
        if set_has_boxes and self.without_boxes:
            texts.append(f"{self.without_boxes} questions with answers have no right boxes: not in the box rows.")
        if self.without_area:
            texts.append(f"{self.without_area} questions have right boxes without area: not in the box rows.")
        if self.unchecked:
            texts.append(f"{self.unchecked} pieces of evidence could not be checked: not in the row supported.")
        return tuple(texts)


def _box_scores(question: Question, predicted: BoxesByPage, notes: _Notes) -> dict[str, float]:
    """The six box metrics; none where the set does not say where the answer stands."""
    right: dict[str, list[Box]] = {}
    for page_box in question.boxes:
        right.setdefault(page_box.page, []).append(page_box.box)
    if not question.boxes:
        notes.without_boxes += question.answerable
        return {}
    if not any(boxes_with_area(boxes) for boxes in right.values()):
        notes.without_area += 1
        return {}
    return {**_named(area_score(predicted, right), ""), **_named(matched_score(predicted, right), "@0.5")}


def _support(pieces: Sequence[Mapping[str, Any]], notes: _Notes) -> dict[str, float]:
    """The share of the pieces that stand on their page; nothing where none could be checked."""
    checked = found = 0
    for piece in pieces:
        checked += piece["verdict"] in _CHECKED
        found += piece["verdict"] in _FOUND
    # A page without words says neither yes nor no.
    notes.unchecked += len(pieces) - checked
    if not checked:
        return {}
    return {"supported": found / checked}


def _boxes_of(pieces: Sequence[Mapping[str, Any]]) -> dict[str, list[Box]]:
    """By page; a page that was quoted without boxes has none."""
    boxes: dict[str, list[Box]] = {}
    for piece in pieces:
        on_page = boxes.setdefault(piece["page"], [])
        for left, top, right, bottom in piece["boxes"]:
            on_page.append((left, top, right, bottom))
    return boxes


def _named(score: BoxScore, suffix: str) -> dict[str, float]:
    return {f"box-{name}{suffix}": value for name, value in score._asdict().items()}


def _piece(entry: Evidence, key: PageKey) -> dict[str, Any]:
    # A model may name a picture that it was not shown: that is no page of any set, and counts as a wrong one.
    page = f"image {entry.page_index}" if entry.page is None else key(entry.page)
    found = entry.grounding
    if found is None:
        return {"page": page, "text": entry.text, "verdict": "unchecked", "boxes": []}
    return {
        "page": page,
        "text": entry.text,
        "verdict": found.verdict,
        "boxes": [list(box) for box in found.boxes],
    }


def _as_rows(metric: str, scores: EvidenceScores) -> dict[str, dict[str, float]]:
    return {id_: {metric: value} for id_, value in scores.values.get(metric, {}).items()}
