"""Evidence checked against its page: where it stands, how much of it does, and a verdict.

`ground(answer)` is all that is needed; the evidence of the answer it gives has a `grounding`. No model is asked: the
words of the evidence are looked for among the words of its page (its text layer, or what OCR read).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visrag_integrations.grounding.alignment import Alignment, align
from visrag_integrations.grounding.boxes import boxes_of
from visrag_integrations.grounding.letters import PageLetters, letters_of
from visrag_integrations.grounding.memory import remember_words, with_remembered_words
from visrag_integrations.grounding.pictures import outlined, similar_regions
from visrag_integrations.grounding.tokens import Claim
from visrag_integrations.grounding.verdicts import in_place, missing_of, support_of, verdict_of
from visrag_integrations.types import Answer, Box, Evidence, Grounding, Page, Word

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

__all__ = [
    "find_passage",
    "ground",
    "ground_evidence",
    "ground_text",
    "grounding_dict",
    "outlined",
    "remember_words",
    "similar_regions",
]

MAX_CHARACTERS = 200_000
"""Characters of a piece of evidence that are looked at; a longer one is never called supported."""
_MAX_ALIGNED = 4000  # letters of evidence that does not stand on the page as a whole


def ground(answer: Answer, *, embedder: PageEmbedder | None = None, store: Any = None) -> Answer:
    """The answer, with a `Grounding` in each piece of its evidence that says something about a page.

    Args:
        answer: With the pages it was read from.
        embedder: A late-interaction embedder: pages that have no words get the regions that it finds most like the
            evidence; the verdict stays "unchecked".
        store: Where that embedder's page vectors are, so that they are not made again.

    >>> page = Page("d", 1, text="The orchestra has 12 violins, four harps and a piano.")
    >>> said = ("12 violins, four harps", "13 violins, four harps, a piano", "two flutes")
    >>> answer = ground(Answer("12", evidence=tuple(Evidence(1, text, page=page) for text in said)))
    >>> [entry.grounding.verdict for entry in answer.evidence]
    ['supported', 'partly', 'not found on the page']
    """
    return dataclasses.replace(
        answer, evidence=tuple(ground_evidence(entry, answer, embedder, store) for entry in answer.evidence)
    )


def ground_evidence(
    entry: Evidence, answer: Answer | None = None, embedder: PageEmbedder | None = None, store: Any = None
) -> Evidence:
    """One piece of evidence with its grounding; what says that a page holds nothing has none."""
    if not entry.relevant:
        return entry
    page = _with_words(entry, answer)
    if page is None:
        return dataclasses.replace(entry, grounding=Grounding("unchecked", note="no page is known for it"))
    found = ground_text(page, entry.text)
    if found.verdict == "unchecked" and embedder is not None and entry.text.strip():
        found = dataclasses.replace(found, boxes=similar_regions(entry.text, page, embedder, store))
    return dataclasses.replace(entry, grounding=found)


def ground_text(page: Page, text: str) -> Grounding:
    """Where the text stands on the page, how much of it does, and the verdict.

    A page without word boxes is read in its `text`: then there is a verdict, and no box.
    """
    words = page.words or [Word(word, (0.0, 0.0, 0.0, 0.0)) for word in page.text.split()]
    letters = PageLetters.of(words)
    if not letters.text:
        return Grounding("unchecked", note="the page has no words to check against")
    claim, complete = _claim(text, letters)
    if not claim.tokens:
        return Grounding("unchecked", note="the evidence has no words")
    alignment = align(letters, claim)
    support = support_of(alignment)
    verdict = verdict_of(alignment, support, complete=complete)
    boxes = _boxes(alignment) if page.words and verdict != "not found on the page" else ()
    missing = () if verdict == "supported" else missing_of(alignment)
    note = _note(text, missing, complete)
    if verdict == "partly" and not note:
        note = "its words are there, but apart, or with a word, number or name between them that it leaves out"
    return Grounding(verdict, round(support, 3), boxes, missing, note)


def find_passage(page: Page, text: str) -> list[Box]:
    """Boxes around what the text quotes of the page, one per line, in reading order; empty when nothing is found.

    >>> words = (Word("Total", (0.1, 0.1, 0.2, 0.12)), Word("cost:", (0.21, 0.1, 0.3, 0.12)))
    >>> find_passage(Page(doc_id="a", number=1, words=words), "TOTAL COST")
    [(0.1, 0.1, 0.3, 0.12)]
    """
    return list(ground_text(page, text).boxes) if page.words else []


def grounding_dict(entry: Evidence) -> dict[str, Any]:
    """The grounding of a piece of evidence, JSON-like: what hosts put into their metadata.

    >>> grounding_dict(Evidence(1, "12 cats", grounding=Grounding("partly", 0.8, ((0.1, 0.1, 0.2, 0.2),), ((3, 7),))))
    {'verdict': 'partly', 'support': 0.8, 'boxes': [[0.1, 0.1, 0.2, 0.2]], 'missing': ['cats']}
    """
    found = entry.grounding
    if found is None:
        return {"verdict": None, "support": None, "boxes": [], "missing": []}
    missing = [entry.text[start:end] for start, end in found.missing]
    return {
        "verdict": found.verdict,
        "support": found.support,
        "boxes": [list(box) for box in found.boxes],
        "missing": missing,
    }


def _with_words(entry: Evidence, answer: Answer | None) -> Page | None:
    """The evidence's page; where it has lost its words, with those of the answer's page or of an earlier search."""
    if entry.page is None or entry.page.words:
        return entry.page
    hits = answer.pages if answer is not None else ()
    same = (hit.page for hit in hits if hit.page.words and hit.page.id == entry.page.id)
    return next(same, None) or with_remembered_words(entry.page)


def _claim(text: str, page: PageLetters) -> tuple[Claim, bool]:
    """What to look for, and whether it is all of the text: what cannot stand there as a whole is cut short."""
    shown = text[:MAX_CHARACTERS]
    if len(text) <= MAX_CHARACTERS:
        letters = letters_of(shown)[0]
        if len(letters) <= _MAX_ALIGNED or letters in page.text:
            return Claim.of(shown), True
    return Claim.of(shown[: 2 * _MAX_ALIGNED]), False


def _boxes(alignment: Alignment) -> tuple[Box, ...]:
    """Around what stands as the claim has it, and around its numbers and names, which may be cells of a table."""
    placed = in_place(alignment)
    tokens = zip(alignment.claim.tokens, alignment.found, strict=True)
    found = [m for i, (token, m) in enumerate(tokens) if m is not None and (i in placed or token.kind != "word")]
    return boxes_of(alignment.page, [(match.start, match.end) for match in found])


def _note(text: str, missing: Sequence[tuple[int, int]], complete: bool) -> str:
    if not complete:
        return "the evidence is too long to be checked as a whole"
    shown = ["“" + " ".join(text[start:end].split())[:60] + "”" for start, end in missing[:5]]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"not on the page, or not there: {', '.join(shown)}{more}" if shown else ""
