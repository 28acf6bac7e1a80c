"""Answers as one self-contained HTML page: what was answered, on what evidence, and where it stands on the pages.

Everything shown is foreign text and is escaped; the page holds no script and may load nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from visrag_integrations.report.answer_sections import answer_section
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.html_shell import html_file
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.types import Answer

_FOOTER = (
    "Evidence is what the generator wrote; its words were looked for on its page, and what was found is outlined. A "
    "verdict says whether they stand there, not whether they are true."
)


def answer_to_html(question: str, answer: Answer) -> str:
    """One answer as an HTML page of its own; see `report`."""
    return report([(question, answer)])


def report(answers: Sequence[tuple[str, Answer]]) -> str:
    """Questions and their answers as one HTML page; a page picture that several answers show is in it once.

    Evidence that has no grounding yet is checked against its page first.
    """
    pictures = ReportPictures()
    sections: list[str] = []
    for number, (question, answer) in enumerate(answers, start=1):
        sections.append(answer_section(f"q{number}", question, answer, pictures))
    questions = [question for question, _ in answers]
    title = f"{len(questions)} questions"
    if len(questions) == 1:
        title = questions[0]
    # The pictures last: the sections say which are needed.
    return html_file(title, _contents(questions) + "\n".join(sections), pictures, _FOOTER)


def _contents(questions: Sequence[str]) -> str:
    """Links to the questions, where there are several."""
    if len(questions) < 2:
        return ""
    links: list[str] = []
    for number, text in enumerate(questions, start=1):
        links.append(f'<li><a href="#q{number}">{escaped(text)}</a></li>')
    return f"<nav><h1>{len(questions)} questions</h1><ol>{''.join(links)}</ol></nav>\n"
