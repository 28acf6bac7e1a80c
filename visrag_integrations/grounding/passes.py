"""A claim laid on its page: the passes, in their order.

Each pass takes an `Alignment` and gives a new one, so that any of them can be tried, left out or replaced alone.
docs/grounding.md shows what each finds for one claim.
"""

from __future__ import annotations

from collections.abc import Callable

from visrag_integrations.grounding.alignment import Alignment
from visrag_integrations.grounding.claim import Claim
from visrag_integrations.grounding.common_runs import drop_far_fragments, place_common_runs, place_whole
from visrag_integrations.grounding.gaps import fill_gaps
from visrag_integrations.grounding.nearby import anchor, look_around
from visrag_integrations.grounding.page_letters import PageLetters

PASSES: tuple[Callable[[Alignment], Alignment], ...] = (
    place_common_runs,  # 2. from the surest ...
    drop_far_fragments,  # 3.
    anchor,  # 4. only where 2 found nothing
    fill_gaps,  # 5.
    look_around,  # 6. ... to what may stand anywhere
)
"""The passes after the first one, for a claim that does not stand on the page as a whole."""


def align(page: PageLetters, claim: Claim) -> Alignment:
    """Where the tokens of a claim stand on the page.

    Pass 1 looks for the whole claim; most quotations end there.
    """
    whole = place_whole(page, claim)
    if whole is not None:
        return whole
    alignment = Alignment.empty(page, claim)
    for run_pass in PASSES:
        alignment = run_pass(alignment)
    return alignment
