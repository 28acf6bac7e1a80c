"""Numbers in an answer that lead to its evidence: which sentence rests on which entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from visrag_integrations.grounding.claim import Claim
from visrag_integrations.types import Evidence

_SENTENCE = re.compile(r".+?(?:[.!?。！？]{1,20}(?=\s|$|[\"”’)\]])[\"”’)\]]*|(?<=[。！？])|(?=\n)|$)\s*", re.DOTALL)


class Cited(NamedTuple):
    """A piece of an answer.

    Attributes:
        text: With the space behind it.
        entries: Places of the evidence it rests on, from 1.
    """

    text: str
    entries: tuple[int, ...]


def cited(answer: str, useful: Sequence[Evidence]) -> list[Cited]:
    """The sentences of an answer, each with the evidence that holds its figures and names.

    What fits no sentence stands after the last one, so that every entry is named once at least. Only evidence that was
    found on its page is set beside a sentence: a number there looks like a proof.

    >>> from visrag_integrations.types import Grounding
    >>> found = Grounding("supported", 1.0)
    >>> entries = [Evidence(1, "The rent is 900 EUR.", grounding=found), Evidence(2, "It rains.", grounding=found)]
    >>> [(piece.text, piece.entries) for piece in cited("It costs 900 EUR. Yes.", entries)]
    [('It costs 900 EUR. ', (1,)), ('Yes.', (2,))]
    """
    sentences = _SENTENCE.findall(answer) or [answer]
    holds = [_letters(entry.text) for entry in useful]
    pieces: list[Cited] = []
    named: set[int] = set()
    for sentence in sentences:
        wanted = _figures_and_names(sentence)
        entries: list[int] = []
        for place, (entry, letters) in enumerate(zip(useful, holds, strict=True), start=1):
            if wanted and wanted <= letters and _is_found(entry):
                entries.append(place)
        # A sentence that was quoted whole rests on its own source alone: that another one names "Debian" too proves
        # nothing.
        quoted: list[int] = []
        for place in entries:
            if _one_line(sentence) in _one_line(useful[place - 1].text):
                quoted.append(place)
        entries = quoted or entries
        named.update(entries)
        pieces.append(Cited(sentence, tuple(entries)))
    rest = tuple(place for place in range(1, len(useful) + 1) if place not in named)
    last = pieces[-1]
    pieces[-1] = Cited(last.text, (*last.entries, *rest))
    return pieces


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_found(entry: Evidence) -> bool:
    return entry.grounding is not None and entry.grounding.verdict in ("supported", "in the speaker notes")


def _letters(text: str) -> set[str]:
    """All that a text says, token by token, as grounding compares them."""
    claim = Claim.of(text)
    return {claim.letters[token.start : token.end] for token in claim.tokens}


def _figures_and_names(sentence: str) -> set[str]:
    """What must stand in the evidence of a sentence; its first word is written large whatever it is."""
    claim = Claim.of(sentence)
    wanted: set[str] = set()
    for place, token in enumerate(claim.tokens):
        begins = place == 0 and token.kind == "name" and not token.raw.isupper()
        if token.exact and token.kind in ("number", "name") and not begins:
            wanted.add(claim.letters[token.start : token.end])
    return wanted
