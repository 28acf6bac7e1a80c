"""A run as HTML: turn by turn what was thought and done, the pages that were shown, and where the model looked closer.

Everything shown is foreign text and is escaped; there is no script, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from itertools import groupby

from visrag_integrations import images
from visrag_integrations.agent.recorded_run import RecordedRun
from visrag_integrations.agent.steps import Crop, Finish, SearchStep, Shown, Step, Thought
from visrag_integrations.generation.shown_pages import file_name
from visrag_integrations.images.urls import data_url
from visrag_integrations.scores.shown import shown_score
from visrag_integrations.types import Box, Page

_QUALITY = 85  # of the JPEGs: small print stays readable; the page holds every picture of the run
BoxesByPicture = dict[tuple[str, Box], list[tuple[int, Box]]]
"""Picture (the id of its page, and which part of it) -> turns, and the box that each gave on it."""
# `Trace.reason` for people.
_ENDED = {
    "answered": "answered",
    "turns": "the turns were used up",
    "tokens": "the token budget was used up",
    "pictures": "the generator takes no more pictures",
    "context": "the context was full",
}
# No script may run and nothing is loaded: the browser holds the page to it, whatever the model wrote.
_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
</head>
<body style="margin:0">
{body}
</body>
</html>
"""


def trace_page(trace: RecordedRun) -> str:
    """The run as an HTML page of its own."""
    return _SHELL.format(title=_escaped(trace.question[:120]), body=trace_fragment(trace))


def trace_fragment(trace: RecordedRun) -> str:
    """The run as a part of a page, such as a notebook's output; its style touches nothing else."""
    style = resources.files("visrag_integrations.agent").joinpath("trace.css").read_text(encoding="utf-8")
    boxes = _boxes_looked_at(trace.steps)
    turns = []
    for number, steps in groupby(trace.steps, key=lambda step: step.turn):
        turns.append(_turn(number, list(steps), boxes))
    listed = "\n".join(turns)
    return f'<div class="visrag-trace"><style>\n{style}</style>\n{_head(trace)}\n<ol>\n{listed}\n</ol></div>'


def _head(trace: RecordedRun) -> str:
    answer = trace.answer
    label, style = "No answer", "answer none"
    if answer.sufficient:
        label = "Best answer so far"
    if answer.sufficient and trace.reason == "answered":
        label, style = "Answer", "answer"
    text = answer.text or "The model gave no answer."
    seen = ""
    if answer.pages:
        names = "".join(f"<li>{_escaped(_page_name(hit.page))}</li>" for hit in answer.pages)
        seen = f'<p class="label">Pages it saw</p><ul class="pages">{names}</ul>'
    return (
        f'<header><p class="label">Question</p><h2>{_escaped(trace.question)}</h2></header>'
        f'<div class="{style}"><p class="label">{label}</p>'
        f'<p class="text">{_escaped(text)}</p>{seen}<p class="how">{_escaped(_how(trace))}</p></div>'
    )


def _how(trace: RecordedRun) -> str:
    """How the run went, on one line."""
    crops = sum(not shown.whole for shown in trace.shown)
    parts = [_counted(len(trace.turns), "turn"), _counted(len(trace.answer.pages), "page"), _counted(crops, "close-up")]
    tokens = trace.usage.input_tokens + trace.usage.output_tokens
    if tokens:
        parts.append(f"{tokens} tokens")
    if trace.problems:
        parts.append(_counted(len(trace.problems), "problem"))
    if trace.reason:
        parts.append(_ENDED[trace.reason])
    else:
        parts.append("not finished")
    return " · ".join(parts)


def _turn(number: int, steps: Sequence[Step], boxes: BoxesByPicture) -> str:
    """One turn: what was said on the left, what was shown on the right."""
    said = ""
    figures = ""
    problems = ""
    for step in steps:
        said += _said(step)
        for problem in step.observation.problems:
            problems += f'<p class="problem">{_escaped(problem.text)}</p>'
        if isinstance(step, Finish):
            continue  # it repeats all pages
        for shown in step.observation.shown:
            figures += _figure(shown, boxes.get((shown.page.page.id, shown.region), []))
    return f'<li><span class="number">{number}</span><div class="said">{said}{problems}</div>{figures}</li>'


def _said(step: Step) -> str:
    if isinstance(step, Thought):
        if not step.text:
            return ""
        return f'<p class="thought">{_escaped(step.text)}</p>'
    if isinstance(step, Finish):
        if step.reason == "answered":
            return _action("Answer", step.answer.text)
        return _action("End", step.answer.text)
    if isinstance(step, SearchStep):
        said = _action("Search", step.query)
    else:
        said = _action("Look closer", step.written)
    if not step.observation.shown and not step.observation.problems:
        said += '<p class="note">Nothing new was found.</p>'
    return said


def _action(name: str, text: str) -> str:
    return f'<p class="action"><span>{name}</span> {_escaped(text)}</p>'


def _figure(shown: Shown, boxes: Sequence[tuple[int, Box]]) -> str:
    """The picture as the model saw it, with the boxes of later turns on it; a click enlarges it."""
    name = _page_name(shown.page.page)
    if shown.picture is None:
        return f"<figure><figcaption><b>{_escaped(name)}</b><br/>shown as its text</figcaption></figure>"
    marks = "".join(_mark(turn, box) for turn, box in boxes)
    source = data_url(images.encode(images.to_rgb(shown.picture), "JPEG", _QUALITY))
    kind = "close-up of "
    score = ""
    if shown.whole:
        kind = ""
        score = f" · score {shown_score(shown.page.score)}"
    width, height = shown.size
    return (
        f'<figure><label><input type="checkbox" aria-label="Enlarge"/><span class="picture">'
        f'<img src="{source}" alt="{_escaped(kind + name)}" width="{width}" height="{height}"/>{marks}'
        f"</span></label><figcaption>{kind}<b>{_escaped(name)}</b><br/>"
        f"{width} × {height} pixels{score}</figcaption></figure>"
    )


def _mark(turn: int, box: Box) -> str:
    left, top, right, bottom = [100 * edge for edge in box]
    # In per cent, so that the mark stays in its place when the picture is enlarged.
    place = f"left:{left:.2f}%;top:{top:.2f}%;width:{right - left:.2f}%;height:{bottom - top:.2f}%"
    return f'<span class="box" style="{place}"><i>{turn}</i></span>'


def _boxes_looked_at(steps: Sequence[Step]) -> BoxesByPicture:
    """For each picture the turns that looked closer, and where on the picture."""
    found: BoxesByPicture = {}
    # A box of the model is always on the last picture it was shown.
    last: Shown | None = None
    for step in steps:
        for shown in step.observation.shown:
            # The box as it was carried out, with its padding: not as the model wrote it.
            if isinstance(step, Crop) and last is not None:
                key = (last.page.page.id, last.region)
                found.setdefault(key, []).append((step.turn, _within(shown.region, last.region)))
            if shown.picture is not None:
                last = shown
    return found


def _within(inner: Box, outer: Box) -> Box:
    """The inner part of a page as fractions of the outer one.

    >>> _within((0.5, 0.5, 0.75, 0.75), (0.5, 0.5, 1.0, 1.0))
    (0.0, 0.0, 0.5, 0.5)
    """
    width, height = outer[2] - outer[0], outer[3] - outer[1]
    left = (inner[0] - outer[0]) / width
    top = (inner[1] - outer[1]) / height
    right = (inner[2] - outer[0]) / width
    bottom = (inner[3] - outer[1]) / height
    return left, top, right, bottom


def _page_name(page: Page) -> str:
    return f"{file_name(page)}, page {page.number}"


def _counted(count: int, what: str) -> str:
    if count == 1:
        return f"1 {what}"
    return f"{count} {what}s"


def _escaped(text: str) -> str:
    # Model text may hold half a character, which no file can be written with.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return html.escape(whole, quote=True)
