"""How much of a claim its page supports, and the verdict, from what was found where."""

from __future__ import annotations

from collections.abc import Set

from visrag_integrations.grounding.alignment import Alignment, Placement
from visrag_integrations.grounding.claim import ClaimToken
from visrag_integrations.grounding.contradictions import contradiction
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.types import Verdict


def support_of(alignment: Alignment, in_place: Set[int]) -> float:
    """The share of the claim, by weight, that stands on the page as the claim has it; from 0 to 1.

    Args:
        alignment: What was found.
        in_place: The tokens that stand where the claim has them; see `tokens_in_place`.
    """
    total = 0.0
    reached = 0.0
    for index, token in enumerate(alignment.claim.tokens):
        total += token.weight
        placement = alignment.placements[index]
        if placement is not None:
            reached += token.weight * _share(token, placement, in_place=index in in_place)
    if not total:
        return 0.0
    return min(1.0, reached / total)


def verdict_of(alignment: Alignment, support: float, *, complete: bool = True) -> Verdict:
    """The verdict on a claim; one that is not `complete` had more text than was looked for."""
    is_enough = support >= THRESHOLDS.supported_from
    if complete and is_enough and contradiction(alignment) is None:
        return "supported"
    if support >= THRESHOLDS.partly_from:
        return "partly"
    return "not found on the page"


def missing_of(alignment: Alignment, in_place: Set[int]) -> tuple[tuple[int, int], ...]:
    """The parts of the claim's text that are not on the page where the claim has them; neighbours as one."""
    spans: list[tuple[int, int]] = []
    last = -2
    for index, token in enumerate(alignment.claim.tokens):
        if alignment.placements[index] is not None and index in in_place:
            continue
        if last == index - 1:
            spans[-1] = (spans[-1][0], token.span[1])
        else:
            spans.append(token.span)
        last = index
    return tuple(spans)


def _share(token: ClaimToken, placement: Placement, *, in_place: bool) -> float:
    """What part of its weight a token that was found is worth."""
    if in_place and placement.misspelt:
        return THRESHOLDS.misspelt
    if in_place:
        return 1.0
    if token.kind == "word":
        return THRESHOLDS.word_elsewhere
    return THRESHOLDS.cell_elsewhere
