"""Where a page is from, as people say it, and how well it was found."""

from __future__ import annotations

from visrag_integrations.generation.shown_pages import file_name
from visrag_integrations.report.escaping import escaped
from visrag_integrations.scores.shown import shown_score
from visrag_integrations.types import Page, ScoredPage


def place_of(page: Page | None, index: int) -> str:
    """Document and page, with the page's printed number where it has another one; not escaped.

    Args:
        page: The page; None where it is not known.
        index: The image's place among those shown, from 1; said where no page is known.

    >>> place_of(None, 2)
    'image 2'
    >>> place_of(Page("d", 3, source="reports/tax.pdf", metadata={"page_label": "iii"}), 2)
    'tax.pdf, page 3 (iii)'
    >>> place_of(Page("d", 1, source="c:\\\\reports\\\\tax.pdf"), 1)
    'tax.pdf, page 1'
    """
    if page is None:
        return f"image {index}"
    place = f"{file_name(page)}, page {page.number}"
    label = page.metadata.get("page_label")
    if isinstance(label, str) and label and label != str(page.number):
        return f"{place} ({label})"
    return place


def score_html(hit: ScoredPage) -> str:
    """The score that a search gave the page; its kind, a word of this field, in the tooltip."""
    title = f"how well the page fits, among those of this search ({escaped(hit.score_type)})"
    return f'<span class="score" title="{title}">score {shown_score(hit.score)}</span>'
