"""Answers and pages as pieces of HTML for a page of somebody else's, such as a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from visrag_integrations.report.answer_sections import answer_section
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.html_shell import html_piece
from visrag_integrations.report.page_cards import card_row, page_card
from visrag_integrations.report.page_pictures import INLINE_PIXELS, ReportPictures
from visrag_integrations.report.page_places import place_of, score_html
from visrag_integrations.types import Answer, Page, ScoredPage


def inline_answer(question: str, answer: Answer, name: str) -> str:
    """One answer as a piece of HTML; its style reaches nothing outside of it.

    Args:
        question: "" to leave it out.
        answer: Grounded or not.
        name: What the ids in it begin with: another one for every piece on the same page.
    """
    pictures = ReportPictures(name, INLINE_PIXELS)
    section = answer_section(name, question, answer, pictures)
    return html_piece(section, pictures)


def inline_pages(pages: Sequence[Page | ScoredPage], name: str) -> str:
    """Pages side by side, small, as a piece of HTML; a click enlarges one.

    Args:
        pages: As they were read or found.
        name: What the ids in it begin with: another one for every piece on the same page.
    """
    pictures = ReportPictures(name, INLINE_PIXELS)
    cards: list[str] = []
    for number, shown in enumerate(pages, start=1):
        page, score = _page_and_score(shown)
        place = place_of(page, number)
        cards.append(page_card(f"{name}c{number}", pictures.figure(page, place), f"{escaped(place)} {score}"))
    return html_piece(card_row(cards, css_class="others found-pages"), pictures)


def _page_and_score(shown: Page | ScoredPage) -> tuple[Page, str]:
    """The page, and its score as HTML where it was found by a search."""
    if isinstance(shown, ScoredPage):
        return shown.page, score_html(shown)
    return shown, ""
