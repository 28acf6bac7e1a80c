"""Passes 1 to 3: the whole claim, else long stretches of letters that claim and page share."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from visrag_integrations.grounding.alignment import Alignment, Placement
from visrag_integrations.grounding.claim import Claim
from visrag_integrations.grounding.folding import is_unspaced
from visrag_integrations.grounding.fragments import counted_letters, fragments_of
from visrag_integrations.grounding.neighbours import is_crossed
from visrag_integrations.grounding.page_letters import PageLetters
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.grounding.token_search import stands_at

_SLICE = 64  # letters compared at once where two texts agree; a matter of speed only


class CommonRun(NamedTuple):
    """Letters of the claim from `here` on that stand on the page from `at` on, and after which the two differ."""

    here: int
    at: int
    length: int


def place_whole(page: PageLetters, claim: Claim) -> Alignment | None:
    """Pass 1: the first place where all of the claim stands, from the beginning of a word to the end of one.

    Rather one where label and value are neighbours on the page, not only in the order of the file.
    """
    if not claim.letters:
        return None
    first: Alignment | None = None
    at = page.text.find(claim.letters)
    for _ in range(THRESHOLDS.max_whole_places):
        if at < 0:
            break
        if _is_whole_at(page, claim, at):
            placements = [Placement(at + token.start, at + token.end) for token in claim.tokens]
            found = Alignment(page, claim, tuple(placements))
            if not is_crossed(found):
                return found
            first = first or found
        at = page.text.find(claim.letters, at + 1)
    return first


def _is_whole_at(page: PageLetters, claim: Claim, at: int) -> bool:
    if not page.begins_word(at) or not page.begins_word(at + len(claim.letters)):
        return False
    return all(stands_at(page, token, at + token.start) for token in claim.tokens)


def place_common_runs(alignment: Alignment) -> Alignment:
    """Pass 2: the tokens that lie in long stretches which claim and page share.

    Of "the net loss was 40 million" the page "The net profit was 40 million" shares the runs "thenet" (too short) and
    "was40million".
    """
    found: dict[int, Placement | None] = {}
    for run in common_runs(alignment.page, alignment.claim.letters):
        found.update(_placed_by(alignment, run))
    return alignment.replaced(found)


def common_runs(page: PageLetters, wanted: str) -> Iterator[CommonRun]:
    """From left to right of what is wanted: the best stretch of the page that agrees from here on."""
    seed = THRESHOLDS.seed
    if is_unspaced(wanted):
        seed = seed // 2
    places = _seed_places(page.text, wanted, seed)
    here = 0
    last_end = len(page.text)  # nothing stands after it, so the first run continues none
    while here <= len(wanted) - seed:
        candidates = places.get(wanted[here : here + seed], ())
        if not candidates:
            here += 1
            continue
        run = _best_run(page.text, wanted, here, candidates, last_end)
        yield run
        here = run.here + run.length
        last_end = run.at + run.length


def _seed_places(text: str, wanted: str, seed: int) -> dict[str, list[int]]:
    """Where on the page each stretch of `seed` letters of the claim begins, from top to bottom."""
    seeds = {wanted[here : here + seed] for here in range(len(wanted) - seed + 1)}
    places: dict[str, list[int]] = defaultdict(list)
    for at in range(len(text) - seed + 1):
        part = text[at : at + seed]
        if part in seeds and len(places[part]) < THRESHOLDS.max_candidates:
            places[part].append(at)
    return places


def _best_run(text: str, wanted: str, here: int, candidates: Sequence[int], last_end: int) -> CommonRun:
    """The longest run from here on, rather one that continues the last run; of equal ones the first on the page."""
    best = CommonRun(here, candidates[0], 0)
    best_worth = 0
    for at in candidates:
        run = CommonRun(here, at, _agreeing_letters(text, at, wanted, here))
        worth = run.length
        if 0 <= at - last_end <= THRESHOLDS.near:
            worth += THRESHOLDS.continues_bonus
        if worth > best_worth:
            best = run
            best_worth = worth
    return best


def _agreeing_letters(text: str, at: int, wanted: str, here: int) -> int:
    """How many letters agree from these two places on."""
    length = 0
    while True:
        one = text[at + length : at + length + _SLICE]
        other = wanted[here + length : here + length + _SLICE]
        if one == other and len(one) == _SLICE:
            length += _SLICE
            continue
        for letter, against in zip(one, other, strict=False):  # one of them may end first
            if letter != against:
                break
            length += 1
        return length


def _placed_by(alignment: Alignment, run: CommonRun) -> dict[int, Placement | None]:
    """The tokens in the run, without those at its ends that are only part of a word of the page.

    "40 kg" and "140 kg" share the run "40kg"; "40" is no word of that page, so only "kg" is left.
    """
    page = alignment.page
    tokens = alignment.claim.tokens
    shift = run.at - run.here
    first, stop = _tokens_inside(alignment.claim, run.here, run.here + run.length)
    while first < stop and not page.begins_word(tokens[first].start + shift):
        first += 1
    while first < stop and not page.begins_word(tokens[stop - 1].end + shift):
        stop -= 1
    inside = range(first, stop)
    if counted_letters(alignment, inside) < THRESHOLDS.seed:
        return {}
    found: dict[int, Placement | None] = {}
    for index in inside:
        token = tokens[index]
        if stands_at(page, token, token.start + shift):
            found[index] = Placement(token.start + shift, token.end + shift)
    return found


def _tokens_inside(claim: Claim, start: int, end: int) -> tuple[int, int]:
    """The first token that lies in these letters of the claim as a whole, and the one after the last."""
    first = bisect_left(claim.tokens, start, key=lambda token: token.start)
    stop = first
    while stop < len(claim.tokens) and claim.tokens[stop].end <= end:
        stop += 1
    return first, stop


def drop_far_fragments(alignment: Alignment) -> Alignment:
    """Pass 3: forget short fragments that are far from the longest: they are likenesses, not quotations."""
    fragments = fragments_of(alignment)
    if not fragments:
        return alignment
    reach = len(alignment.claim.letters)
    longest = max(fragments, key=lambda fragment: counted_letters(alignment, fragment))
    start, end = alignment.extent(longest)
    dropped: dict[int, Placement | None] = {}
    for fragment in fragments:
        if counted_letters(alignment, fragment) >= THRESHOLDS.counts_anywhere:
            continue
        first, last = alignment.extent(fragment)
        is_near = first < end + reach and last > start - reach
        if not is_near:
            dropped.update(dict.fromkeys(fragment))
    return alignment.replaced(dropped)
