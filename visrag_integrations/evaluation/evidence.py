"""Whether answers rest on the right evidence: boxes, pages, words that stand there, and refusals. Of any generator.

An answer's evidence says on which page it stands; `ground` of `visrag_integrations.grounding` finds where, as boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.evaluation.answers import REFUSALS, normalized
from visrag_integrations.evaluation.boxes import BoxesByPage, BoxScore, area_score, boxes_with_area, matched_score
from visrag_integrations.evaluation.evidence_scores import EVIDENCE_METRICS, EvidenceScores
from visrag_integrations.evaluation.metrics import relevant_pages
from visrag_integrations.evaluation.sets import EvaluationSet, PageKey, Question, page_key
from visrag_integrations.types import Answer, Box, Evidence

# Verdicts of grounding. "unchecked" is in neither: a page without words says nothing of what a model quotes.
_FOUND = ("supported", "in the speaker notes")
_CHECKED = (*_FOUND, "partly", "not found on the page")
_REFUSALS = {normalized(text) for text in REFUSALS}


def evaluate_evidence(answers: Mapping[str, Answer], dataset: EvaluationSet, key: PageKey = page_key) -> EvidenceScores:
    """Scores of the evidence of answers, by question id; ground the answers first (`ground`), or there are no boxes.

    Args:
        answers: Question id -> answer, from any generator.
        dataset: Its questions have `boxes`, its `qrels` say which pages are right.
        key: How the set names a page.
    """
    quoted: dict[str, dict[str, Any]] = {}
    for id_, answer in answers.items():
        quoted[id_] = evidence_entry(answer, key)
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
    return {
        f"box-precision{suffix}": score.precision,
        f"box-recall{suffix}": score.recall,
        f"box-f1{suffix}": score.f1,
    }


def _piece(entry: Evidence, key: PageKey) -> dict[str, Any]:
    # A model may name a picture that it was not shown: that is no page of any set, and counts as a wrong one.
    page = f"image {entry.page_index}"
    if entry.page is not None:
        page = key(entry.page)
    found = entry.grounding
    if found is None:
        return {"page": page, "text": entry.text, "verdict": "unchecked", "boxes": []}
    return {
        "page": page,
        "text": entry.text,
        "verdict": found.verdict,
        "boxes": [list(box) for box in found.boxes],
    }
