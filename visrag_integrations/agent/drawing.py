"""A run as HTML: turn by turn what was thought and done, the pages that were shown, and where the model looked closer.

Everything shown is foreign text and is escaped; there is no script, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from itertools import groupby

from visrag_integrations import images
from visrag_integrations.agent.run_record import RunRecord
from visrag_integrations.agent.steps import Crop, Finish, Problem, Search, Shown, Step, Thought
from visrag_integrations.images.urls import data_url
from visrag_integrations.types import Box, Page

_QUALITY = 85
_ENDED = {
    "answered": "answered",
    "turns": "the turns were used up",
    "tokens": "the token budget was used up",
    "pictures": "the generator takes no more pictures",
    "context": "the context was full",
}
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


def trace_page(trace: RunRecord) -> str:
    """The run as an HTML page of its own."""
    return _SHELL.format(title=_escaped(trace.question[:120]), body=trace_fragment(trace))


def trace_fragment(trace: RunRecord) -> str:
    """The run as a part of a page, such as a notebook's output; its style touches nothing else."""
    style = resources.files("visrag_integrations.agent").joinpath("trace.css").read_text(encoding="utf-8")
    boxes = _looked_at(trace.steps)
    turns = [_turn(number, list(steps), boxes) for number, steps in groupby(trace.steps, key=lambda step: step.turn)]
    return (
        f'<div class="visrag-trace"><style>\n{style}</style>\n{_head(trace)}\n<ol>\n'
        + "\n".join(turns)
        + "\n</ol></div>"
    )


def _head(trace: RunRecord) -> str:
    answer = trace.answer
    sure = answer.sufficient and trace.reason == "answered"
    label = "Answer" if sure else "Best answer so far" if answer.sufficient else "No answer"
    text = answer.text or "The model gave no answer."
    names = "".join(f"<li>{_escaped(_place(hit.page))}</li>" for hit in answer.pages)
    seen = f'<p class="label">Pages it saw</p><ul class="pages">{names}</ul>' if names else ""
    return (
        f'<header><p class="label">Question</p><h2>{_escaped(trace.question)}</h2></header>'
        f'<div class="answer{"" if sure else " none"}"><p class="label">{label}</p>'
        f'<p class="text">{_escaped(text)}</p>{seen}<p class="how">{_escaped(_how(trace))}</p></div>'
    )


def _how(trace: RunRecord) -> str:
    """How the run went, on one line."""
    crops = sum(not shown.whole for shown in trace.shown)
    parts = [_counted(len(trace.turns), "turn"), _counted(len(trace.answer.pages), "page"), _counted(crops, "close-up")]
    used = trace.usage
    if used.input_tokens or used.output_tokens:
        parts.append(f"{used.input_tokens + used.output_tokens} tokens")
    if trace.problems:
        parts.append(_counted(len(trace.problems), "problem"))
    ended = _ENDED[trace.reason] if trace.reason else "not finished"
    return " · ".join([*parts, ended])


def _turn(number: int, steps: Sequence[Step], boxes: dict[tuple[str, Box], list[tuple[int, Box]]]) -> str:
    """One turn: what was said on the left, what was shown on the right."""
    said = "".join(_said(step) for step in steps)
    shown = [shown for step in steps if not isinstance(step, Finish) for shown in step.observation.shown]
    figures = "".join(_figure(one, boxes.get((one.page.page.id, one.region), [])) for one in shown)
    problems = "".join(_problem(one) for step in steps for one in step.observation.problems)
    return f'<li><span class="number">{number}</span><div class="said">{said}{problems}</div>{figures}</li>'


def _said(step: Step) -> str:
    if isinstance(step, Thought):
        return f'<p class="thought">{_escaped(step.text)}</p>' if step.text else ""
    if isinstance(step, Search):
        what, text = "Search", step.query
    elif isinstance(step, Crop):
        what, text = "Look closer", step.written
    else:
        what, text = ("Answer" if step.reason == "answered" else "End"), step.answer.text
    found = bool(step.observation.shown) or isinstance(step, Finish)
    nothing = "" if found or step.observation.problems else '<p class="note">Nothing new was found.</p>'
    return f'<p class="action"><span>{what}</span> {_escaped(text)}</p>{nothing}'


def _problem(problem: Problem) -> str:
    return f'<p class="problem">{_escaped(problem.text)}</p>'


def _figure(shown: Shown, boxes: Sequence[tuple[int, Box]]) -> str:
    """The picture as the model saw it, with the boxes of later turns on it; a click enlarges it."""
    place = _place(shown.page.page)
    if shown.picture is None:
        return f"<figure><figcaption><b>{_escaped(place)}</b><br/>shown as its text</figcaption></figure>"
    marks = "".join(_mark(turn, box) for turn, box in boxes)
    source = data_url(images.encode(images.to_rgb(shown.picture), "JPEG", _QUALITY))
    score = f" · {_escaped(shown.page.score_type)} {shown.page.score:.3g}" if shown.whole else ""
    kind = "" if shown.whole else "close-up of "
    return (
        f'<figure><label><input type="checkbox" aria-label="Enlarge"/><span class="picture">'
        f'<img src="{source}" alt="{_escaped(kind + place)}" width="{shown.size[0]}" height="{shown.size[1]}"/>{marks}'
        f"</span></label><figcaption>{kind}<b>{_escaped(place)}</b><br/>"
        f"{shown.size[0]} × {shown.size[1]} pixels{score}</figcaption></figure>"
    )


def _mark(turn: int, box: Box) -> str:
    left, top, right, bottom = (100 * edge for edge in box)
    place = f"left:{left:.2f}%;top:{top:.2f}%;width:{right - left:.2f}%;height:{bottom - top:.2f}%"
    return f'<span class="box" style="{place}"><i>{turn}</i></span>'


def _looked_at(steps: Sequence[Step]) -> dict[tuple[str, Box], list[tuple[int, Box]]]:
    """For each picture (its page and the part of it) the turns that looked closer, and where on the picture."""
    found: dict[tuple[str, Box], list[tuple[int, Box]]] = {}
    last: Shown | None = None
    for step in steps:
        for shown in step.observation.shown:
            if isinstance(step, Crop) and last is not None:
                key = (last.page.page.id, last.region)
                found.setdefault(key, []).append((step.turn, _within(shown.region, last.region)))
            last = shown if shown.picture is not None else last
    return found


def _within(inner: Box, outer: Box) -> Box:
    """The inner part of a page as fractions of the outer one.

    >>> _within((0.5, 0.5, 0.75, 0.75), (0.5, 0.5, 1.0, 1.0))
    (0.0, 0.0, 0.5, 0.5)
    """
    width, height = outer[2] - outer[0], outer[3] - outer[1]
    left, right = ((edge - outer[0]) / width for edge in (inner[0], inner[2]))
    top, bottom = ((edge - outer[1]) / height for edge in (inner[1], inner[3]))
    return left, top, right, bottom


def _place(page: Page) -> str:
    name = page.source.replace("\\", "/").rstrip("/").rpartition("/")[2] or page.source or page.doc_id
    return f"{name}, page {page.number}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _escaped(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)  # it may hold half a character
