"""The evidence of an answer, each piece checked against its page."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from visrag_integrations.grounding.check import ground_text
from visrag_integrations.grounding.regions import similar_regions
from visrag_integrations.grounding.remembered_words import with_remembered_words
from visrag_integrations.types import Answer, Evidence, Grounding, Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder


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
    grounded = [ground_evidence(entry, answer, embedder, store) for entry in answer.evidence]
    return dataclasses.replace(answer, evidence=tuple(grounded))


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


def grounding_dict(entry: Evidence) -> dict[str, Any]:
    """The grounding of a piece of evidence, JSON-like: what hosts put into their metadata.

    >>> grounding_dict(Evidence(1, "12 cats", grounding=Grounding("partly", 0.8, ((0.1, 0.1, 0.2, 0.2),), ((3, 7),))))
    {'verdict': 'partly', 'support': 0.8, 'boxes': [[0.1, 0.1, 0.2, 0.2]], 'missing': ['cats']}
    """
    found = entry.grounding
    if found is None:
        return {"verdict": None, "support": None, "boxes": [], "missing": []}
    return {
        "verdict": found.verdict,
        "support": found.support,
        "boxes": [list(box) for box in found.boxes],
        "missing": [entry.text[start:end] for start, end in found.missing],
    }


def _with_words(entry: Evidence, answer: Answer | None) -> Page | None:
    """The evidence's page; where it has lost its words, with those of the answer's page or of an earlier search."""
    if entry.page is None or entry.page.words:
        return entry.page
    if answer is not None:
        for hit in answer.pages:
            if hit.page.words and hit.page.id == entry.page.id:
                return hit.page
    return with_remembered_words(entry.page)
