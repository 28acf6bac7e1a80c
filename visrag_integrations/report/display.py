"""`show(...)`: in a notebook the pages, those of an answer with outlined evidence; in plain Python a text or a file."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from visrag_integrations.files import write_whole
from visrag_integrations.grounding import ground
from visrag_integrations.report.html_page import answer_to_html
from visrag_integrations.report.inline_html import inline_answer, inline_pages
from visrag_integrations.scores.shown import shown_score
from visrag_integrations.types import Answer, Evidence, Grounding, Page, ScoredPage

# Notebooks show a cell's old output beside the new one, so no two displays may share an id.
_numbers = itertools.count(1)
_DIGEST_LENGTH = 8  # hexadecimal digits; two sessions may count to the same number, but seldom for the same answer


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
        content = repr((self.question, self.answer.text)).encode("utf-8", "replace")
        digest = hashlib.sha256(content).hexdigest()[:_DIGEST_LENGTH]
        return inline_answer(self.question, self.answer, f"v{digest}-{next(_numbers)}-")

    def __repr__(self) -> str:
        """The answer, and each piece of evidence with its place and verdict."""
        lines: list[str] = []
        if self.question:
            lines.append(self.question)
        lines.append(self.answer.text or "(no answer)")
        for entry in self.answer.evidence:
            if entry.relevant:
                lines.append(_evidence_line(entry))
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write it as an HTML file of its own, whole or not at all; gives the path."""
        write_whole(path, answer_to_html(self.question or self.answer.text, self.answer).encode("utf-8"))
        return Path(path)


@dataclass(frozen=True, repr=False)
class ShownPages:
    """Pages as notebooks display them.

    Attributes:
        pages: As they were read, or found with their scores.
    """

    pages: tuple[Page | ScoredPage, ...]

    def _repr_html_(self) -> str:
        return inline_pages(self.pages, f"v{next(_numbers)}-")

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
    a.pdf, page 2  (score 0.25)
    """
    if isinstance(shown, Answer):
        return ShownAnswer(ground(shown), question)
    if isinstance(shown, (Page, ScoredPage)):
        return ShownPages((shown,))
    return ShownPages(tuple(shown))


def _page_line(shown: Page | ScoredPage) -> str:
    if isinstance(shown, ScoredPage):
        return f"{_place(shown.page)}  (score {shown_score(shown.score)})"
    return _place(shown)


def _evidence_line(entry: Evidence) -> str:
    place = f"image {entry.page_index}"
    if entry.page is not None:
        place = _place(entry.page)
    said = "unchecked"
    if entry.grounding is not None:
        said = _verdict(entry.grounding)
    return f"[{entry.page_index}] {place}: {entry.text}  ({said})"


def _verdict(found: Grounding) -> str:
    """The verdict, and its note where that says more: that next to nothing was found needs no list of it."""
    if found.note and found.verdict != "not found on the page":
        return f"{found.verdict}; {found.note}"
    return found.verdict


def _place(page: Page) -> str:
    return f"{page.source or page.doc_id}, page {page.number}"
