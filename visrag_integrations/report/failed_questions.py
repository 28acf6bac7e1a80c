"""The questions that went wrong: the pages that are right beside those that were found, the worst first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from visrag_integrations.evaluation import EvaluationResult, EvaluationSet, Question, page_key
from visrag_integrations.evaluation.answers import RIGHT_FROM, right_answers
from visrag_integrations.evaluation.boxes import BoxesByPage, boxes_with_area
from visrag_integrations.evaluation.evidence_scores import EVIDENCE_RIGHT_FROM
from visrag_integrations.evaluation.metrics import ranked, relevant_pages
from visrag_integrations.evaluation.sets import PageKey
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.page_cards import card_row, page_card
from visrag_integrations.report.page_pictures import Outlines, ReportPictures
from visrag_integrations.report.page_places import place_of
from visrag_integrations.scores.shown import shown_score
from visrag_integrations.types import Box, Page

MOST_FOUND = 3
"""Found pages that are shown of one question: what a generator is shown by default."""
MOST_RIGHT = 3
"""Right pages that are shown of one question; some sets call twenty pages right."""


@dataclass
class FailedQuestions:
    """What went wrong in a result, and the pages to show of it.

    Attributes:
        dataset: What was asked.
        results: Names and results; the first one says what went wrong.
        pages: The pages that are known, by key.
        pictures: Of the file.
        name: What ids begin with.
    """

    dataset: EvaluationSet
    results: Sequence[tuple[str, EvaluationResult]]
    pictures: ReportPictures
    name: str = "f"
    pages: dict[str, Page] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """When a question counts as failed, in words."""
        first = self.results[0][1]
        if not first.answers:
            return f"{next(iter(first.metrics), 'the first metric')} below 1"
        rule = f"{next(iter(first.metrics), 'the first metric')} below {RIGHT_FROM}"
        if first.judged is not None and first.judged.verdicts:
            rule = f"wrong by the judge {first.judged.judge}"
        if first.evidence is not None and first.evidence.deciding:
            rule += f", or {first.evidence.deciding} below {EVIDENCE_RIGHT_FROM}"
        return rule

    def questions(self) -> list[Question]:
        """The failed ones, the worst first."""
        found: list[tuple[float, float, int]] = []
        for place, question in enumerate(self.dataset.questions):
            value, evidence, failed = self._judged(question.id)
            if failed:
                found.append((value, evidence, place))
        return [self.dataset.questions[place] for _, _, place in sorted(found)]

    def find_pages(self, questions: Iterable[Question], pages: Iterable[Page], key: PageKey = page_key) -> None:
        """Takes from all pages those that are shown of these questions; the rest is let go."""
        wanted: set[str] = set()
        given: list[Page] = []
        for question in questions:
            wanted.update(self._right(question))
            given += question.pages
            for _, result in self.results:
                wanted.update(_found(result, question))
        for page in itertools.chain(given, pages):
            name = key(page)
            if name in wanted:
                self.pages.setdefault(name, page)
            if len(self.pages) == len(wanted):
                break

    def article(self, question: Question, number: int) -> str:
        """One question with its answers and pages."""
        name = f"{self.name}{number}"
        group = ""
        if question.group:
            group = f'<p class="label">{escaped(question.group)}</p>'
        parts = [f'<article class="failed" id="{name}"><header>{group}<h3>{escaped(question.text)}</h3></header>']
        parts.append(self._answers(question))
        cards = [self._right_card(f"{name}r{i}", question, key) for i, key in enumerate(self._right(question))]
        left_out = len(relevant_pages(self.dataset.qrels.get(question.id, {}))) - len(cards)
        heading = "Right pages" if not left_out else f"Right pages ({left_out} more are not shown)"
        sides: list[str] = []
        if cards:
            sides.append(card_row(cards, "others pages", f'<p class="label">{heading}</p>'))
        for run, (label, result) in enumerate(self.results):
            shown: list[str] = []
            for place in range(len(_found(result, question))):
                shown.append(self._found_card(f"{name}p{run}{place}", question, result, place))
            heading = f"Found by {label}" if label else "Found"
            if shown:
                sides.append(card_row(shown, "others pages", f'<p class="label">{escaped(heading)}</p>'))
            elif question.id in result.run:
                sides.append(
                    f'<div class="others"><p class="label">{escaped(heading)}</p><p class="note">No page.</p></div>'
                )
        return "\n".join([*parts, f'<div class="sides">{"".join(sides)}</div></article>'])

    def _judged(self, id_: str) -> tuple[float, float, bool]:
        """How right the answer is (or the search), how right its evidence, and whether that is a failure."""
        result = self.results[0][1]
        if id_ not in result.per_query:
            return 1.0, 1.0, False
        value = next(iter(result.per_query[id_].values()), 1.0)
        least = 1.0
        if result.answers:
            least = RIGHT_FROM
        if result.judged is not None and id_ in result.judged.verdicts:
            value = result.judged.verdicts[id_]
        evidence = 1.0
        if result.evidence is not None and result.evidence.deciding:
            evidence = result.evidence.values[result.evidence.deciding].get(id_, 1.0)
        return value, evidence, value < least or evidence < EVIDENCE_RIGHT_FROM

    def _answers(self, question: Question) -> str:
        """Right answers, given answers, and every value of the question."""
        rows: list[tuple[str, str]] = []
        right = right_answers(question)
        if right:
            rows.append(("Right answer", " or ".join(right)))
        for label, result in self.results:
            values = dict(result.per_query.get(question.id, {}))
            if result.judged is not None and question.id in result.judged.verdicts:
                values["judge"] = result.judged.verdicts[question.id]
            if result.evidence is not None and question.id in result.evidence.values.get(result.evidence.deciding, {}):
                values[result.evidence.deciding] = result.evidence.values[result.evidence.deciding][question.id]
            if question.id in result.answers:
                rows.append((_titled("Answer", label), result.answers[question.id] or "(none)"))
            said = ", ".join(f"{metric} {value:.2f}" for metric, value in values.items())
            rows.append((_titled("Scores", label), said or "was not asked"))
        lines = "".join(f"<dt>{escaped(title)}</dt><dd>{escaped(text)}</dd>" for title, text in rows)
        return f'<dl class="said">{lines}</dl>'

    def _right(self, question: Question) -> list[str]:
        judged = self.dataset.qrels.get(question.id, {})
        best_first = sorted(relevant_pages(judged), key=lambda key: -judged[key])
        return best_first[:MOST_RIGHT]

    def _right_card(self, name: str, question: Question, key: str) -> str:
        return self._card(name, key, [_right_boxes(question, key)], "")

    def _found_card(self, name: str, question: Question, result: EvaluationResult, place: int) -> str:
        key = _found(result, question)[place]
        predicted: BoxesByPage = {}
        if result.evidence is not None:
            predicted = result.evidence.boxes.get(question.id, {})
        # The answer's boxes above the right ones: where they agree, both can be seen.
        outlines = [_right_boxes(question, key), Outlines("partly", predicted.get(key, ()))]
        note = f"place {place + 1}, score {shown_score(result.run[question.id][key])}"
        if key in relevant_pages(self.dataset.qrels.get(question.id, {})):
            note = f"\u2713 right page, {note}"
        return self._card(name, key, outlines, note)

    def _card(self, name: str, key: str, outlines: Sequence[Outlines], note: str) -> str:
        page = self.pages.get(key)
        if page is None:
            return (
                f'<li><p class="missing">No picture: the page is not among those that were given.</p>'
                f'<p class="place">{escaped(key)}</p><p class="note">{escaped(note)}</p></li>'
            )
        place = key
        if page.metadata.get("corpus_id") is None:
            place = place_of(page, 1)
        return page_card(name, self.pictures.outlined(page, place, outlines), escaped(place), escaped(note))


def _titled(title: str, label: str) -> str:
    """What a line is, and of which run where there are two."""
    if not label:
        return title
    return f"{title} of {label}"


def _right_boxes(question: Question, key: str) -> Outlines:
    """Those on this page, drawn as what is supported is."""
    boxes: list[Box] = []
    for page_box in question.boxes:
        if page_box.page == key:
            boxes.append(page_box.box)
    return Outlines("supported", boxes_with_area(boxes))  # whatever the order of their corners


def _found(result: EvaluationResult, question: Question) -> list[str]:
    """The keys of the pages that were found, best first."""
    return ranked(result.run.get(question.id, {}))[:MOST_FOUND]
