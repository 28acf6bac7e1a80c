"""Answers and evaluations to look at: a self-contained HTML file, or a notebook's display, with outlined pages."""

from visrag_integrations.report.display import ShownAnswer, ShownPages, show
from visrag_integrations.report.evaluation_report import EvaluationReport
from visrag_integrations.report.found_pages import passages_of, search_to_html
from visrag_integrations.report.html_page import answer_to_html, report
from visrag_integrations.report.live_answer import show_live
from visrag_integrations.report.page_pictures import PICTURE_PIXELS

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
