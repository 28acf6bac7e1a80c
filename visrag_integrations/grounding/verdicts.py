"""How much of a claim its page supports, from what was found where."""

from __future__ import annotations

import re
from itertools import pairwise

from visrag_integrations.grounding.alignment import CLOSE, SEED, Alignment, Match
from visrag_integrations.grounding.numbers import NUMBER
from visrag_integrations.grounding.tokens import SIGNS
from visrag_integrations.types import Verdict

SUPPORTED_FROM = 0.85
PARTLY_FROM = 0.4
"""The least support of the two verdicts."""
_ELSEWHERE = 0.25  # what a word counts that stands on the page, but not beside its neighbours
_CELL = 0.5  # what a number, unit or name does: it may be the cell of a table
_SLIPPED = 0.9  # what a word counts that was misspelt
_BESIDE = 3  # tokens on both sides of a cut that what was cut out may contradict
_CLAUSE = re.compile(r"[.;!?…|\n。；！？•]")
_NUMBER = re.compile(NUMBER)


def support_of(alignment: Alignment) -> float:
    """The share of the claim, by weight, that stands on the page as the claim has it; from 0 to 1."""
    tokens = alignment.claim.tokens
    total = sum(token.weight for token in tokens)
    placed = in_place(alignment)
    reached = 0.0
    for index, token in enumerate(tokens):
        match = alignment.found[index]
        if match is not None:
            apart = _ELSEWHERE if token.kind == "word" else _CELL
            reached += token.weight * (apart if index not in placed else _SLIPPED if match.slip else 1.0)
    return min(1.0, reached / total) if total else 0.0


def verdict_of(alignment: Alignment, support: float, *, complete: bool = True) -> Verdict:
    """The verdict on a claim; one that is not `complete` had more text than was looked for."""
    if complete and support >= SUPPORTED_FROM and not contradicted(alignment):
        return "supported"
    return "partly" if support >= PARTLY_FROM else "not found on the page"


def in_place(alignment: Alignment) -> set[int]:
    """The tokens that stand in a stretch of the page that reads as the claim does."""
    fragments = alignment.fragments()
    if len(fragments) == 1:
        return set(fragments[0])
    placed: set[int] = set()
    for fragment in fragments:
        if _letters(alignment, fragment) >= SEED:
            placed |= set(fragment)
    pairs = [pair for pair in pairwise(fragments) if _goes_on(alignment, *pair)]
    for before, after in [*pairs, *reversed(pairs)]:  # a short part counts beside a long one that goes on with it
        if placed & {before[0], after[0]}:
            placed |= {*before, *after}
    return placed


def contradicted(alignment: Alignment) -> bool:
    """Whether something of the claim is not on the page, or not where the claim has it.

    A number, unit or name must stand there exactly, beside a neighbour it has in the claim. A word may be missing only
    at the claim's ends, or between parts that are apart on the page; what a claim leaves out of the page may not hold a
    number where the claim has one beside, nor a name where it has a name, nor the sign of a number.
    """
    tokens, found = alignment.claim.tokens, alignment.found
    if any(token.exact and match is None for token, match in zip(tokens, found, strict=True)):
        return True
    fragments = alignment.fragments()
    if len(fragments) == 1 and len(fragments[0]) == len(tokens):
        return False
    if _has_loose(alignment, fragments):
        return True
    placed = [index for index, match in enumerate(found) if match is not None]
    return any(_cut(alignment, one, other) for one, other in pairwise(placed))


def missing_of(alignment: Alignment) -> tuple[tuple[int, int], ...]:
    """The parts of the claim's text that are not on the page where the claim has them; neighbours as one."""
    placed = in_place(alignment)
    spans: list[tuple[int, int]] = []
    last = -2
    for index, token in enumerate(alignment.claim.tokens):
        if alignment.found[index] is not None and index in placed:
            continue
        if last == index - 1:
            spans[-1] = spans[-1][0], token.span[1]
        else:
            spans.append(token.span)
        last = index
    return tuple(spans)


def _has_loose(alignment: Alignment, fragments: list[list[int]]) -> bool:
    """Whether a number, unit or name stands away from both its neighbours, or where the claim has said another."""
    close = [_goes_on(alignment, *pair) for pair in pairwise(fragments)]
    for fragment, before, after in zip(fragments, [False, *close], [*close, False], strict=True):
        exact = any(alignment.claim.tokens[index].exact for index in fragment)
        short = (
            len(fragment) == 1 if alignment.claim.tokens[fragment[0]].cased else _letters(alignment, fragment) < SEED
        )
        if exact and short and not before and not after:
            return True
    exact_places = [
        match.start
        for token, match in zip(alignment.claim.tokens, alignment.found, strict=True)
        if match is not None and token.kind != "word"
    ]
    return len(set(exact_places)) < len(exact_places)


def _goes_on(alignment: Alignment, before: list[int], after: list[int]) -> bool:
    """Whether the second fragment stands a little after the first."""
    return 0 <= _match(alignment, after[0]).start - _match(alignment, before[-1]).end <= CLOSE


def _cut(alignment: Alignment, one: int, other: int) -> bool:
    """Whether the claim says something else than the page between two tokens that were found."""
    first, second = _match(alignment, one), _match(alignment, other)
    tokens = alignment.claim.tokens
    written = alignment.claim.letters_in(tokens[one + 1 : other])
    apart = second.start - first.end
    if other == one + 1 and alignment.touches(one, other):
        return False
    beside = tokens[max(0, one + 1 - _BESIDE) : one + 1] + tokens[other : other + _BESIDE]
    if not 0 <= apart <= 4 * CLOSE:  # a jump: fine between clauses, or of words alone
        clause = alignment.claim.text[tokens[one].span[1] : tokens[other].span[0]]
        return any(token.exact for token in beside) and not _CLAUSE.search(clause)
    if other > one + 1 and apart <= max(2 * written, 12):
        return True
    if apart == 0:
        return False
    if _changes_quantity(alignment, one, other):
        return True
    skipped = alignment.page.raw(first.end, second.start)[1]
    kinds = {token.kind for token in beside}
    return ("number" in kinds and _NUMBER.search(skipped) is not None) or (
        "name" in kinds and any(character.isupper() for character in skipped)
    )


def _changes_quantity(alignment: Alignment, one: int, other: int) -> bool:
    """Whether a number of the claim has, on the page, a sign of its own or something before its unit."""
    first, second = alignment.claim.tokens[one], alignment.claim.tokens[other]
    skipped = alignment.page.text[_match(alignment, one).end : _match(alignment, other).start]
    if first.kind == "number" and (skipped[0] in SIGNS or second.kind == "unit"):
        return True
    return second.kind == "number" and skipped[-1] in SIGNS


def _letters(alignment: Alignment, fragment: list[int]) -> int:
    tokens = (alignment.claim.tokens[index] for index in fragment)
    return sum((token.end - token.start) * (1 if token.cased else 2) for token in tokens)


def _match(alignment: Alignment, index: int) -> Match:
    match = alignment.found[index]
    assert match is not None
    return match
