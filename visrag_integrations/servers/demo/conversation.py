"""A conversation as the visitor's own browser keeps it: what was asked and answered, by text and by the ids of pages.

The server keeps none of it, so no visitor can see what another one asked. What comes back from a browser may have been
changed there: everything is checked, cut to size, and shown as text.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from visrag_integrations.types import Answer

Outcome = Literal["found", "nothing", "stopped", "failed"]
"""How a question ended: with an answer, with "it is not there", by Stop, or by an error."""
StepKind = Literal["thought", "search", "look"]

VERSION = 1
# Browsers keep some 5 MB for a site, and every question sends the conversation along (`gate._BODY` is 1 MiB).
MOST_TURNS = 20
"""Questions that are kept; older ones are forgotten first."""
_MOST_BYTES = 400_000  # of all turns as JSON
_TEXT = 6000  # characters of one answer; longer than any that fits a screen
_NOTE = 1000  # characters of a question, a quotation, a thought
_SCORE_TYPE = 20  # characters: "cosine", "maxsim"
_MOST_PAGES = 20
_MOST_EVIDENCE = 20
_MOST_STEPS = 40


@dataclass(frozen=True)
class KeptEvidence:
    """One quotation: the place of its page among those that were read (from 1), and its words."""

    page: int
    text: str


@dataclass(frozen=True)
class KeptPage:
    """One page that was read: its id in the index, and the score of the search that found it."""

    id: str
    score: float = 0.0
    score_type: str = "cosine"


@dataclass(frozen=True)
class KeptStep:
    """One step of a model that searched by itself.

    Attributes:
        kind: What it did.
        text: What it thought or searched for; where it looked.
        page: The id of the page it was shown; "" for none.
        region: Which part of that page, as fractions; all of it when None.
    """

    kind: StepKind
    text: str
    page: str = ""
    region: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class KeptTurn:
    """One question and what came of it.

    Attributes:
        base: The knowledge base.
        question: As it was typed.
        searched: The question as it was searched for, where it was reworded; else "".
        text: The answer.
        outcome: How it ended.
        model: What answered.
        evidence: The quotations it rests on.
        pages: The pages that were read, best first.
        steps: Of a model that searched by itself.
    """

    base: str
    question: str
    searched: str = ""
    text: str = ""
    outcome: Outcome = "found"
    model: str = ""
    evidence: tuple[KeptEvidence, ...] = ()
    pages: tuple[KeptPage, ...] = ()
    steps: tuple[KeptStep, ...] = ()

    @property
    def meant(self) -> str:
        """The question as it can be understood alone."""
        return self.searched or self.question


def evidence_of(answer: Answer) -> tuple[KeptEvidence, ...]:
    """The quotations of an answer that are worth keeping."""
    kept: list[KeptEvidence] = []
    for entry in answer.evidence[:_MOST_EVIDENCE]:
        if entry.relevant:
            kept.append(KeptEvidence(entry.page_index, entry.text[:_NOTE]))
    return tuple(kept)


def read_conversation(value: Any) -> list[KeptTurn]:
    """The turns that a browser kept, oldest first; what is not in order is left out.

    >>> read_conversation({"version": 1, "turns": [{"base": "Tax", "question": "When?", "text": "In May."}, 7]})
    [KeptTurn(base='Tax', question='When?', searched='', text='In May.', outcome='found', model='', evidence=(), \
pages=(), steps=())]
    """
    if not isinstance(value, Mapping) or value.get("version") != VERSION:
        return []
    turns: list[KeptTurn] = []
    for one in _list(value.get("turns"))[-MOST_TURNS:]:
        if isinstance(one, Mapping) and _text(one.get("question"), _NOTE):
            turns.append(_turn(one))
    return turns


def kept_conversation(turns: Sequence[KeptTurn]) -> dict[str, Any]:
    """The turns for a browser to keep; the oldest are dropped where there are too many."""
    rows = [dataclasses.asdict(_cut(turn)) for turn in turns[-MOST_TURNS:]]
    while len(rows) > 1 and len(json.dumps(rows)) > _MOST_BYTES:
        del rows[0]
    return {"version": VERSION, "turns": rows}


def of_base(turns: Sequence[KeptTurn], base: str) -> list[KeptTurn]:
    """Those of one knowledge base."""
    return [turn for turn in turns if turn.base == base]


def _cut(turn: KeptTurn) -> KeptTurn:
    """The same, as long as it may be; also without halves of letters, which JSON cannot carry."""
    return _turn(json.loads(json.dumps(dataclasses.asdict(turn))))


def _turn(one: Mapping[str, Any]) -> KeptTurn:
    evidence: list[KeptEvidence] = []
    for found in _list(one.get("evidence"))[:_MOST_EVIDENCE]:
        if isinstance(found, Mapping) and type(found.get("page")) is int:
            evidence.append(KeptEvidence(found["page"], _text(found.get("text"), _NOTE)))
    steps: list[KeptStep] = []
    for step in _list(one.get("steps"))[:_MOST_STEPS]:
        if isinstance(step, Mapping) and step.get("kind") in get_args(StepKind):
            shown = _text(step.get("page"), _NOTE)
            steps.append(KeptStep(step["kind"], _text(step.get("text"), _NOTE), shown, _region(step.get("region"))))
    pages: list[KeptPage] = []
    for page in _list(one.get("pages"))[:_MOST_PAGES]:
        if isinstance(page, Mapping) and _text(page.get("id"), _NOTE):
            score_type = _text(page.get("score_type"), _SCORE_TYPE) or "cosine"
            pages.append(KeptPage(_text(page["id"], _NOTE), _score(page.get("score")), score_type))
    outcome = one.get("outcome", "found")
    return KeptTurn(
        _text(one.get("base"), _NOTE),
        _text(one.get("question"), _TEXT),
        _text(one.get("searched"), _NOTE),
        _text(one.get("text"), _TEXT),
        cast(Outcome, outcome) if outcome in get_args(Outcome) else "failed",
        _text(one.get("model"), _NOTE),
        tuple(evidence),
        tuple(pages),
        tuple(steps),
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        return []
    return list(value)


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str):
        return ""
    return value[:most].encode("utf-8", "replace").decode("utf-8")


def _score(value: Any) -> float:
    # JSON writes 1.0 as 1; true is no number.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    try:
        score = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return 0.0
    return score if math.isfinite(score) else 0.0


def _region(value: Any) -> tuple[float, float, float, float] | None:
    edges = _list(value)
    if len(edges) != 4 or not all(isinstance(edge, (int, float)) and 0 <= edge <= 1 for edge in edges):
        return None
    left, top, right, bottom = map(float, edges)
    if left >= right or top >= bottom:
        return None
    return left, top, right, bottom
