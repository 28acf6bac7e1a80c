"""What a search found, to look at: each page with the passage of it that fits the query best, outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from visrag_integrations.generation.passages import best_passages
from visrag_integrations.grounding import ground_text
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.html_shell import html_file
from visrag_integrations.report.page_cards import zoomable
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.report.page_places import place_of
from visrag_integrations.types import Grounding, Page, ScoredPage

_FOOTER = "Beside each page stands the passage that shares most words with the query; it is outlined on the page."


class FoundPassage(NamedTuple):
    """The passage of a page that fits a query best.

    Attributes:
        text: On one line; "" where the page shares no word with the query, or has no text.
        grounding: Where it stands on the page; None where there is no passage.
    """

    text: str
    grounding: Grounding | None = None


def passages_of(query: str, hits: Sequence[ScoredPage]) -> list[FoundPassage]:
    """The best passage of each page, in order; by the words it shares with the query.

    >>> passages_of("who pays", [ScoredPage(Page("d", 1, text="Ann pays the rent. It rains."), 0.5)])[0].text
    'Ann pays the rent.'
    """
    found: list[FoundPassage] = []
    best = best_passages(query, [hit.page.text for hit in hits])
    for passage, hit in zip(best, hits, strict=True):
        if passage is None:
            found.append(FoundPassage(""))
        else:
            found.append(FoundPassage(passage.text, ground_text(hit.page, passage.text)))
    return found


def search_to_html(query: str, hits: Sequence[ScoredPage]) -> str:
    """What a search found as one self-contained HTML page, best first; nothing in it is loaded from elsewhere."""
    pictures = ReportPictures()
    articles: list[str] = []
    for rank, (passage, hit) in enumerate(zip(passages_of(query, hits), hits, strict=True), start=1):
        articles.append(_article(rank, hit.page, passage, pictures))
    found = "\n".join(articles) or "<p>No page was found.</p>"
    heading = f'<header><p class="label">Search</p><h1>{escaped(query)}</h1></header>'
    return html_file(query, f'<section id="found">{heading}\n{found}\n</section>', pictures, _FOOTER)


def _article(rank: int, page: Page, passage: FoundPassage, pictures: ReportPictures) -> str:
    """The page at the left, and at the right the passage with a close-up."""
    place = place_of(page, rank)
    figure = zoomable(f"found{rank}", pictures.figure(page, place, passage.grounding))
    said = '<p class="note">No words of the query are in the text of this page.</p>'
    if passage.text:
        said = f"<blockquote>{escaped(passage.text)}</blockquote>"
    return (
        f'<article>\n<div class="picture">{figure}</div>\n<div class="found"><p class="label">Result {rank}</p>'
        f'<p class="place"><b>{escaped(place)}</b></p>{said}'
        f"{pictures.close_up(page, place, passage.grounding)}</div>\n</article>"
    )
