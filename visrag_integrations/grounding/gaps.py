"""Pass 5: the tokens between, before and after what was found, where they should stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visrag_integrations.grounding.alignment import Alignment, Placement
from visrag_integrations.grounding.claim import ClaimToken
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.grounding.token_search import first_placement, placement_at


def fill_gaps(alignment: Alignment) -> Alignment:
    """Look for each gap's tokens between its neighbours on the page, where one of the neighbours was found.

    A gap is a stretch of neighbouring tokens that were not found. Here misspelt words are found, and words that are too
    short for a common run.
    """
    found: dict[int, Placement | None] = {}
    for gap in _gaps(alignment.placements):
        found.update(_fill(alignment, gap))
    return alignment.replaced(found)


def _gaps(placements: Sequence[Placement | None]) -> Iterator[range]:
    """Neighbouring tokens that were not found: of found, not, not, found, not the ranges 1 to 3 and 4 to 5."""
    start = 0
    for token, placement in enumerate(placements):
        if placement is not None:
            if start < token:
                yield range(start, token)
            start = token + 1
    if start < len(placements):
        yield range(start, len(placements))


def _fill(alignment: Alignment, gap: range) -> dict[int, Placement]:
    before = None
    if gap.start > 0:
        before = alignment.placements[gap.start - 1]
    after = None
    if gap.stop < len(alignment.placements):
        after = alignment.placements[gap.stop]
    letters = sum(token.length for token in alignment.claim.tokens[gap.start : gap.stop])

    if before is not None and after is not None:
        room = after.start - before.end
        # Less than nothing: the neighbours stand the other way round. Too much: they belong to different passages.
        if 0 <= room <= THRESHOLDS.gap_factor * letters + THRESHOLDS.gap_allowance:
            return _fill_forward(alignment, gap, before.end, after.start)
    found: dict[int, Placement] = {}
    if before is not None:
        end = before.end + THRESHOLDS.open_gap_factor * letters + THRESHOLDS.open_gap_allowance
        found = _fill_forward(alignment, gap, before.end, min(len(alignment.page.text), end))
    if after is not None:
        still_missing = range(max(found, default=gap.start - 1) + 1, gap.stop)
        found.update(_fill_backward(alignment, still_missing, after.start))
    return found


def _fill_forward(alignment: Alignment, gap: range, start: int, end: int) -> dict[int, Placement]:
    """The tokens in their order, from left to right between these letters of the page."""
    found: dict[int, Placement] = {}
    cursor = start
    for index in gap:
        placement = first_placement(alignment, alignment.claim.tokens[index], cursor, end)
        if placement is not None:
            found[index] = placement
            cursor = placement.end
    return found


def _fill_backward(alignment: Alignment, gap: range, end: int) -> dict[int, Placement]:
    """The tokens that stand directly before these letters, from the last one on, until one does not."""
    found: dict[int, Placement] = {}
    for index in reversed(gap):
        placement = _placement_before(alignment, alignment.claim.tokens[index], end)
        if placement is None:
            return found
        found[index] = placement
        end = placement.start
    return found


def _placement_before(alignment: Alignment, token: ClaimToken, end: int) -> Placement | None:
    """The token right before this letter of the page: in its own length, else misspelt, a letter longer or shorter."""
    for length in (token.length, token.length + 1, token.length - 1):
        start = end - length
        if not 0 <= start < end:
            continue
        placement = placement_at(alignment, token, start, end)
        if placement is not None:
            return placement
    return None
