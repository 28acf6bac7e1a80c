"""What is around the content of an HTML file: one file, without a script, that loads nothing from elsewhere."""

from __future__ import annotations

from visrag_integrations.report.escaping import escaped, whole_characters
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.report.style import style

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
<footer>Made with visrag-integrations. {footer}</footer>
</div>
</body>
</html>
"""


def html_file(title: str, body: str, pictures: ReportPictures, footer: str) -> str:
    """A whole HTML file.

    Args:
        title: Plain text.
        body: HTML; whatever is foreign in it is escaped.
        pictures: Those that the body shows.
        footer: Plain text.
    """
    filled = _SHELL.format(
        title=escaped(title[:_LONGEST_TITLE]),
        style=style(),
        pictures=pictures.html(),
        body=body,
        footer=escaped(footer),
    )
    return whole_characters(filled)


def html_piece(body: str, pictures: ReportPictures) -> str:
    """A piece for a page of somebody else's; its style reaches nothing outside of it."""
    return whole_characters(
        f'<div class="visrag visrag-inline">\n<style>\n{style()}</style>\n{pictures.html()}\n{body}\n</div>'
    )
