"""`show(...)`: in a notebook the pages, those of an answer with outlined evidence; in plain Python a text or a file."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from visrag_integrations.grounding import ground
from visrag_integrations.report.html import answer_to_html, fragment, pages_fragment
from visrag_integrations.types import Answer, Evidence, Page, ScoredPage

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


@dataclass(frozen=True, repr=False)
class ShownPages:
    """Pages as notebooks display them.

    Attributes:
        pages: As they were read, or found with their scores.
    """

    pages: tuple[Page | ScoredPage, ...]

    def _repr_html_(self) -> str:
        return pages_fragment(self.pages, f"v{next(_numbers)}-")

    def __repr__(self) -> str:
        """One line a page, with its place and score."""
        return "\n".join(map(_page_line, self.pages)) or "(no pages)"


@overload
def show(shown: Answer, question: str = "") -> ShownAnswer: ...
@overload
def show(shown: Page | ScoredPage | Iterable[Page | ScoredPage]) -> ShownPages: ...
def show(
    shown: Answer | Page | ScoredPage | Iterable[Page | ScoredPage], question: str = ""
) -> ShownAnswer | ShownPages:
    """An answer with its evidence checked, or pages, ready to be looked at.

    As the last line of a notebook's cell it displays the pages; those of an answer with the evidence outlined on them
    and the verdicts. Elsewhere `print` it, or `show(answer).save("answer.html")`.

    Args:
        shown: An answer, a page, or several: what a reader reads, what a retriever finds.
        question: What was asked, to be shown above an answer.

    >>> show(Answer("12"), "How many?")
    How many?
    12
    >>> show([Page("d", 1, source="a.pdf"), ScoredPage(Page("d", 2, source="a.pdf"), 0.25)])
    a.pdf, page 1
    a.pdf, page 2  (cosine 0.250)
    """
    if isinstance(shown, Answer):
        return ShownAnswer(ground(shown), question)
    return ShownPages((shown,) if isinstance(shown, (Page, ScoredPage)) else tuple(shown))


def _page_line(shown: Page | ScoredPage) -> str:
    page = shown.page if isinstance(shown, ScoredPage) else shown
    score = f"  ({shown.score_type} {shown.score:.3f})" if isinstance(shown, ScoredPage) else ""
    return f"{page.source or page.doc_id}, page {page.number}{score}"


def _line(entry: Evidence) -> str:
    place = f"image {entry.page_index}"
    if entry.page is not None:
        place = f"{entry.page.source or entry.page.doc_id}, page {entry.page.number}"
    found = entry.grounding
    note = "" if found is None or not found.note or found.verdict == "not found on the page" else f"; {found.note}"
    return f"[{entry.page_index}] {place}: {entry.text}  ({found.verdict if found else 'unchecked'}{note})"
