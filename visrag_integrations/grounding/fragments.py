"""Fragments: tokens that stand on the page as they do in the claim, one right after another.

Of the claim "costs of 40 kg in May" the page "In May, costs of 40 kg" has two fragments: "costs of 40 kg" and "in May".
A fragment is a list of tokens, named by their places in the claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from visrag_integrations.grounding.alignment import Alignment
from visrag_integrations.grounding.thresholds import THRESHOLDS


def fragments_of(alignment: Alignment) -> list[list[int]]:
    """The fragments, in the order of the claim; every token that was found is in one."""
    fragments: list[list[int]] = []
    last = -1
    for token in alignment.placed():
        if fragments and last == token - 1 and touches(alignment, last, token):
            fragments[-1].append(token)
        else:
            fragments.append([token])
        last = token
    return fragments


def touches(alignment: Alignment, first: int, second: int) -> bool:
    """Whether as many letters stand between two found tokens on the page as in the claim: none, between neighbours."""
    in_claim = alignment.claim.tokens[second].start - alignment.claim.tokens[first].end
    on_page = alignment.at(second).start - alignment.at(first).end
    return on_page == in_claim


def counted_letters(alignment: Alignment, tokens: Iterable[int]) -> int:
    """How many letters these tokens count as; see `ClaimToken.counted_letters`."""
    return sum(alignment.claim.tokens[token].counted_letters for token in tokens)


def goes_on(alignment: Alignment, before: list[int], after: list[int]) -> bool:
    """Whether the second fragment stands a little after the first."""
    distance = alignment.at(after[0]).start - alignment.at(before[-1]).end
    return 0 <= distance <= THRESHOLDS.close


def tokens_in_place(alignment: Alignment) -> set[int]:
    """The tokens that stand in a stretch of the page that reads as the claim does.

    A long fragment does; a short one does beside a long one that goes on with it. Others are words that happen to stand
    somewhere.
    """
    fragments = fragments_of(alignment)
    if len(fragments) == 1:
        return set(fragments[0])
    placed: set[int] = set()
    for fragment in fragments:
        if counted_letters(alignment, fragment) >= THRESHOLDS.seed:
            placed.update(fragment)
    neighbours = [pair for pair in pairwise(fragments) if goes_on(alignment, *pair)]
    # Once from the left and once from the right: what is in place hands it on in both directions.
    for before, after in [*neighbours, *reversed(neighbours)]:
        if placed & {before[0], after[0]}:
            placed.update(before, after)
    return placed
