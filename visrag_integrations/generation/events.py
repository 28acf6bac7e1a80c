"""What happens while an answer is written, as typed events that a user interface can show one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visrag_integrations.types import Answer, Evidence, ScoredPage

Section = Literal["observe", "evidence", "think", "answer"]


@dataclass(frozen=True)
class PagesFound:
    """The pages the model is about to be shown, best first; always the first event of `VisRAG.stream`."""

    pages: tuple[ScoredPage, ...]


@dataclass(frozen=True)
class SectionStarted:
    """The model opened a section. A second `answer` replaces what was shown of the first."""

    section: Section


@dataclass(frozen=True)
class SectionText:
    """The next piece of the observation, the reasoning or the answer, as it was written."""

    section: Section
    text: str


@dataclass(frozen=True)
class EvidenceFound:
    """One evidence entry, complete."""

    evidence: Evidence


@dataclass(frozen=True)
class AnswerReady:
    """Everything, read as a whole; always the last event."""

    answer: Answer


Event = PagesFound | SectionStarted | SectionText | EvidenceFound | AnswerReady
