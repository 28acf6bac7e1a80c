"""One text checked against one page: where it stands, how much of it does, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from visrag_integrations.grounding.alignment import Alignment
from visrag_integrations.grounding.boxes import boxes_of
from visrag_integrations.grounding.claim import Claim
from visrag_integrations.grounding.common_runs import place_whole
from visrag_integrations.grounding.folding import fold
from visrag_integrations.grounding.fragments import tokens_in_place
from visrag_integrations.grounding.neighbours import other_orders
from visrag_integrations.grounding.page_letters import PageLetters
from visrag_integrations.grounding.passes import align
from visrag_integrations.grounding.spellings import other_spellings
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.grounding.verdicts import missing_of, support_of, verdict_of
from visrag_integrations.interfaces.speaker_notes import NOTES_HEADING, notes_of, without_notes
from visrag_integrations.types import Box, Grounding, Page, Verdict, Word

NOTES_PLACE = "it stands in the speaker notes"
"""How a note of a grounding says that evidence was found in the notes of a slide."""
_NOWHERE = (0.0, 0.0, 0.0, 0.0)


def ground_text(page: Page, text: str) -> Grounding:
    """Where the text stands on the page, how much of it does, and the verdict.

    A page without word boxes is read in its `text`: then there is a verdict, and no box. What does not stand on a slide
    is looked for in its speaker notes.
    """
    notes = notes_of(page.metadata)
    found = _ground_words(page, text, _words_of(page, notes))
    if not notes or found.verdict == "supported":
        return found
    # The heading too: a quotation may begin with it.
    in_notes = _ground_words(replace(page, words=()), text, _as_words(f"{NOTES_HEADING} {notes}"))
    return _better(found, in_notes)


def _ground_words(page: Page, text: str, words: Sequence[Word]) -> Grounding:
    """The text checked against these words."""
    letters = PageLetters.of(words)
    if not letters.text:
        return Grounding("unchecked", note="the page has no words to check against")
    claim, complete = _claim(text, letters)
    if not claim.tokens:
        return Grounding("unchecked", note="the evidence has no words")
    if not claim.says_something:
        return Grounding("unchecked", note="the evidence has no word or number that could be told from others")
    return _grounding_of(page, text, letters, claim, complete=complete)


def _better(on_slide: Grounding, in_notes: Grounding) -> Grounding:
    """What was found on the slide, or what was found in its notes where that is more; the notes have no boxes."""
    if in_notes.verdict == "supported":
        return replace(in_notes, verdict="in the speaker notes", note=f"{NOTES_PLACE}, which are on no picture")
    if in_notes.verdict == "partly" and in_notes.support > on_slide.support:
        return replace(in_notes, note=f"{NOTES_PLACE}; {in_notes.note}")
    return on_slide


def _grounding_of(page: Page, text: str, letters: PageLetters, claim: Claim, *, complete: bool) -> Grounding:
    """The same for a text that can be checked."""
    alignment, in_place, support, verdict = _checked(align(letters, claim), complete=complete)
    if complete and verdict != "supported" and len(claim.letters) <= THRESHOLDS.max_reordered_letters:
        whole = _whole_otherwise(letters, claim)
        if whole is not None:
            alignment, in_place, support, verdict = whole

    boxes: tuple[Box, ...] = ()
    if page.words and verdict != "not found on the page":
        boxes = _boxes(alignment, in_place)
    # What little a supported text lacks is not shown: it would look like a reproach.
    missing: tuple[tuple[int, int], ...] = ()
    if verdict != "supported":
        missing = missing_of(alignment, in_place)
    return Grounding(verdict, round(support, 3), boxes, missing, _note(text, verdict, missing, complete=complete))


class _Checked(NamedTuple):
    """What came of an alignment."""

    alignment: Alignment
    in_place: Set[int]
    support: float
    verdict: Verdict


def _checked(alignment: Alignment, *, complete: bool) -> _Checked:
    in_place = tokens_in_place(alignment)
    support = support_of(alignment, in_place)
    return _Checked(alignment, in_place, support, verdict_of(alignment, support, complete=complete))


def _whole_otherwise(page: PageLetters, claim: Claim) -> _Checked | None:
    """The claim where all of it stands on the page as one sees it, or written otherwise; None where it does not."""
    others = [Claim.of(spelled) for spelled in other_spellings(claim.text)]
    for order in (page, *other_orders(page)):
        for written in (claim, *others):
            alignment = place_whole(order, written)
            if alignment is not None:
                found = _checked(alignment, complete=True)
                if found.verdict == "supported":
                    return found
    return None


def find_passage(page: Page, text: str) -> list[Box]:
    """Boxes around what the text quotes of the page, one per line, in reading order; empty when nothing is found.

    >>> words = (Word("Total", (0.1, 0.1, 0.2, 0.12)), Word("cost:", (0.21, 0.1, 0.3, 0.12)))
    >>> find_passage(Page(doc_id="a", number=1, words=words), "TOTAL COST")
    [(0.1, 0.1, 0.3, 0.12)]
    """
    letters = PageLetters.of(page.words)
    claim, complete = _claim(text, letters)
    if not letters.text or not claim.tokens:
        return []
    return list(_grounding_of(page, text, letters, claim, complete=complete).boxes)


def _words_of(page: Page, notes: str) -> Sequence[Word]:
    """The words on the page's picture."""
    if page.words:
        return page.words
    return _as_words(without_notes(page.text, notes))


def _as_words(text: str) -> list[Word]:
    return [Word(word, _NOWHERE) for word in text.split()]


def _claim(text: str, page: PageLetters) -> tuple[Claim, bool]:
    """What to look for, and whether it is all of the text: what cannot stand there as a whole is cut short."""
    shown = text[: THRESHOLDS.max_characters]
    if len(text) <= THRESHOLDS.max_characters:
        letters = fold(shown)
        if len(letters) <= THRESHOLDS.max_aligned_letters or letters in page.text:
            return Claim.of(shown), True
    # Two characters a letter: spaces and punctuation are not counted.
    return Claim.of(shown[: 2 * THRESHOLDS.max_aligned_letters]), False


def _boxes(alignment: Alignment, in_place: Set[int]) -> tuple[Box, ...]:
    """Around what stands as the claim has it, and around its numbers and names, which may be cells of a table."""
    spans: list[tuple[int, int]] = []
    for index in alignment.placed():
        if index in in_place or alignment.claim.tokens[index].kind != "word":
            placement = alignment.at(index)
            spans.append((placement.start, placement.end))
    return boxes_of(alignment.page, spans)


def _note(text: str, verdict: Verdict, missing: Sequence[tuple[int, int]], *, complete: bool) -> str:
    """What a reader needs to know beside the verdict, in words."""
    if not complete:
        return "the evidence is too long to be checked as a whole"
    if missing:
        return f"not on the page, or not there: {_quoted(text, missing)}"
    if verdict == "partly":
        return "its words are there, but apart, or with a word, number or name between them that it leaves out"
    return ""


def _quoted(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The first of these parts of the text in quotation marks, and how many more there are."""
    quoted: list[str] = []
    for start, end in spans[: THRESHOLDS.max_missing_quoted]:
        part = " ".join(text[start:end].split())
        quoted.append(f"“{part[: THRESHOLDS.max_quoted_characters]}”")
    listed = ", ".join(quoted)
    more = len(spans) - len(quoted)
    if more > 0:
        return f"{listed} and {more} more"
    return listed
