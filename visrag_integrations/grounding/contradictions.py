"""What makes a claim more than its page says, although its words are there: the rules, each with a name.

A claim that reaches the support of "supported" is still only "partly" when one of these holds. Support is a share, and
one wrong digit in forty words is a small share; so what may not differ is found here, by rule.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

from visrag_integrations.grounding.alignment import Alignment
from visrag_integrations.grounding.claim import SIGNS, ClaimToken
from visrag_integrations.grounding.folding import is_unspaced
from visrag_integrations.grounding.fragments import counted_letters, fragments_of, goes_on, touches
from visrag_integrations.grounding.neighbours import is_crossed
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.scores.numbers import NUMBER

Contradiction = Literal[
    "a number, unit, name or sign is missing",
    "a number, unit or name stands alone",
    "the page says once what the claim says twice",
    "two places inside one clause",
    "other words stand between",
    "a quantity is changed",
    "a number is left out",
    "a name is left out",
    "the value of another label",
    "part of a word is left out",
]

# Where a claim may jump to another place of the page. Commas, colons and brackets were in here too, once.
_CLAUSE_END = re.compile(r"[.;!?…|\n。；！？•]")
_NUMBER = re.compile(NUMBER)
_PERCENT = "%‰"
_PER = ("per", "pro", "par", "por")
_NEGATIVE = ("minus", "negative", "moins", "menos", "meno", "negativ")


def contradiction(alignment: Alignment) -> Contradiction | None:
    """The first rule that the claim breaks, or None.

    - A number, unit, name or sign must stand there exactly.
    - It must stand beside a neighbour it has in the claim, and not where the claim has used it already.
    - A plain word may be missing only at the claim's ends, or between parts that are apart on the page.
    - What the claim leaves out of the page may not hold a number where the claim has one beside, nor a name where it
      has a name, nor the sign of a number.
    - What it says of a quantity is all of it: not the number without its percent sign, nor half of its unit.
    - What it leaves out is whole words, also in scripts without spaces.
    - What follows a label must stand beside or below it on the page, not only after it in the file.
    """
    tokens = alignment.claim.tokens
    for token, placement in zip(tokens, alignment.placements, strict=True):
        if token.exact and placement is None:
            return "a number, unit, name or sign is missing"
    if _is_cut_short(alignment):
        return "a quantity is changed"
    fragments = fragments_of(alignment)
    if is_crossed(alignment):
        return "the value of another label"
    if len(fragments) == 1 and len(fragments[0]) == len(tokens):
        return None  # all of it stands there in one piece
    if _has_loose_fragment(alignment, fragments):
        return "a number, unit or name stands alone"
    if _uses_a_place_twice(alignment):
        return "the page says once what the claim says twice"
    for one, other in pairwise(alignment.placed()):
        broken = _between(alignment, one, other)
        if broken is not None:
            return broken
    return None


def _is_cut_short(alignment: Alignment) -> bool:
    """Whether the page goes on where a quantity of the claim ends.

    The claim "25 m" on the page "25 m²", "2 percent" on "2 percentage points", "30 km" on "30 km/h", "2" on "2 %"; and
    "5 per mille" on "5 per cent", whose last word is not there.
    """
    tokens = alignment.claim.tokens
    placed = alignment.placed()
    starts = {alignment.at(index).start for index in placed}
    for index in placed:
        # Where the claim goes on too, the page may have lost a space.
        if alignment.at(index).end not in starts and _goes_on_as_quantity(alignment, index):
            return True
        is_last = index + 1 == len(tokens)
        if tokens[index].raw.lower() in _PER and not is_last and alignment.placements[index + 1] is None:
            return True
    return False


def _goes_on_as_quantity(alignment: Alignment, index: int) -> bool:
    page = alignment.page
    token = alignment.claim.tokens[index]
    start, end = alignment.at(index).start, alignment.at(index).end
    if end >= len(page.text):
        return False
    if token.kind == "number":
        return page.text[end] in _PERCENT
    is_below = alignment.claim.text[: token.span[0]].endswith("/")  # "s" of "m/s"
    if token.kind != "unit" and not is_below:
        return False
    after = page.raw(start, end, around=2)[2]
    is_symbol = token.length <= THRESHOLDS.short_word
    if is_symbol and after[:1] == "/" and after[1:].isalnum():
        return True
    if after and not after[0].isalnum() and alignment.claim.text[token.span[1] :].startswith(after[0]):
        return False  # "5 kg°" on the page "5 kg°": the claim has the sign too, though no token of its own for it
    return page.splits_word(end)


def _has_loose_fragment(alignment: Alignment, fragments: list[list[int]]) -> bool:
    """Whether a short fragment with a number, unit or name in it stands away from what the claim has on both sides."""
    for place, fragment in enumerate(fragments):
        if not any(alignment.claim.tokens[token].exact for token in fragment):
            continue
        if not _is_short(alignment, fragment):
            continue
        beside_last = place > 0 and goes_on(alignment, fragments[place - 1], fragment)
        beside_next = place + 1 < len(fragments) and goes_on(alignment, fragment, fragments[place + 1])
        if not beside_last and not beside_next:
            return True
    return False


def _is_short(alignment: Alignment, fragment: list[int]) -> bool:
    """One token; without capitals a few, because there each character may be a token."""
    if alignment.claim.tokens[fragment[0]].cased:
        return len(fragment) == 1
    return counted_letters(alignment, fragment) < THRESHOLDS.seed


def _uses_a_place_twice(alignment: Alignment) -> bool:
    """Whether two numbers, units, names or signs were found in one place: "Alice earned 10 and Bob earned 10"."""
    seen: set[int] = set()
    for index in alignment.placed():
        if alignment.claim.tokens[index].kind == "word":
            continue
        start = alignment.at(index).start
        if start in seen:
            return True
        seen.add(start)
    return False


def _between(alignment: Alignment, one: int, other: int) -> Contradiction | None:
    """What the claim says otherwise than the page between two found tokens that follow one another."""
    tokens = alignment.claim.tokens
    are_neighbours = other == one + 1
    if are_neighbours and touches(alignment, one, other):
        return None
    if _cuts_a_word(alignment, one, other):
        return "part of a word is left out"
    least = THRESHOLDS.beside_cut
    beside = tokens[max(0, one + 1 - least) : one + 1] + tokens[other : other + least]
    distance = alignment.at(other).start - alignment.at(one).end
    if not 0 <= distance <= THRESHOLDS.jump_factor * THRESHOLDS.close:
        if _jumps_inside_a_clause(alignment, one, other, beside):
            return "two places inside one clause"
        return None
    in_claim = sum(token.length for token in tokens[one + 1 : other])
    room = max(THRESHOLDS.replaced_factor * in_claim, THRESHOLDS.replaced_least)
    if not are_neighbours and distance <= room:
        return "other words stand between"
    if distance == 0:
        return None
    return _left_out(alignment, one, other, beside)


def _cuts_a_word(alignment: Alignment, one: int, other: int) -> bool:
    """Whether what is left out between two neighbours begins or ends inside a word of a script without spaces.

    There each character is a token, so that a dropped one looks like a word left out: 김민는 on a page with 김민수는.
    """
    tokens = alignment.claim.tokens
    if tokens[one].cased and tokens[other].cased:
        return False
    page = alignment.page
    end = alignment.at(one).end
    start = alignment.at(other).start
    return (page.splits_word(end) and is_unspaced(page.text[end])) or (
        page.splits_word(start) and is_unspaced(page.text[start])
    )


def _jumps_inside_a_clause(alignment: Alignment, one: int, other: int, beside: tuple[ClaimToken, ...]) -> bool:
    """Whether the claim goes on in another part of the page where it has no end of a clause; plain words may."""
    if not any(token.exact for token in beside):
        return False
    tokens = alignment.claim.tokens
    written = alignment.claim.text[tokens[one].span[1] : tokens[other].span[0]]
    return _CLAUSE_END.search(written) is None


def _left_out(alignment: Alignment, one: int, other: int, beside: tuple[ClaimToken, ...]) -> Contradiction | None:
    """Whether what the page has between two found tokens, and the claim has not, may be the point."""
    if _changes_quantity(alignment, one, other):
        return "a quantity is changed"
    skipped = alignment.page.raw(alignment.at(one).end, alignment.at(other).start)[1]
    kinds = {token.kind for token in beside}
    if "number" in kinds and _NUMBER.search(skipped) is not None:
        return "a number is left out"
    if "name" in kinds and any(character.isupper() for character in skipped):
        return "a name is left out"
    return None


def _changes_quantity(alignment: Alignment, one: int, other: int) -> bool:
    """Whether a number of the claim has, on the page, a sign of its own or something before its unit.

    The claim "12 euros" on the page "12 million euros"; "12 in" on "12 % in"; "at 5" on "at minus 5".
    """
    first = alignment.claim.tokens[one]
    second = alignment.claim.tokens[other]
    skipped = alignment.page.text[alignment.at(one).end : alignment.at(other).start]
    if second.kind == "number" and skipped.endswith(_NEGATIVE):
        return True
    if first.kind == "number" and (skipped[0] in SIGNS or second.kind == "unit"):
        return True
    return second.kind == "number" and skipped[-1] in SIGNS
