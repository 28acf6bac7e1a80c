"""One question on its way to its answer: events in, what can be shown so far out."""

from __future__ import annotations

from dataclasses import dataclass, field

from visrag_integrations.generation.events import (
    AnswerReady,
    Event,
    EvidenceFound,
    PagesFound,
    SectionStarted,
    SectionText,
)
from visrag_integrations.grounding import ground
from visrag_integrations.servers.demo.picture_uri import picture_uri
from visrag_integrations.types import Answer, Evidence, Page, ScoredPage


@dataclass
class ShownPage:
    """A page the model was shown.

    Attributes:
        index: Its place among them, from 1.
        hit: The page and its score.
        uri: Its picture; "" where there is none.
        outlined: How many boxes are drawn on it.
    """

    index: int
    hit: ScoredPage
    uri: str = ""
    outlined: int = 0

    @property
    def page(self) -> Page:
        return self.hit.page


@dataclass
class AnswerState:
    """What is known of an answer so far.

    Attributes:
        question: As it was asked.
        stage: What happens, in words; "" when all is done.
        pages: The pages that were found, best first.
        text: The answer as far as it is written.
        evidence: As far as it was found.
        answer: The whole, at the end.
    """

    question: str
    stage: str = "Searching the pages …"
    pages: list[ShownPage] = field(default_factory=list)
    text: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    answer: Answer | None = None

    def take(self, event: Event) -> bool:
        """Account for an event; True when the pages look different now."""
        if isinstance(event, PagesFound):
            self.pages = [ShownPage(i, hit, picture_uri(hit.page)) for i, hit in enumerate(event.pages, start=1)]
            self.stage = f"Reading {len(self.pages)} page{'' if len(self.pages) == 1 else 's'} …"
            return True
        if isinstance(event, AnswerReady):
            self.answer = ground(event.answer)
            self.text, self.evidence = self.answer.text, list(self.answer.evidence)
            self.stage = ""
            self._outline()
            return True
        if isinstance(event, SectionStarted) and event.section == "answer":
            self.text, self.stage = "", "Answering …"
        elif isinstance(event, SectionText) and event.section == "answer":
            self.text += event.text
        elif isinstance(event, EvidenceFound):
            self.evidence.append(event.evidence)
        return False

    def _outline(self) -> None:
        for shown in self.pages:
            here = [entry for entry in self.evidence if entry.page_index == shown.index and entry.grounding is not None]
            shown.outlined = sum(len(entry.grounding.boxes) for entry in here if entry.grounding is not None)
            if shown.outlined:
                shown.uri = picture_uri(shown.page, here)
