"""Answers and evaluations to look at: a self-contained HTML file, or a notebook's display, with outlined pages.

Names are resolved when they are asked for: pages that were found need nothing of what shows an evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.report.display import ShownAnswer, ShownPages, show
    from visrag_integrations.report.evaluation_report import EvaluationReport
    from visrag_integrations.report.found_pages import passages_of, search_to_html
    from visrag_integrations.report.html_page import answer_to_html, report
    from visrag_integrations.report.live_answer import show_live
    from visrag_integrations.report.page_pictures import PICTURE_PIXELS

_HOMES = {
    "PICTURE_PIXELS": "page_pictures",
    "EvaluationReport": "evaluation_report",
    "ShownAnswer": "display",
    "ShownPages": "display",
    "answer_to_html": "html_page",
    "passages_of": "found_pages",
    "report": "html_page",
    "search_to_html": "found_pages",
    "show": "display",
    "show_live": "live_answer",
}

__all__ = [
    "PICTURE_PIXELS",
    "EvaluationReport",
    "ShownAnswer",
    "ShownPages",
    "answer_to_html",
    "passages_of",
    "report",
    "search_to_html",
    "show",
    "show_live",
]


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return list(__all__)
