"""Passes 4 and 6: single words, where no long stretch agrees, and around what was found."""

from __future__ import annotations

from itertools import islice

from visrag_integrations.grounding.alignment import Alignment, Placement
from visrag_integrations.grounding.claim import ClaimToken
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.grounding.token_search import occurrences


def anchor(alignment: Alignment) -> Alignment:
    """Pass 4: where nothing was found yet, the place of the page that holds most of the claim, by weight.

    One of the heaviest tokens is put there, and the passes after this one look for the others around it.
    """
    if alignment.placed():
        return alignment
    tokens = alignment.claim.tokens
    heaviest = sorted(range(len(tokens)), key=lambda index: (-tokens[index].weight, -tokens[index].length))
    best: dict[int, Placement | None] = {}
    most = -1.0
    for index in heaviest[: THRESHOLDS.max_anchors]:
        for at in occurrences(alignment, tokens[index], 0, len(alignment.page.text)):
            weight = _weight_around(alignment, at)
            if weight > most:
                best = {index: Placement(at, at + tokens[index].length)}
                most = weight
    return alignment.replaced(best)


def _weight_around(alignment: Alignment, at: int) -> float:
    """The weight of the tokens whose letters stand around this letter of the page, whether as words or not."""
    reach = len(alignment.claim.letters) + THRESHOLDS.near
    around = alignment.page.text[max(0, at - reach) : at + reach]
    weight = 0.0
    for token in alignment.claim.tokens[: THRESHOLDS.max_anchor_tokens]:
        if alignment.claim.letters[token.start : token.end] in around:
            weight += token.weight
    return weight


def look_around(alignment: Alignment) -> Alignment:
    """Pass 6: what is still missing, anywhere around what was found: it may be the cell of a table.

    Short plain words ("of", "the") count only close by, for they stand everywhere.
    """
    placed = alignment.placed()
    if not placed:
        return alignment
    reach = len(alignment.claim.letters) + THRESHOLDS.near
    first, last = alignment.extent(placed)
    start = max(0, first - reach)
    end = min(len(alignment.page.text), last + reach)
    following = _following(alignment)
    found: dict[int, Placement | None] = {}
    before: Placement | None = None
    for index, token in enumerate(alignment.claim.tokens):
        here = alignment.placements[index]
        if here is None:
            here = _nearest(alignment, token, (start, end), (before, following[index]))
            found[index] = here
        if here is not None:
            before = here  # what this pass finds counts as a neighbour for the next token
    return alignment.replaced(found)


def _nearest(
    alignment: Alignment,
    token: ClaimToken,
    area: tuple[int, int],
    neighbours: tuple[Placement | None, Placement | None],
) -> Placement | None:
    """The token's place that is nearest to its neighbours; of equal ones the first on the page."""
    nearest: Placement | None = None
    least = 0
    for at in islice(occurrences(alignment, token, *area), THRESHOLDS.max_compared):
        placement = Placement(at, at + token.length)
        distance = _distance(placement, *neighbours)
        if nearest is None or distance < least:
            nearest = placement
            least = distance
    is_short_word = token.kind == "word" and token.length <= THRESHOLDS.short_word
    if is_short_word and least > THRESHOLDS.close:
        return None
    return nearest


def _following(alignment: Alignment) -> list[Placement | None]:
    """For each token what was found next after it."""
    following: list[Placement | None] = []
    last: Placement | None = None
    for placement in reversed(alignment.placements):
        following.append(last)
        last = placement or last
    following.reverse()
    return following


def _distance(placement: Placement, before: Placement | None, after: Placement | None) -> int:
    """How many letters it is away from the nearer of its neighbours, of which there is one; more on the wrong side."""
    gaps: list[int] = []
    if before is not None:
        gaps.append(placement.start - before.end)
    if after is not None:
        gaps.append(after.start - placement.end)
    distances: list[int] = []
    for gap in gaps:
        if gap >= 0:
            distances.append(gap)
        else:
            distances.append(THRESHOLDS.near - THRESHOLDS.wrong_side_factor * gap)
    return min(distances)
