"""Answers as one self-contained HTML page: what was answered, on what evidence, and where it stands on the pages.

Everything shown is foreign text and is escaped; the page holds no script and may load nothing from elsewhere.
"""

from __future__ import annotations

import base64
import html
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from visrag_integrations import images
from visrag_integrations.errors import PictureError, printable
from visrag_integrations.grounding import ground
from visrag_integrations.types import Answer, Box, Evidence, Grounding, Page, ScoredPage, Verdict

logger = logging.getLogger(__name__)

PICTURE_PIXELS = 1_200_000
"""Pixels of a page's picture in the report; larger ones are scaled down."""
INLINE_PIXELS = 600_000
"""The same inside a notebook, which keeps every picture it shows."""
JPEG_QUALITY = 80

VERDICTS: dict[Verdict, tuple[str, str, str]] = {
    "supported": ("supported", "\u2713", "Supported by the page"),
    "partly": ("partly", "\u25d0", "Partly supported"),
    "not found on the page": ("unfound", "\u2715", "Not found on the page"),
    "unchecked": ("unchecked", "\u2013", "Not checked"),
}
"""CSS class, sign and words of a verdict: never told by its colour alone."""

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
<footer>Made with visrag-integrations. Evidence is what the generator wrote; its words were looked for on its page, and
what was found is outlined. A verdict says whether they stand there, not whether they are true.</footer>
</div>
</body>
</html>
"""


def answer_to_html(question: str, answer: Answer) -> str:
    """One answer as an HTML page of its own; see `report`."""
    return report([(question, answer)])


def report(answers: Sequence[tuple[str, Answer]]) -> str:
    """Questions and their answers as one HTML page; a page picture that several answers show is in it once.

    Evidence that has no grounding yet is checked against its page first.
    """
    pictures = Pictures()
    sections = [
        _answer(f"q{number}", question, answer, pictures) for number, (question, answer) in enumerate(answers, 1)
    ]
    contents = _contents([question for question, _ in answers]) if len(answers) > 1 else ""
    title = answers[0][0] if len(answers) == 1 else f"{len(answers)} questions"
    filled = _SHELL.format(
        title=_escaped(title[:120]), style=style(), pictures=pictures.html(), body=contents + "\n".join(sections)
    )
    return whole_characters(filled)


def fragment(question: str, answer: Answer, name: str) -> str:
    """One answer as a piece of HTML for a page of somebody else's; its style reaches nothing outside of it.

    Args:
        question: "" to leave it out.
        answer: Grounded or not.
        name: What the ids in it begin with: another one for every piece on the same page.
    """
    pictures = Pictures(name, INLINE_PIXELS)
    return _inline(_answer(name, question, answer, pictures), pictures)


def pages_fragment(pages: Sequence[Page | ScoredPage], name: str) -> str:
    """Pages side by side, small, as a piece of HTML for a page of somebody else's; a click enlarges one.

    Args:
        pages: As they were read or found.
        name: What the ids in it begin with: another one for every piece on the same page.
    """
    pictures = Pictures(name, INLINE_PIXELS)
    cards = []
    for number, shown in enumerate(pages, 1):
        page = shown.page if isinstance(shown, ScoredPage) else shown
        score = _score(shown) if isinstance(shown, ScoredPage) else ""
        place = _place(page, number)
        cards.append(_card(f"{name}c{number}", pictures.figure(page, place), f"{_escaped(place)} {score}"))
    return _inline(f'<div class="others found-pages"><ul>{"".join(cards)}</ul></div>', pictures)


def _inline(body: str, pictures: Pictures) -> str:
    return whole_characters(
        f'<div class="visrag visrag-inline">\n<style>\n{style()}</style>\n{pictures.html()}\n{body}\n</div>'
    )


def style() -> str:
    """The style of reports; every rule of it is about what is inside an element of the class "visrag"."""
    return resources.files("visrag_integrations.report").joinpath("report.css").read_text(encoding="utf-8")


def whole_characters(html: str) -> str:
    """The text without half characters, which a model may write and no file can hold."""
    return html.encode("utf-8", "replace").decode("utf-8")


@dataclass
class Pictures:
    """The page pictures of a report, each once."""

    name: str = "p"
    pixels: int = PICTURE_PIXELS
    found: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # page id -> data URI, width, height
    missing: dict[str, str] = field(default_factory=dict)  # page id -> why there is none

    def figure(self, page: Page, label: str, grounding: Grounding | None = None) -> str:
        """The page's picture with what was found outlined on it, or a note that there is none."""
        self._open(page)
        if page.id in self.missing:
            return f'<p class="missing">No picture: {_escaped(self.missing[page.id])}</p>'
        _, width, height = self.found[page.id]
        marks = _marks(grounding, width, height)
        return (
            f'<svg class="page" viewBox="0 0 {width} {height}" role="img" aria-label="{_escaped(label)}">'
            f'<use href="#{self.name}{page.id}"/>{marks}</svg>'
        )

    def close_up(self, page: Page, label: str, grounding: Grounding | None) -> str:
        """The part of the page around the first boxes, large enough to read; "" where there is nothing to show."""
        boxes = grounding.boxes if grounding is not None else ()
        if not boxes or page.id not in self.found:
            return ""
        _, width, height = self.found[page.id]
        top = max(0.0, boxes[0][1] - 0.02)
        bottom = min(1.0, top + 0.25, max(box[3] for box in boxes if box[1] >= boxes[0][1]) + 0.02)
        left = max(0.0, min((word.box[0] for word in page.words), default=0.0) - 0.02)  # as wide as the text
        right = min(1.0, max((word.box[2] for word in page.words), default=1.0) + 0.02)
        if not left < right:
            return ""
        view = f"{left * width:.1f} {top * height:.1f} {(right - left) * width:.1f} {(bottom - top) * height:.1f}"
        return (
            f'<svg class="page closeup" viewBox="{view}" role="img" aria-label="Close-up of {_escaped(label)}">'
            f'<use href="#{self.name}{page.id}"/>{_marks(grounding, width, height)}</svg>'
        )

    def html(self) -> str:
        """The pictures themselves, drawn nowhere until a figure uses them."""
        drawn = [
            f'<image id="{self.name}{page_id}" href="{uri}" width="{width}" height="{height}"/>'
            for page_id, (uri, width, height) in self.found.items()
        ]
        return '<svg class="store" aria-hidden="true"><defs>\n' + "\n".join(drawn) + "\n</defs></svg>"

    def _open(self, page: Page) -> None:
        if page.id in self.found or page.id in self.missing:
            return
        try:
            picture = images.fit(images.to_rgb(page.open_image()), self.pixels)
            data = base64.b64encode(images.encode(picture, "JPEG", JPEG_QUALITY)).decode("ascii")
            self.found[page.id] = f"data:image/jpeg;base64,{data}", picture.width, picture.height
        except (PictureError, OSError) as error:
            logger.warning(
                "The report shows no picture of page %d of %s: %s", page.number, printable(page.source), error
            )
            self.missing[page.id] = str(error)


def _contents(questions: Sequence[str]) -> str:
    links = "".join(f'<li><a href="#q{number}">{_escaped(text)}</a></li>' for number, text in enumerate(questions, 1))
    return f"<nav><h1>{len(questions)} questions</h1><ol>{links}</ol></nav>\n"


def _answer(name: str, question: str, answer: Answer, pictures: Pictures) -> str:
    if any(entry.relevant and entry.grounding is None for entry in answer.evidence):
        answer = ground(answer)
    said = {entry.page_index for entry in answer.evidence}
    silent = [(i, hit) for i, hit in enumerate(answer.pages, start=1) if i not in said]
    useful = [entry for entry in answer.evidence if entry.relevant]
    useless = [entry for entry in answer.evidence if not entry.relevant]
    parts = [
        f'<section id="{name}" class="{"answered" if answer.sufficient else "unanswered"}">',
        f'<header><p class="label">Question</p><h2>{_escaped(question)}</h2></header>' if question else "",
        _answer_text(answer),
        *(_evidence(f"{name}e{place}", entry, answer, pictures) for place, entry in enumerate(useful, start=1)),
        _others(name, useless, silent, pictures),
        _fold("Reasoning", answer.thinking),
        _fold("Observation", answer.observation),
        _problems(answer.problems),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _answer_text(answer: Answer) -> str:
    label = "Answer" if answer.sufficient else "No answer"
    text = answer.text or "The model gave no answer."
    verdicts = [entry.grounding.verdict for entry in answer.evidence if entry.grounding is not None]
    counts = [
        f'<li class="{kind}"><span aria-hidden="true">{sign}</span> {verdicts.count(verdict)} {verdict}</li>'
        for verdict, (kind, sign, _) in VERDICTS.items()
        if verdict in verdicts
    ]
    tally = f'<ul class="tally" aria-label="Evidence">{"".join(counts)}</ul>' if counts else ""
    return f'<div class="answer"><p class="label">{label}</p><p class="text">{_escaped(text)}</p>{tally}</div>'


def _evidence(name: str, entry: Evidence, answer: Answer, pictures: Pictures) -> str:
    """One relevant entry: what was found beside the page it was found on."""
    page, found = entry.page, entry.grounding
    place = _place(page, entry.page_index)
    figure = pictures.figure(page, place, found) if page is not None else ""
    close_up = pictures.close_up(page, place, found) if page is not None else ""
    zoom = f'<input type="checkbox" id="{name}" aria-label="Enlarge the page"><label for="{name}">{figure}</label>'
    return (
        f'<article>\n<div class="picture">{zoom if page is not None else ""}</div>\n<div class="found">'
        f'<div class="head"><p class="label">Evidence {entry.page_index}</p>{_badge(found)}</div>'
        f'<p class="place">{_source(page, entry, answer)}</p>'
        f"<blockquote>{_quotation(entry)}</blockquote>{_explained(entry)}{close_up}</div>\n</article>"
    )


def _badge(found: Grounding | None) -> str:
    if found is None:
        return ""
    kind, sign, words = VERDICTS[found.verdict]
    share = "" if found.verdict == "unchecked" else f'<span class="share">{found.support:.0%}</span>'
    return f'<p class="badge {kind}"><span aria-hidden="true">{sign}</span> {words}{share}</p>'


def _quotation(entry: Evidence) -> str:
    """The evidence's words; those that are not on the page are marked, where others are."""
    found = entry.grounding
    if found is None or found.verdict != "partly":
        return _escaped(entry.text)
    parts, last = [], 0
    for start, end in found.missing:
        parts.append(_escaped(entry.text[last:start]))
        parts.append(f'<span class="absent" title="not there on the page">{_escaped(entry.text[start:end])}</span>')
        last = end
    return "".join([*parts, _escaped(entry.text[last:])])


def _explained(entry: Evidence) -> str:
    """What a reader needs beside the verdict."""
    found = entry.grounding
    if found is None or (not found.note and (found.boxes or found.verdict == "not found on the page")):
        return ""
    reason = "" if found.verdict == "not found on the page" else found.note
    if not found.boxes and found.verdict in ("supported", "partly"):
        reason += ("; " if reason else "") + "not outlined: the page came without word positions"
    return f'<p class="note">{_escaped(reason[:1].upper() + reason[1:])}.</p>' if reason else ""


def _others(
    name: str, useless: Sequence[Evidence], silent: Sequence[tuple[int, ScoredPage]], pictures: Pictures
) -> str:
    """The pages that were shown and gave nothing, small."""
    shown: list[tuple[str, Page | None, int, str]] = []
    shown += [(f"{name}n{i}", entry.page, entry.page_index, entry.text) for i, entry in enumerate(useless)]
    shown += [(f"{name}s{i}", hit.page, i, "") for i, hit in silent]
    cards = []
    for card, page, index, text in sorted(shown, key=lambda card: card[2]):
        figure = pictures.figure(page, _place(page, index)) if page is not None else ""
        cards.append(_card(card, figure, _escaped(_place(page, index)), _escaped(text)))
    if not cards:
        return ""
    return f'<div class="others"><p class="label">Also looked at</p><ul>{"".join(cards)}</ul></div>'


def _card(name: str, figure: str, place: str, note: str = "") -> str:
    """A small page; what stands below it is HTML already."""
    below = f'<p class="place">{place}</p>' + (f'<p class="note">{note}</p>' if note else "")
    return (
        f'<li><input type="checkbox" id="{name}" aria-label="Enlarge the page"><label for="{name}">{figure}</label>'
        f"{below}</li>"
    )


def _fold(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary><p>{_escaped(text)}</p></details>" if text else ""


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{_escaped(problem)}</li>" for problem in problems)
    return f'<details class="problems"><summary>What was off ({len(problems)})</summary><ul>{items}</ul></details>'


def _source(page: Page | None, entry: Evidence, answer: Answer) -> str:
    """Document, page and score as HTML."""
    score = ""
    if page is not None and 1 <= entry.page_index <= len(answer.pages):
        score = _score(answer.pages[entry.page_index - 1])
    return f"<b>{_escaped(_place(page, entry.page_index))}</b> {score}"


def _score(hit: ScoredPage) -> str:
    return f'<span class="score" title="retrieval score">{_escaped(hit.score_type)} {hit.score:.3g}</span>'


def _place(page: Page | None, index: int) -> str:
    """Document and page as people say it, or the image's place where no page is known.

    >>> _place(None, 2)
    'image 2'
    """
    if page is None:
        return f"image {index}"
    name = page.source.replace("\\\\", "/").rstrip("/").rpartition("/")[2] or page.source or page.doc_id
    label = _label(page.metadata)
    return f"{name}, page {page.number}" + (f" ({label})" if label and label != str(page.number) else "")


def _label(metadata: Mapping[str, object]) -> str:
    label = metadata.get("page_label")
    return label if isinstance(label, str) else ""


def _marks(grounding: Grounding | None, width: int, height: int) -> str:
    """Rectangles around what was found, drawn as the verdict is."""
    if grounding is None:
        return ""
    kind = VERDICTS[grounding.verdict][0]
    return f'<g class="{kind}">' + "".join(_mark(box, width, height) for box in grounding.boxes) + "</g>"


def _mark(box: Box, width: int, height: int) -> str:
    """A rectangle a little larger than the box."""
    left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in box)
    margin = 0.004 * width
    return (
        f'<rect x="{left * width - margin:.1f}" y="{top * height - margin:.1f}" rx="{margin:.1f}" '
        f'width="{(right - left) * width + 2 * margin:.1f}" height="{(bottom - top) * height + 2 * margin:.1f}"/>'
    )


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
