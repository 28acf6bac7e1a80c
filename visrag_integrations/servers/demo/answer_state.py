"""One question on its way to its answer: takes events, and holds what can be shown so far."""

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
class AnswerPage:
    """A page that the model was shown.

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
    pages: list[AnswerPage] = field(default_factory=list)
    text: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    answer: Answer | None = None

    def take(self, event: Event) -> bool:
        """Account for an event; True when the pages look different now."""
        match event:
            case PagesFound(pages):
                self.pages = [AnswerPage(i, hit, picture_uri(hit.page)) for i, hit in enumerate(pages, start=1)]
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

    def _finish(self, answer: Answer) -> None:
        """The whole answer in place of its parts, and the evidence outlined on the pages."""
        self.answer, self.text, self.evidence, self.stage = answer, answer.text, list(answer.evidence), ""
        for shown in self.pages:
            here = []
            for entry in self.evidence:
                if entry.page_index == shown.index and entry.grounding is not None:
                    here.append(entry)
                    shown.outlined += len(entry.grounding.boxes)
            if shown.outlined:
                shown.uri = picture_uri(shown.page, here)
