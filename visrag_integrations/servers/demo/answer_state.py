"""One question on its way to its answer: takes events or steps, and holds what can be shown so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from visrag_integrations.agent import Finish, Step
from visrag_integrations.generation.events import (
    AnswerReady,
    Event,
    EvidenceFound,
    PagesFound,
    SectionStarted,
    SectionText,
)
from visrag_integrations.grounding import ground
from visrag_integrations.servers.demo.conversation import KeptPage, KeptTurn, Outcome, evidence_of
from visrag_integrations.servers.demo.picture_uri import picture_uri
from visrag_integrations.servers.demo.shown_steps import ShownStep, kept_again, kept_step, shown_step
from visrag_integrations.types import Answer, Box, Evidence, Page, ScoredPage

# Why a model that searches by itself had to end, for people; "answered" needs no words.
_ENDED = {
    "turns": "It had used up its steps, and this is the best it had.",
    "tokens": "It had read and written as much as it may, and this is the best it had.",
    "pictures": "It had looked at as many pictures as it can take, and this is the best it had.",
    "context": "It had read as much as it can hold, and this is the best it had.",
}


@dataclass
class AnswerPage:
    """A page that the model was shown.

    Attributes:
        index: Its place among them, from 1.
        hit: The page and its score.
        uri: Its picture; "" where there is none.
        boxes: What is outlined on it, as fractions.
        entries: The numbers of the evidence from it, from 1 as the answer names them.
    """

    index: int
    hit: ScoredPage
    uri: str = ""
    boxes: tuple[Box, ...] = ()
    entries: tuple[int, ...] = ()

    @property
    def page(self) -> Page:
        return self.hit.page

    @property
    def outlined(self) -> int:
        """How many boxes are drawn on it."""
        return len(self.boxes)


@dataclass
class AnswerState:
    """What is known of an answer so far.

    Attributes:
        question: As it was asked.
        base: The knowledge base.
        searched: As it was searched for, where it was reworded; else "".
        quotes: Whether what answers takes passages as they are.
        model: The name of what answers.
        stage: What happens, in words; "" when nothing does any more.
        pages: The pages that were found, best first.
        text: The answer as far as it is written.
        evidence: As far as it was found.
        answer: The whole, at the end.
        steps: Of a model that searches by itself.
        ended: How it ended early: "stopped" or "failed"; "" while it goes on and when it ended well.
        note: A sentence about how it ended; "" where there is nothing to say.
    """

    question: str
    base: str = ""
    searched: str = ""
    quotes: bool = False
    model: str = ""
    stage: str = "Searching the pages …"
    pages: list[AnswerPage] = field(default_factory=list)
    text: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    answer: Answer | None = None
    steps: list[ShownStep] = field(default_factory=list)
    ended: Literal["", "stopped", "failed"] = ""
    note: str = ""

    def take(self, event: Event) -> bool:
        """Account for an event; True when the pages look different now."""
        match event:
            case PagesFound(pages):
                self._show_pages(pages)
                self.stage = f"Reading {len(pages)} {'page' if len(pages) == 1 else 'pages'} …"
                return True
            case AnswerReady(answer):
                self._finish(ground(answer))
                return True
            case SectionStarted("answer"):
                # A model may begin its answer twice: the last one counts.
                self.text, self.stage = "", "Answering …"
            case SectionText("answer", text):
                self.text += text
            case EvidenceFound(evidence):
                self.evidence.append(evidence)
        return False

    def take_step(self, step: Step, most: int) -> bool:
        """Account for a step of a model that searches by itself, of `most` turns; True at the last one."""
        if isinstance(step, Finish):
            self._show_pages(step.answer.pages)
            # Its thoughts and what was off stand beside the steps; the problems may name files of this machine.
            self._finish(ground(replace(step.answer, thinking="", problems=())))
            self.note = _ENDED.get(step.reason, "")
            return True
        shown = shown_step(step)
        if shown is not None:
            self.steps.append(shown)
        self.stage = f"Step {min(step.turn + 1, most)} of at most {most}: the model is thinking …"
        return False

    def end(self, how: Literal["stopped", "failed"], note: str) -> None:
        """It ends here; what was found so far stays."""
        self.ended, self.note, self.stage = how, note, ""

    def kept(self) -> KeptTurn:
        """What the browser keeps of it."""
        outcome: Outcome = "found"
        if self.ended:
            outcome = self.ended
        elif self.answer is None or not self.answer.sufficient:
            outcome = "nothing"
        return KeptTurn(
            self.base,
            self.question,
            self.searched,
            self.text,
            outcome,
            self.model,
            evidence_of(Answer("", evidence=tuple(self.evidence))),
            tuple(_kept_page(shown.hit) for shown in self.pages),
            tuple(map(kept_step, self.steps)),
        )

    @property
    def useful(self) -> list[Evidence]:
        """The evidence that is shown, in the order of its numbers."""
        return [entry for entry in self.evidence if entry.relevant]

    @classmethod
    def again(cls, turn: KeptTurn, pages: Mapping[str, Page], *, quotes: bool) -> AnswerState:
        """A kept turn as it was shown, with its pages from the index; a page that is gone is left out."""
        state = cls(turn.question, turn.base, turn.searched, quotes, turn.model, "")
        hits = hits_again(turn, pages)
        state._show_pages(hits)
        state.steps = [kept_again(step, pages.get(step.page)) for step in turn.steps]
        state._finish(answer_again(turn, hits))
        state.pages = [shown for shown in state.pages if not _is_gone(shown.page)]
        if turn.outcome == "stopped" or turn.outcome == "failed":
            state.end(turn.outcome, "It was not answered to its end.")
        return state

    def _show_pages(self, hits: Sequence[ScoredPage]) -> None:
        self.pages = []
        for place, hit in enumerate(hits, start=1):
            self.pages.append(AnswerPage(place, hit, picture_uri(hit.page)))

    def _finish(self, answer: Answer) -> None:
        """The whole answer in place of its parts, and the evidence outlined on the pages."""
        self.answer, self.text, self.evidence, self.stage = answer, answer.text, list(answer.evidence), ""
        for shown in self.pages:
            numbered = enumerate(self.useful, start=1)
            shown.entries = tuple(number for number, entry in numbered if entry.page_index == shown.index)
            here = []
            boxes: list[Box] = []
            for entry in self.evidence:
                if entry.page_index == shown.index and entry.grounding is not None:
                    here.append(entry)
                    boxes += entry.grounding.boxes
            if boxes:
                shown.boxes = tuple(boxes)
                shown.uri = picture_uri(shown.page, here)


def hits_again(turn: KeptTurn, pages: Mapping[str, Page]) -> list[ScoredPage]:
    """The pages of a kept turn in their old places: evidence names its page by its place."""
    hits: list[ScoredPage] = []
    for kept in turn.pages:
        page = pages.get(kept.id)
        if page is None:
            page = _GONE
        hits.append(ScoredPage(page, kept.score, kept.score_type))
    return hits


def answer_again(turn: KeptTurn, hits: Sequence[ScoredPage]) -> Answer:
    """The answer of a kept turn, its evidence checked again; `hits` as `hits_again` gives them."""
    evidence: list[Evidence] = []
    for kept in turn.evidence:
        page: Page | None = None
        if 1 <= kept.page <= len(hits) and not _is_gone(hits[kept.page - 1].page):
            page = hits[kept.page - 1].page
        evidence.append(Evidence(kept.page, kept.text, page=page))
    there = tuple(hit for hit in hits if not _is_gone(hit.page))
    return ground(Answer(turn.text, sufficient=turn.outcome == "found", evidence=tuple(evidence), pages=there))


_GONE = Page(doc_id="gone", number=1)
"""Stands in the place of a page whose document was removed."""


def _is_gone(page: Page) -> bool:
    return page is _GONE


def _kept_page(hit: ScoredPage) -> KeptPage:
    return KeptPage(hit.page.id, float(hit.score), hit.score_type)
