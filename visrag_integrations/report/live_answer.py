"""`show_live(...)`: an answer in a notebook's cell while it is written; a card that fills, then the finished one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.generation.events import (
    AnswerReady,
    Event,
    EvidenceFound,
    PagesFound,
    Section,
    SectionStarted,
    SectionText,
)
from visrag_integrations.progress_bars import in_notebook
from visrag_integrations.report.display import ShownAnswer, show
from visrag_integrations.report.escaping import escaped
from visrag_integrations.report.html_shell import html_piece
from visrag_integrations.report.page_pictures import ReportPictures
from visrag_integrations.report.page_places import place_of
from visrag_integrations.types import Answer, Evidence

# Seconds between two drawings of a text that grows. A model writes up to a hundred pieces a second, and each drawing is
# sent whole (the card with its style, some 20 kB): a slow line would lag behind. Much longer, and the text comes in
# jerks.
_EVERY = 0.15
_DOING: dict[Section, str] = {
    "observe": "Looking at the pages",
    "evidence": "Writing down what they say",
    "think": "Thinking",
    "answer": "Answering",
}


def show_live(events: Iterable[Event], question: str = "") -> Answer:
    """Show an answer while it is written: the pages first, then evidence, reasoning and answer as they come.

    At its end the card is that of `show(answer)`. Outside of a notebook the finished answer is printed.

    Args:
        events: Of `VisRAG.stream`.
        question: What was asked, to be shown above.

    Returns:
        The answer. `answer = show_live(...)` keeps a notebook from showing it twice.
    """
    cell = _Cell() if in_notebook() else None
    card = LiveCard(question)
    answer = Answer("")
    try:
        for event in events:
            card.take(event)
            if isinstance(event, AnswerReady):
                answer = event.answer
            elif cell is not None:
                cell.follow(event, card)
    except BaseException:
        if cell is not None:
            cell.draw(card)  # what was written until it was stopped
        raise
    finished = show(answer, question)
    if cell is None:
        sys.stdout.write(f"{finished!r}\n")
    else:
        cell.finish(finished)
    return answer


@dataclass
class LiveCard:
    """What was written so far.

    Attributes:
        question: "" when it was not given.
        doing: What the model is at.
        texts: What was written in each section.
        evidence: The entries that are complete.
    """

    question: str = ""
    doing: str = "Searching"
    texts: dict[Section, str] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Add what happened."""
        if isinstance(event, PagesFound):
            pages = "page" if len(event.pages) == 1 else "pages"
            self.doing = f"Reading {len(event.pages)} {pages}"
        elif isinstance(event, SectionStarted):
            self.doing = _DOING[event.section]
            self.texts[event.section] = ""  # a second answer is one in place of the first
        elif isinstance(event, SectionText):
            self.texts[event.section] = self.texts.get(event.section, "") + event.text
        elif isinstance(event, EvidenceFound):
            self.evidence.append(event.evidence)

    def html(self) -> str:
        """The card as it is now, for a page of somebody else's."""
        parts = [f'<p class="label">{escaped(self.doing)} …</p>']
        if self.question:
            parts.append(f"<h2>{escaped(self.question)}</h2>")
        parts.append(self._noted("observe"))
        for entry in self.evidence:
            if entry.relevant:
                place = escaped(place_of(entry.page, entry.page_index))
                parts.append(f'<p class="place"><b>{place}</b></p><blockquote>{escaped(entry.text)}</blockquote>')
        parts.append(self._noted("think"))
        said = self.texts.get("answer", "").strip()
        if said:
            text = f'<p class="text" aria-live="polite">{escaped(said)}</p>'
            parts.append(f'<div class="answer"><p class="label">Answer</p>{text}</div>')
        return html_piece(f'<section class="answered">{"".join(parts)}</section>', ReportPictures())

    def _noted(self, section: Section) -> str:
        text = self.texts.get(section, "").strip()
        if not text:
            return ""
        return f'<p class="note">{escaped(text)}</p>'


class _Cell:
    """A notebook's cell: the card on top, the pages below, which are sent once because their pictures are large."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._card: Any = display(HTML(""), display_id=True)
        self._pages: Any = display(HTML(""), display_id=True)
        self._drawn = 0.0

    def follow(self, event: Event, card: LiveCard) -> None:
        """Draw the card; where only text was added, not if it was drawn just now."""
        if isinstance(event, PagesFound):
            self._pages.update(show(event.pages))
        # Stages and evidence are few, and one that is left out would be missing until the next piece of text comes.
        if not isinstance(event, SectionText) or time.monotonic() - self._drawn >= _EVERY:
            self.draw(card)

    def draw(self, card: LiveCard) -> None:
        """Draw the card."""
        self._drawn = time.monotonic()
        self._card.update(self._html(card.html()))

    def finish(self, answer: ShownAnswer) -> None:
        """The finished answer in place of both; it has the pages that matter."""
        self._pages.update(self._html(""))
        self._card.update(answer)
