"""Answers as one self-contained HTML page: what was answered, on what evidence, and where it stands on the pages.

Everything shown is foreign text and is escaped; the page holds no script and may load nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from visrag_integrations.report.answer_sections import answer_section
from visrag_integrations.report.escaping import escaped, whole_characters
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.report.style import style
from visrag_integrations.types import Answer

_LONGEST_TITLE = 120  # characters of a question in the browser's tab

_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body class="visrag-page">
<div class="visrag">
{pictures}
<main>
{body}
</main>
<footer>{footer}</footer>
</div>
</body>
</html>
"""

_FOOTER = (
    "Made with visrag-integrations. Evidence is what the generator wrote; its words were looked for on its page, and\n"
    "what was found is outlined. A verdict says whether they stand there, not whether they are true."
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
    return html_page(title, _contents(questions) + "\n".join(sections), pictures, _FOOTER)


def html_page(title: str, body: str, pictures: ReportPictures, footer: str) -> str:
    """A whole HTML page.

    Args:
        title: For the browser's tab; not escaped.
        body: HTML, made before: what it shows stands in `pictures` then.
        pictures: Of the body.
        footer: HTML.
    """
    filled = _SHELL.format(
        title=escaped(title[:_LONGEST_TITLE]), style=style(), pictures=pictures.html(), body=body, footer=footer
    )
    return whole_characters(filled)


def _contents(questions: Sequence[str]) -> str:
    """Links to the questions, where there are several."""
    if len(questions) < 2:
        return ""
    links: list[str] = []
    for number, text in enumerate(questions, start=1):
        links.append(f'<li><a href="#q{number}">{escaped(text)}</a></li>')
    return f"<nav><h1>{len(questions)} questions</h1><ol>{''.join(links)}</ol></nav>\n"
