"""Answers and evaluations to look at: a self-contained HTML file, or a notebook's display, with outlined pages."""

from visrag_integrations.report.display import ShownAnswer, ShownPages, show
from visrag_integrations.report.evaluation_report import EvaluationReport
from visrag_integrations.report.html_page import answer_to_html, report
from visrag_integrations.report.page_pictures import PICTURE_PIXELS

__all__ = ["PICTURE_PIXELS", "EvaluationReport", "ShownAnswer", "ShownPages", "answer_to_html", "report", "show"]
