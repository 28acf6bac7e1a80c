"""`show(answer)`: in a notebook the pages with outlined evidence, in plain Python a text; saved, a file."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

from visrag_integrations.grounding import ground
from visrag_integrations.report.html import answer_to_html, fragment
from visrag_integrations.types import Answer, Evidence

_numbers = itertools.count(1)


@dataclass(frozen=True, repr=False)
class ShownAnswer:
    """An answer as notebooks display it.

    Attributes:
        answer: With the grounding of its evidence.
        question: "" when it was not given.
    """

    answer: Answer
    question: str = ""

    def _repr_html_(self) -> str:
        digest = hashlib.sha256(repr((self.question, self.answer.text)).encode("utf-8", "replace")).hexdigest()[:8]
        return fragment(self.question, self.answer, f"v{digest}-{next(_numbers)}-")

    def __repr__(self) -> str:
        """The answer, and each piece of evidence with its place and verdict."""
        lines = [self.question] if self.question else []
        lines.append(self.answer.text or "(no answer)")
        return "\n".join([*lines, *(_line(entry) for entry in self.answer.evidence if entry.relevant)])

    def save(self, path: str | Path) -> Path:
        """Write it as an HTML file of its own; gives the path."""
        target = Path(path)
        target.write_text(answer_to_html(self.question or self.answer.text, self.answer), encoding="utf-8")
        return target


def show(answer: Answer, question: str = "") -> ShownAnswer:
    """The answer with its evidence checked, ready to be looked at.

    As the last line of a notebook's cell it displays the pages with the evidence outlined on them, the verdicts and the
    answer. Elsewhere `print` it, or `show(answer).save("answer.html")`.

    >>> show(Answer("12"), "How many?")
    How many?
    12
    """
    return ShownAnswer(ground(answer), question)


def _line(entry: Evidence) -> str:
    place = f"image {entry.page_index}"
    if entry.page is not None:
        place = f"{entry.page.source or entry.page.doc_id}, page {entry.page.number}"
    found = entry.grounding
    note = "" if found is None or not found.note or found.verdict == "not found on the page" else f"; {found.note}"
    return f"[{entry.page_index}] {place}: {entry.text}  ({found.verdict if found else 'unchecked'}{note})"
