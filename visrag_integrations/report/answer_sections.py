"""One question with its answer, the evidence, the other pages, and what the model wrote beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from visrag_integrations.grounding import ground
from visrag_integrations.report.citations import cited
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.evidence_articles import evidence_article, evidence_line
from visrag_integrations.report.page_cards import card_row, page_card
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.report.page_places import place_of
from visrag_integrations.report.verdict_signs import tally
from visrag_integrations.types import Answer, Evidence, Page

# Pieces of evidence that are shown as they are; more of them are one line each until somebody opens it.
_SHOWN_OPEN = 3


def answer_section(name: str, question: str, answer: Answer, pictures: ReportPictures) -> str:
    """One answer; evidence that has no grounding yet is checked against its page first.

    Args:
        name: The section's id; all ids in it begin with it.
        question: "" to leave it out.
        answer: Grounded or not.
        pictures: Of the file; those of the answer's pages are added.
    """
    if any(entry.relevant and entry.grounding is None for entry in answer.evidence):
        answer = ground(answer)
    state = "unanswered"
    if answer.sufficient:
        state = "answered"
    # What the model says to be of no use is shown small, below.
    useful = [entry for entry in answer.evidence if entry.relevant]
    parts = [f'<section id="{name}" class="{state}">', _question(question), _answer_text(name, answer, useful)]
    for place, entry in enumerate(useful, start=1):
        article = evidence_article(f"{name}e{place}", place, entry, pictures)
        if place > _SHOWN_OPEN:
            article = f'<details class="more"><summary>{evidence_line(place, entry)}</summary>{article}</details>'
        parts.append(article)
    parts += [
        _other_pages(name, answer, pictures),
        _folded("Reasoning", answer.thinking),
        _folded("What the model noted on each page", answer.observation),
        _problems(answer.problems),
        "</section>",
    ]
    return "\n".join(filter(None, parts))


def _question(question: str) -> str:
    if not question:
        return ""
    return f'<header><p class="label">Question</p><h2>{escaped(question)}</h2></header>'


def _answer_text(name: str, answer: Answer, useful: Sequence[Evidence]) -> str:
    """The answer, with numbers that lead to its evidence."""
    text = answer.text or "The model gave no answer."
    counted = ""
    if not _only_quotes(answer):
        counted = tally(answer.evidence)
    said: list[str] = []
    for piece in cited(text, useful):
        marks = ""
        for place in piece.entries:
            marks += _mark(name, place)
        # Before the space that follows the sentence.
        whole = piece.text.rstrip()
        said.append(f"{escaped(whole)}{marks}{escaped(piece.text[len(whole) :])}")
    return (
        f'<div class="answer"><h3 class="label">{_label(answer)}</h3><p class="text">{"".join(said)}</p>{counted}</div>'
    )


def _mark(name: str, place: int) -> str:
    return f'<a class="cite" href="#{name}e{place}a" aria-label="Evidence {place}">[{place}]</a>'


def _label(answer: Answer) -> str:
    """What the text is: a generator that only quotes has understood nothing."""
    if not answer.sufficient:
        return "No answer in these pages"
    if _only_quotes(answer):
        return "Best passage"
    return "Answer"


def _only_quotes(answer: Answer) -> bool:
    """Whether the answer is one of its own quotations, or is none: a count of what was found would praise it.

    Where a generator only quotes, all of it stands on the page, whatever was asked.
    """
    if not answer.sufficient:
        return True
    said = " ".join(answer.text.split())
    return any(said == " ".join(entry.text.split()) for entry in answer.evidence if entry.relevant)


class OtherPage(NamedTuple):
    """A page that gave nothing."""

    name: str  # its id in the file
    number: int  # its place among those shown, from 1
    page: Page | None
    said: str  # by the model, of this page


def _other_pages(name: str, answer: Answer, pictures: ReportPictures) -> str:
    """The pages that were shown and gave nothing, small, in the order in which they were shown."""
    others = _said_to_be_useless(name, answer) + _without_evidence(name, answer)
    others.sort(key=lambda other: other.number)
    cards: list[str] = []
    for other in others:
        place = place_of(other.page, other.number)
        figure = ""
        if other.page is not None:
            figure = pictures.figure(other.page, place)
        cards.append(page_card(other.name, figure, escaped(place), escaped(other.said)))
    if not cards:
        return ""
    return card_row(cards, heading='<h3 class="label">Also looked at</h3>')


def _said_to_be_useless(name: str, answer: Answer) -> list[OtherPage]:
    """Those of which the model says that they hold nothing."""
    others: list[OtherPage] = []
    for entry in answer.evidence:
        if not entry.relevant:
            others.append(OtherPage(f"{name}n{len(others)}", entry.page_index, entry.page, entry.text))
    return others


def _without_evidence(name: str, answer: Answer) -> list[OtherPage]:
    """Those of which the model says nothing at all."""
    mentioned = {entry.page_index for entry in answer.evidence}
    others: list[OtherPage] = []
    for index, hit in enumerate(answer.pages, start=1):
        if index not in mentioned:
            others.append(OtherPage(f"{name}s{index}", index, hit.page, ""))
    return others


def _folded(title: str, text: str) -> str:
    """Text that is shown when its title is clicked."""
    if not text:
        return ""
    return f"<details><summary>{title}</summary><p>{escaped(text)}</p></details>"


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    items = ""
    for problem in problems:
        items += f"<li>{escaped(problem)}</li>"
    return f'<details class="problems"><summary>Warnings ({len(problems)})</summary><ul>{items}</ul></details>'
