"""What was found of a claim on a page: the value that every pass takes and gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from visrag_integrations.grounding.claim import Claim
from visrag_integrations.grounding.page_letters import PageLetters


class Placement(NamedTuple):
    """Letters `start` to `end` of the page hold a token; `misspelt` when they are not its very letters."""

    start: int
    end: int
    misspelt: bool = False


@dataclass(frozen=True)
class Alignment:
    """Where the tokens of a claim stand on a page, as far as it is known.

    Tokens are named by their place in the claim, from 0.

    Attributes:
        page: The page.
        claim: The claim.
        placements: For each token of the claim where it stands, or None.
    """

    page: PageLetters
    claim: Claim
    placements: tuple[Placement | None, ...]

    @classmethod
    def empty(cls, page: PageLetters, claim: Claim) -> Alignment:
        """Nothing is found yet."""
        return cls(page, claim, (None,) * len(claim.tokens))

    def placed(self) -> list[int]:
        """The tokens that were found, from left to right in the claim."""
        return [token for token, placement in enumerate(self.placements) if placement is not None]

    def at(self, token: int) -> Placement:
        """Where a token that was found stands."""
        placement = self.placements[token]
        assert placement is not None, f"token {token} was not found"
        return placement

    def extent(self, tokens: Iterable[int]) -> tuple[int, int]:
        """The letters of the page from the first to the last of these tokens, which were found."""
        placements = [self.at(token) for token in tokens]
        return min(placement.start for placement in placements), max(placement.end for placement in placements)

    def replaced(self, changes: Mapping[int, Placement | None]) -> Alignment:
        """The same with other placements for some tokens."""
        placements = list(self.placements)
        for token, placement in changes.items():
            placements[token] = placement
        return dataclasses.replace(self, placements=tuple(placements))
