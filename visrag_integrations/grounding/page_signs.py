"""How a number of the page is marked as negative: its own characters, the marks beside it, and its cell."""

from __future__ import annotations

from visrag_integrations.grounding.page_letters import PageLetters
from visrag_integrations.grounding.signs import (
    UNMARKED,
    NumberMark,
    comparison_of,
    context_of,
    has_letters,
    has_words,
    mark_of,
    sign_of,
)
from visrag_integrations.grounding.thresholds import THRESHOLDS


def mark_on_page(page: PageLetters, start: int, end: int) -> NumberMark:
    """The mark of the number on these letters of the page."""
    first, begin = page.place(start)
    last, stop = page.place(end - 1)
    before = page.words[first].text[:begin]
    after = page.words[last].text[stop + 1 :]
    fills_word = not has_letters(before) and not has_letters(after)  # OCR gives whole lines as one word
    ends_word = not has_words(after)
    word = ""
    if first > 0:
        word = page.words[first - 1].text
    next_word = ""
    if last + 1 < len(page.words):
        next_word = page.words[last + 1].text
    around = context_of((word, before), (after, next_word))
    mark = mark_of(*around)
    comparison = comparison_of(*around)
    if not mark:
        return UNMARKED._replace(comparison=comparison)
    number = page.raw(start, end)[1]
    alone, ends = _place_in_cell(page, first, last)
    alone = alone and fills_word
    ends = ends and ends_word
    sign = sign_of(mark, number, _line_around(page, first), alone=alone, ends=ends)
    return NumberMark(mark, sign, comparison)


def _place_in_cell(page: PageLetters, first: int, last: int) -> tuple[bool, bool]:
    """Whether these words stand alone in their cell, and whether no word follows them there."""
    cells = page.layout.cells
    first_word = page.page_word(page.starts[first])
    last_word = page.page_word(page.starts[last])
    found = cells.of_word[last_word]
    if found is None:  # no places: a word in small letters goes on with the sentence
        following = ""
        if last + 1 < len(page.words):
            following = page.words[last + 1].text
        return False, not following[:1].islower()
    cell, place = found
    members = cells.cells[cell].words
    texts = page.layout.words
    own = range(min(first_word, last_word), max(first_word, last_word) + 1)
    most = THRESHOLDS.max_row_cells
    alone = len(members) <= most and not any(has_letters(texts[word].text) for word in members if word not in own)
    ends = not any(has_words(texts[word].text) for word in members[place + 1 : place + most])
    return alone, ends


def _line_around(page: PageLetters, word: int) -> str:
    """Some words around this one, by which its language is told."""
    near = page.words[max(0, word - THRESHOLDS.sentence_end_reach) : word + THRESHOLDS.sentence_end_reach]
    return " ".join(each.text for each in near)
