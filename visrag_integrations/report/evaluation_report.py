"""`EvaluationReport`: an evaluation to look at, as one HTML file or in a notebook."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from visrag_integrations.evaluation import Comparison, EvaluationResult, EvaluationSet, comparison_table
from visrag_integrations.evaluation.sets import PageKey, page_key
from visrag_integrations.files import write_whole
from visrag_integrations.report import score_tables
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.failed_questions import FailedQuestions
from visrag_integrations.report.html_shell import html_file, html_piece
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.types import Page

PAGE_PIXELS = 400_000
"""Pixels of a page in the file: an A4 page 530 wide, whose headings and tables can be read. Three times as many make
the file of twenty failed questions about 10 MB."""
INLINE_PAGE_PIXELS = 120_000
"""The same in a notebook, which keeps every picture it shows."""
_INLINE_QUESTIONS = 3
_FOOTER = (
    "A 95 % interval says where the mean lies, by resampling the questions (bootstrap); it says nothing about other "
    "kinds of questions. Right boxes are green, boxes of the answer's evidence are orange and dashed."
)
_numbers = itertools.count(1)  # notebooks show a cell's old output beside the new one: no two displays share an id


@dataclass(frozen=True, repr=False)
class EvaluationReport:
    """Scores with intervals, groups, evidence, a comparison, and the failed questions with their pages.

    Attributes:
        result: From `evaluate_retrieval` or `evaluate_answers`.
        dataset: What was asked.
        pages: Where pages are looked up: those of the set or of the store (`store.scroll`); called when needed.
        other: A result to compare with, of the same questions.
        names: What the two are called.
        most_questions: Failed questions that are shown, the worst first.
        key: How the set names a page, where the evaluation was given a way of your own.

    >>> dataset = EvaluationSet("tiny", ())
    >>> "No question" in EvaluationReport(EvaluationResult("tiny", {}), dataset).html()
    True
    """

    result: EvaluationResult
    dataset: EvaluationSet
    pages: Callable[[], Iterable[Page]] | None = None
    other: EvaluationResult | None = None
    names: tuple[str, str] = ("this run", "the other")
    most_questions: int = 20
    key: PageKey = page_key

    def html(self) -> str:
        """The whole file: no script, nothing loaded from elsewhere; page pictures are inside."""
        pictures = ReportPictures("p", PAGE_PIXELS)
        body = self._body("f", pictures, self.most_questions)
        return html_file(f"Evaluation: {self.result.name}", body, pictures, _FOOTER)

    def save(self, path: str | Path) -> Path:
        """Write it, whole or not at all; gives the path."""
        write_whole(path, self.html().encode("utf-8"))
        return Path(path)

    def _repr_html_(self) -> str:
        name = f"e{next(_numbers)}-"
        pictures = ReportPictures(f"{name}p", INLINE_PAGE_PIXELS)
        return html_piece(self._body(name, pictures, min(_INLINE_QUESTIONS, self.most_questions)), pictures)

    def __repr__(self) -> str:
        """The tables as text."""
        lines = [str(self.result)]
        if self.other is not None:
            lines += ["", comparison_table(self._compared(), *self.names)]
        return "\n".join(lines)

    def _compared(self) -> list[Comparison]:
        """Every metric that both have, those of the evidence too."""
        if self.other is None:
            return []
        found = self.result.compare(self.other)
        if self.result.evidence is not None and self.other.evidence is not None:
            found += self.result.evidence.compare(self.other.evidence)
        return found

    def _results(self) -> list[tuple[str, EvaluationResult]]:
        if self.other is None:
            return [("", self.result)]
        return [(self.names[0], self.result), (self.names[1], self.other)]

    def _body(self, name: str, pictures: ReportPictures, most: int) -> str:
        results = self._results()
        parts = [_header(results), *_problems(self.result)]
        if self.result.per_query:
            parts.append(score_tables.score_table(results))
            if self.other is not None:
                parts.append(score_tables.comparison_section(self._compared(), *self.names))
            if any(result.run for _, result in results) and self.dataset.qrels:
                parts.append(score_tables.rank_table(results, self.dataset))
            parts.append(score_tables.group_tables(results))
            for label, result in results:
                parts.append(_titled(label, score_tables.more_tables(result)))
            parts.append(self._failed(name, pictures, most))
        return "\n".join(part for part in parts if part)

    def _failed(self, name: str, pictures: ReportPictures, most: int) -> str:
        failed = FailedQuestions(self.dataset, self._results(), pictures, name)
        questions = failed.questions()
        shown = questions[:most]
        if shown:
            pages: Iterable[Page] = self.dataset.pages
            if self.pages is not None:
                pages = self.pages()
            failed.find_pages(shown, pages, self.key)
            # What people marked in pixels becomes boxes here, of the few questions that are shown: pictures are opened.
            shown = list(self.dataset.only(shown).with_boxes().questions)
        said = f"{len(questions)} of {len(self.result.per_query)} questions failed"
        if self.other is not None:
            said += f" in {self.names[0]}"
        said += f" ({failed.rule})."
        if len(shown) < len(questions):
            said += f" The worst {len(shown)} are shown."
        articles = [failed.article(question, number) for number, question in enumerate(shown, start=1)]
        return "\n".join([f"<section><h2>Failed questions</h2>{score_tables.note(said)}", *articles, "</section>"])


def _header(results: Sequence[tuple[str, EvaluationResult]]) -> str:
    """What was measured, and how."""
    first = results[0][1]
    what = "How well are pages found?"
    if first.answers:
        what = "How well are questions answered?"
    lines = [_titled(label, f"<p>{escaped(result.title)}</p>") for label, result in results]
    title = f'<p class="label">{escaped(what)}</p><h1>{escaped(first.name)}</h1>'
    return f'<header class="title">{title}{"".join(lines)}</header>'


def _problems(result: EvaluationResult) -> list[str]:
    """What a reader of the numbers must know: what failed, and notes."""
    lines = [score_tables.note(text) for text in result.notes]
    if not result.per_query:
        lines.append(score_tables.note("No question could be asked."))
    if result.failed:
        rows: list[list[str | score_tables.Cell]] = [["Question", "Error"]]
        rows += [[failure.id, failure.error] for failure in result.failed]
        lines.append(score_tables.table("Questions that could not be asked: not in any number here", rows, "texts"))
    return lines


def _titled(label: str, html: str) -> str:
    """HTML below the name of the run it is of, where there are two."""
    if not label or not html:
        return html
    return f'<p class="label">{escaped(label)}</p>{html}'
