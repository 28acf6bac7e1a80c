"""One token looked for on the page: as a word of its own, as the same number, or misspelt."""

from __future__ import annotations

from collections.abc import Iterator

from visrag_integrations.grounding.alignment import Alignment, Placement
from visrag_integrations.grounding.claim import ClaimToken
from visrag_integrations.grounding.misspellings import is_misspelling
from visrag_integrations.grounding.page_letters import PageLetters
from visrag_integrations.grounding.page_signs import mark_on_page
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.scores.numbers import cut_off, plain_digits, same_number

# Letters of a unit's symbol: "mmHg", "MBps".
_LONGEST_SYMBOL = 4


def stands_at(page: PageLetters, token: ClaimToken, at: int) -> bool:
    """Whether the page's letters here, which are the token's letters, are also the same number.

    Letters do not tell "12.34" from "1,234", "-5" from "5", nor "34" from the end of "1,234": the page's own characters
    do. This is where another way to write a number is to be taught.
    """
    if token.kind == "unit":
        return not is_other_unit(token.raw, page.raw(at, at + token.length)[1])
    if token.kind != "number":
        return True
    before, raw, after = page.raw(at, at + token.length, around=2)
    if cut_off(before, after) and not token.is_cut:
        return False
    wanted = token.raw
    if token.in_word and before[-1:].isalpha():  # "m2" is "m²", though 2 is not ²
        raw = plain_digits(raw)
        wanted = plain_digits(wanted)
    if not same_number(wanted, raw):
        return False
    return token.mark.same(mark_on_page(page, at, at + token.length))


def is_other_unit(one: str, other: str) -> bool:
    """Whether two units of the same letters are different ones: a capital M is a million, m a thousandth, B is eight b.

    Only where nothing else differs in case: "MG" on a page in capitals may be mg.

    >>> is_other_unit("mW", "MW"), is_other_unit("Mb", "MB"), is_other_unit("mg", "MG"), is_other_unit("kw", "kW")
    (True, True, False, False)
    """
    if one == other or len(one) != len(other) or not 2 <= len(one) <= _LONGEST_SYMBOL:
        return False
    is_prefix = {one[0], other[0]} == {"m", "M"} and one[1:] == other[1:]
    is_byte = {one[-1], other[-1]} == {"b", "B"} and one[:-1] == other[:-1]
    return is_prefix or is_byte


def occurrences(alignment: Alignment, token: ClaimToken, start: int, end: int) -> Iterator[int]:
    """Where the token stands as a word of its own between these letters, or right at their beginning."""
    page = alignment.page
    wanted = alignment.claim.letters[token.start : token.end]
    at = page.text.find(wanted, start, end)
    for _ in range(THRESHOLDS.max_candidates):
        if at < 0:
            return
        # Right at the beginning it need not begin a word: the page, or the claim, may have lost a space there.
        begins = at == start > 0 or page.begins_word(at)
        if begins and page.begins_word(at + len(wanted)) and stands_at(page, token, at):
            yield at
        at = page.text.find(wanted, at + 1, end)


def first_placement(alignment: Alignment, token: ClaimToken, start: int, end: int) -> Placement | None:
    """The first place of the token between these letters, or else the first place of a misspelling of it."""
    for at in occurrences(alignment, token, start, end):
        return Placement(at, at + token.length)
    if not token.may_be_misspelt:
        return None
    for at in _word_beginnings(alignment.page, start, end):
        # As long as the word, or with a letter more or less: "rnillion" for "million".
        for stop in (at + token.length, at + token.length + 1, at + token.length - 1):
            if not at < stop <= end:
                continue
            placement = placement_at(alignment, token, at, stop)
            if placement is not None:
                return placement
    return None


def placement_at(alignment: Alignment, token: ClaimToken, start: int, end: int) -> Placement | None:
    """The token on exactly these letters of the page, as it is or misspelt."""
    page = alignment.page
    wanted = alignment.claim.letters[token.start : token.end]
    here = page.text[start:end]
    if here == wanted:
        if stands_at(page, token, start):
            return Placement(start, end)
        return None
    if not (token.may_be_misspelt and page.begins_word(start) and page.begins_word(end)):
        return None
    raw = page.raw(start, end)[1]
    is_name_on_page = raw != raw.lower()
    if is_misspelling(wanted, here, exact=token.exact or is_name_on_page):
        return Placement(start, end, misspelt=True)
    return None


def _word_beginnings(page: PageLetters, start: int, end: int) -> list[int]:
    """The first letters of words among these letters; the first letter counts as one."""
    beginnings = [start]
    for at in range(start + 1, min(end, start + THRESHOLDS.max_misspelling_reach)):
        if page.begins_word(at):
            beginnings.append(at)
    return beginnings[: THRESHOLDS.max_misspelling_places]
