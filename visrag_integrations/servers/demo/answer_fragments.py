"""An answer as HTML: its text and evidence, the steps that led to it, the pages, and what was asked before it."""

from __future__ import annotations

from collections.abc import Sequence

from visrag_integrations.report.citations import cited
from visrag_integrations.report.verdict_signs import VERDICTS
from visrag_integrations.servers.demo.answer_state import AnswerPage, AnswerState
from visrag_integrations.servers.demo.conversation import KeptTurn
from visrag_integrations.servers.demo.fragments import count, escaped, place
from visrag_integrations.servers.demo.shown_steps import ShownStep
from visrag_integrations.types import Box, Evidence

_QUOTED_NOTHING = "No passage shares enough words with your question. Try the words that the document would use."
_WROTE_NOTHING = (
    "The pages that were read do not hold it. Ask in other words, or let more pages be read (under Settings)."
)
_STEP_NAMES = {"thought": "Thought", "search": "Searched for", "look": "Looked closer at"}


def answer(state: AnswerState) -> str:
    """The answer as far as it is known, and the evidence."""
    done = state.answer
    kind, label = _kind_and_label(state)
    parts = [
        f'<h2 class="vr-question" dir="auto">{escaped(state.question)}</h2>',
        _searched(state.searched),
        f'<h3 class="vr-label vr-stage">{escaped(label)}</h3>',
        _text(state),
    ]
    if state.note:
        role = ' role="alert"' if state.ended == "failed" else ""
        parts.append(f'<p class="vr-ended"{role}>{escaped(state.note)}</p>')
    if state.useful:
        items = "".join(_evidence(number, entry) for number, entry in enumerate(state.useful, start=1))
        parts.append(f'<h3 class="vr-label">Evidence</h3><ul class="vr-evidence">{items}</ul>')
    # The rest is for who wants to know why; it is folded away.
    if done is not None:
        if not state.quotes:  # that one compares words: it saw nothing, and thought nothing
            parts.append(_fold("Reasoning", done.thinking))
            parts.append(_fold("What the model noted on each page", done.observation))
        parts.append(_fold("Warnings", "\n".join(done.problems)))
    # While it is written, a screen reader would read every version of it.
    busy = ' aria-busy="true"' if state.stage else ""
    return f'<section class="vr-answer {kind}" aria-live="polite"{busy}>{"".join(parts)}</section>'


def steps(state: AnswerState) -> str:
    """What a model that searches by itself did; "" where none does."""
    if not state.steps:
        return ""
    items = "".join(map(_step, state.steps))
    return f'<section class="vr-steps"><h3 class="vr-label">How it was searched</h3><ol>{items}</ol></section>'


def pages(shown: Sequence[AnswerPage]) -> str:
    """The pages that were read, as pictures to look closer at."""
    if not shown:
        return ""
    figures = "".join(map(_figure, shown))
    return f'<section class="vr-pages"><h3 class="vr-label">Pages that were read</h3><div>{figures}</div></section>'


def earlier(turns: Sequence[KeptTurn]) -> str:
    """What was asked before, newest first, folded; "" where nothing was."""
    if not turns:
        return ""
    items = "".join(map(_earlier_turn, reversed(turns)))
    return f'<section class="vr-earlier"><h3 class="vr-label">Earlier in this conversation</h3>{items}</section>'


def opener(inner: str, title: str, box: Box | None = None, *, page: int | None = None, kind: str = "vr-look") -> str:
    """A button that opens a picture at a place on it.

    Args:
        inner: What it shows: the picture itself, or words.
        title: What stands above the opened picture.
        box: The place, as fractions.
        page: The picture's place among the pages that were read; None where the button holds the picture.
        kind: Its CSS class.
    """
    at = ""
    if box is not None:
        at = f' data-vr-left="{box[0]:.4f}" data-vr-right="{box[2]:.4f}" data-vr-middle="{(box[1] + box[3]) / 2:.4f}"'
    which = "" if page is None else f' data-vr-page="{page}"'
    return (
        f'<button type="button" class="{kind}" data-vr-open="{escaped(title)}"{which}{at} '
        f'aria-label="Open {escaped(title)}">{inner}</button>'
    )


def _kind_and_label(state: AnswerState) -> tuple[str, str]:
    """The CSS class of an answer, and what stands above its text."""
    if state.ended == "stopped":
        return "vr-stopped", "Stopped"
    if state.ended == "failed":
        return "vr-none", "This did not work"
    if state.answer is None:
        return "vr-open", state.stage
    if state.answer.sufficient:
        return "vr-done", "Best passage" if state.quotes else "Answer"
    return "vr-none", "No passage fits" if state.quotes else "No answer in these pages"


def _searched(searched: str) -> str:
    if not searched:
        return ""
    return f'<p class="vr-searched" dir="auto">Understood as: <b>{escaped(searched)}</b></p>'


def _text(state: AnswerState) -> str:
    done = state.answer
    # Models say "insufficient to answer", which tells nobody what to do.
    if done is not None and not done.sufficient and not state.ended:
        return f'<p class="vr-text">{_QUOTED_NOTHING if state.quotes else _WROTE_NOTHING}</p>'
    if state.text:
        said = escaped(state.text)
        if done is not None and not state.ended:  # before that, evidence is not checked
            said = _with_numbers(done.text, state.useful)
        return f'<p class="vr-text" dir="auto">{said}</p>'
    if state.stage:
        return '<p class="vr-wait"></p>'
    if state.ended:
        return ""
    return '<p class="vr-text">The model gave no answer.</p>'


def _with_numbers(text: str, useful: Sequence[Evidence]) -> str:
    """The text as HTML, each sentence with the numbers of the evidence that it rests on; a click leads there."""
    said: list[str] = []
    for piece in cited(text, useful):
        marks = "".join(map(_mark, piece.entries))
        sentence = piece.text.rstrip()
        said.append(f"{escaped(sentence)}{marks}{escaped(piece.text[len(sentence) :])}")
    return "".join(said)


def _mark(number: int) -> str:
    # No link: it would change the address, and Back would lead through every number that was clicked.
    return (
        f'<button type="button" class="vr-cite" data-vr-evidence="{number}" '
        f'aria-label="Go to evidence {number}">[{number}]</button>'
    )


def _evidence(number: int, entry: Evidence) -> str:
    where = f"page {entry.page_index}"
    badge = f'<span class="vr-number">{number}</span>'
    quotation = f'<blockquote dir="auto">{escaped(entry.text)}</blockquote>'
    named = f'<p class="vr-place" dir="auto">{escaped(where)}</p>'
    if entry.page is not None:
        where = place(entry.page.source, entry.page.number)
        box = entry.grounding.boxes[0] if entry.grounding is not None and entry.grounding.boxes else None
        words = f'{escaped(where)} <span class="vr-open-word">Open page</span>'
        named = opener(words, where, box, page=entry.page_index, kind="vr-place vr-jump")
    # It can be jumped to, by keyboard too, and is no stop of the Tab key itself.
    shown = f"<div>{named}{quotation}{_verdict(entry)}</div>"
    return f'<li id="vr-e{number}" tabindex="-1">{badge}{shown}</li>'


def _verdict(entry: Evidence) -> str:
    """Whether it stands on its page; nothing while that is not known."""
    found = entry.grounding
    if found is None:  # evidence is checked when the answer is whole
        return ""
    kind, sign, words = VERDICTS[found.verdict]
    note = ""
    # The note lists what is missing; where nothing was found, that is the whole text, which stands there already.
    if found.note and found.verdict != "not found on the page":
        note = f" <span>{escaped(found.note)}</span>"
    return f'<p class="vr-verdict vr-{kind}"><b><span aria-hidden="true">{sign}</span> {words}</b>{note}</p>'


def _figure(shown: AnswerPage) -> str:
    title = place(shown.page.source, shown.page.number)
    where = description = escaped(title)
    kind = "vr-page"
    if shown.outlined:
        description += f", {count(shown.outlined, 'place')} outlined"
        kind += " vr-outlined"
    picture = '<span class="vr-missing">no picture</span>'
    if shown.uri:
        box = shown.boxes[0] if shown.boxes else None
        image = f'<img src="{shown.uri}" alt="{description}" data-vr-place="{shown.index}">'
        picture = opener(image, title, box)
    badges = "".join(f'<span class="vr-number">{number}</span>' for number in shown.entries)
    return (
        f'<figure class="{kind}">{picture}<figcaption>{badges}'
        f'<span class="vr-name" dir="auto" title="{where}">{where}</span></figcaption></figure>'
    )


def _step(step: ShownStep) -> str:
    name = f'<span class="vr-step-name">{_STEP_NAMES[step.kind]}</span>'
    said = escaped(step.text.strip())
    title = ""
    if step.page is not None:
        title = place(step.page.source, step.page.number)
    if step.kind == "look":
        said = escaped(f"a part of {title}" if title else "a part of the page")  # not its numbers, which help nobody
    elif step.kind == "search":
        said = f"“{said}”"
    notes = "".join(f'<p class="vr-note">{escaped(note)}</p>' for note in step.notes)
    picture = ""
    if step.uri:
        shown_as = f"close-up of {title}" if step.kind == "look" else title
        image = f'<img src="{step.uri}" alt="{escaped(shown_as)}">'
        caption = f'<figcaption class="vr-name">{escaped(shown_as)}</figcaption>'
        picture = f'<figure class="vr-page">{opener(image, shown_as)}{caption}</figure>'
    elif title and step.kind == "search":
        picture = f'<p class="vr-note">{escaped(title)}, read as text</p>'
    return f'<li class="vr-step vr-step-{step.kind}"><div dir="auto"><p>{name}{said}</p>{notes}</div>{picture}</li>'


def _earlier_turn(turn: KeptTurn) -> str:
    text = {"stopped": "Stopped.", "failed": "This did not work.", "nothing": "No answer was found."}
    shown = turn.text if turn.outcome == "found" else text[turn.outcome]
    quotes = "".join(f'<blockquote dir="auto">{escaped(entry.text)}</blockquote>' for entry in turn.evidence)
    return (
        f'<details class="vr-turn"><summary dir="auto">{escaped(turn.question)}</summary>{_searched(turn.searched)}'
        f'<p class="vr-text" dir="auto">{escaped(shown)}</p>{quotes}</details>'
    )


def _fold(title: str, text: str) -> str:
    if not text.strip():
        return ""
    return f'<details><summary>{title}</summary><p dir="auto">{escaped(text.strip())}</p></details>'
