"""Which letters of a page a piece of evidence speaks of: long common runs first, then the words between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import NamedTuple

from visrag_integrations.grounding.letters import PageLetters, is_unspaced
from visrag_integrations.grounding.numbers import cut_off, is_negative, same_number
from visrag_integrations.grounding.slips import is_slip
from visrag_integrations.grounding.tokens import Claim, Token

SEED = 8  # letters that must agree before a run is looked at; of scripts without spaces half as many
ALONE = 16  # letters of a run that counts wherever it stands; a shorter one must be near the longest
CLOSE = 60  # letters between two parts of one passage
NEAR = 120  # letters of the page around a run in which single words are looked for
_CANDIDATES = 64  # places of one seed or word that are tried
_OPTIONS = 16  # places of a word that are compared
_MOST_PLACES = 1000  # places of the whole text that are tried
_FOLLOWS = 12  # letters that a run is worth more when it goes on where the last one ended


class Match(NamedTuple):
    """Letters `start` to `end` of the page hold a token; with `slip`, not to the letter."""

    start: int
    end: int
    slip: bool = False


@dataclass
class Alignment:
    """What was found of a claim on a page.

    Attributes:
        found: For each token of the claim where it stands, or None.
    """

    page: PageLetters
    claim: Claim
    found: list[Match | None] = field(default_factory=list)

    def fragments(self) -> list[list[int]]:
        """Tokens that stand on the page as they do in the evidence, one after another: their places in the claim."""
        fragments: list[list[int]] = []
        for index, match in enumerate(self.found):
            if match is None:
                continue
            last = fragments[-1][-1] if fragments else None
            if last is not None and last == index - 1 and self.touches(last, index):
                fragments[-1].append(index)
            else:
                fragments.append([index])
        return fragments

    def touches(self, first: int, second: int) -> bool:
        """Whether nothing stands between two found tokens, on the page and in the evidence."""
        one, other = self.found[first], self.found[second]
        between = self.claim.tokens[second].start - self.claim.tokens[first].end
        return one is not None and other is not None and other.start - one.end == between


def align(page: PageLetters, claim: Claim) -> Alignment:
    """Where the tokens of a claim stand on the page."""
    alignment = Alignment(page, claim, [None] * len(claim.tokens))
    whole = _whole(page, claim)
    if whole is not None:
        alignment.found = [Match(whole + token.start, whole + token.end) for token in claim.tokens]
        return alignment
    for run in _runs(page, claim.letters):
        _place_run(alignment, run)
    _keep_near(alignment)
    if not any(alignment.found):
        _anchor(alignment)
    _fill_gaps(alignment)
    _look_around(alignment)
    return alignment


def stands_at(page: PageLetters, token: Token, at: int) -> bool:
    """Whether the letters here, which are the token's, are also the same number, or a word of their own."""
    if token.kind != "number":
        return True
    before, raw, after = page.raw(at, at + token.end - token.start, around=2)
    same_sign = is_negative(before) == is_negative(token.before)
    return same_sign and not cut_off(before, after) and same_number(token.raw, raw)


def _whole(page: PageLetters, claim: Claim) -> int | None:
    """The first place where all of it stands, from the beginning of a word to the end of one."""
    at = page.text.find(claim.letters)
    for _ in range(_MOST_PLACES):
        if at < 0 or not claim.letters:
            return None
        if (
            page.begins_word(at)
            and page.begins_word(at + len(claim.letters))
            and all(stands_at(page, token, at + token.start) for token in claim.tokens if token.kind == "number")
        ):
            return at
        at = page.text.find(claim.letters, at + 1)
    return None


# --- runs ---------------------------------------------------------------------------------------------------------


class _Run(NamedTuple):
    """Letters of the evidence from `here` on that stand on the page from `at` on."""

    here: int
    at: int
    length: int


def _runs(page: PageLetters, wanted: str) -> Iterator[_Run]:
    """From left to right of what is wanted: the longest stretch of the page that agrees from here on."""
    seed = SEED // 2 if is_unspaced(wanted) else SEED
    places = _seed_places(page.text, wanted, seed)
    here, last_end = 0, len(page.text)
    while here <= len(wanted) - seed:
        candidates = places.get(wanted[here : here + seed], ())
        runs = [_Run(here, at, _agree(page.text, at, wanted, here)) for at in candidates]
        if not runs:
            here += 1
            continue
        worth = [(run.length + _FOLLOWS * (0 <= run.at - last_end <= NEAR), -run.at, run) for run in runs]
        best = max(worth)[2]
        yield best
        here, last_end = here + best.length, best.at + best.length


def _seed_places(text: str, wanted: str, seed: int) -> dict[str, list[int]]:
    """Where on the page each stretch of `seed` letters of the evidence begins."""
    seeds = {wanted[here : here + seed] for here in range(len(wanted) - seed + 1)}
    places: dict[str, list[int]] = defaultdict(list)
    for at in range(len(text) - seed + 1):
        part = text[at : at + seed]
        if part in seeds and len(places[part]) < _CANDIDATES:
            places[part].append(at)
    return places


def _agree(text: str, at: int, wanted: str, here: int) -> int:
    """How many letters agree from these two places on."""
    step, length = 64, 0
    while True:
        one, other = text[at + length : at + length + step], wanted[here + length : here + length + step]
        if one != other or len(one) < step:
            differs = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
            return length + next(differs, min(len(one), len(other)))
        length += step


def _place_run(alignment: Alignment, run: _Run) -> None:
    """Mark the tokens that lie in the run, without words of the page or the evidence that it only touches."""
    page, tokens = alignment.page, alignment.claim.tokens
    inside = [
        index for index, token in enumerate(tokens) if run.here <= token.start and token.end <= run.here + run.length
    ]
    shift = run.at - run.here
    while inside and not page.begins_word(tokens[inside[0]].start + shift):
        inside.pop(0)
    while inside and not page.begins_word(tokens[inside[-1]].end + shift):
        inside.pop()
    if not _weighs(alignment, inside, SEED):
        return
    for index in inside:
        token = tokens[index]
        if stands_at(page, token, token.start + shift):
            alignment.found[index] = Match(token.start + shift, token.end + shift)


def _weighs(alignment: Alignment, tokens: Sequence[int], least: int) -> bool:
    """Whether these tokens have so many letters; a character of a script without spaces counts as two."""
    letters = (alignment.claim.tokens[index] for index in tokens)
    return sum((token.end - token.start) * (1 if token.cased else 2) for token in letters) >= least


def _keep_near(alignment: Alignment) -> None:
    """Leave out short runs that are far from the longest: likenesses."""
    fragments = alignment.fragments()
    if not fragments:
        return
    reach = len(alignment.claim.letters)
    tokens = alignment.claim.tokens

    def letters(fragment: Sequence[int]) -> int:
        return sum((tokens[i].end - tokens[i].start) * (1 if tokens[i].cased else 2) for i in fragment)

    start, end = _extent(alignment, max(fragments, key=letters))
    for fragment in fragments:
        first, last = _extent(alignment, fragment)
        if letters(fragment) < ALONE and not (first < end + reach and last > start - reach):
            for index in fragment:
                alignment.found[index] = None


def _extent(alignment: Alignment, tokens: Sequence[int]) -> tuple[int, int]:
    matches = [match for index in tokens if (match := alignment.found[index]) is not None]
    return min(match.start for match in matches), max(match.end for match in matches)


def _anchor(alignment: Alignment) -> None:
    """Where no run is long enough: the place of the page that holds most of the tokens, by weight."""
    tokens = alignment.claim.tokens
    heaviest = sorted(
        range(len(tokens)), key=lambda index: (-tokens[index].weight, tokens[index].start - tokens[index].end)
    )
    best: tuple[float, int, int] | None = None
    reach = len(alignment.claim.letters) + NEAR
    for index in heaviest[:3]:
        token = tokens[index]
        for at in _occurrences(alignment, token, 0, len(alignment.page.text)):
            window = alignment.page.text[max(0, at - reach) : at + reach]
            near = sum(
                other.weight for other in tokens[:200] if alignment.claim.letters[other.start : other.end] in window
            )
            if best is None or near > best[0]:
                best = near, index, at
    if best is not None:
        _, index, at = best
        alignment.found[index] = Match(at, at + tokens[index].end - tokens[index].start)


# --- what stands between the runs ---------------------------------------------------------------------------------


def _fill_gaps(alignment: Alignment) -> None:
    """Look for the tokens between, before and after what was found where they should stand."""
    missing = [index for index, match in enumerate(alignment.found) if match is None]
    for _, group in groupby(enumerate(missing), key=lambda pair: pair[1] - pair[0]):
        gap = [index for _, index in group]
        before = alignment.found[gap[0] - 1] if gap[0] else None
        after = alignment.found[gap[-1] + 1] if gap[-1] + 1 < len(alignment.found) else None
        letters = alignment.claim.letters_in([alignment.claim.tokens[index] for index in gap])
        if before and after and 0 <= after.start - before.end <= 3 * letters + 48:
            _fill(alignment, gap, before.end, after.start)
            continue
        if before:
            _fill(alignment, gap, before.end, min(len(alignment.page.text), before.end + 2 * letters + 24))
        if after:
            _fill_backward(alignment, gap, after.start)


def _fill(alignment: Alignment, gap: Sequence[int], start: int, end: int) -> None:
    """Tokens in their order, from left to right of these letters of the page."""
    cursor = start
    for index in gap:
        token = alignment.claim.tokens[index]
        match = _next(alignment, token, cursor, end)
        if match is not None:
            alignment.found[index] = match
            cursor = match.end


def _fill_backward(alignment: Alignment, gap: Sequence[int], end: int) -> None:
    """Tokens that stand directly before these letters, from the last one on."""
    for index in reversed(gap):
        token = alignment.claim.tokens[index]
        if alignment.found[index] is not None:
            return
        length = token.end - token.start
        starts = (end - length, end - length - 1, end - length + 1)
        options = [_at(alignment, token, start, end) for start in starts if 0 <= start < end]
        match = next((option for option in options if option and not option.slip), None) or next(
            filter(None, options), None
        )
        if match is None:
            return
        alignment.found[index] = match
        end = match.start


def _next(alignment: Alignment, token: Token, start: int, end: int) -> Match | None:
    """The token itself, or it with a slip of the pen, between these letters of the page."""
    for at in _occurrences(alignment, token, start, end):
        return Match(at, at + token.end - token.start)
    if not token.may_slip:
        return None
    length = token.end - token.start
    words = [start, *(at for at in range(start + 1, min(end, start + 200)) if alignment.page.begins_word(at))]
    for at in words[:40]:
        for stop in (at + length, at + length + 1, at + length - 1):
            if at < stop <= end and (match := _at(alignment, token, at, stop)):
                return match
    return None


def _at(alignment: Alignment, token: Token, start: int, end: int) -> Match | None:
    """The token on exactly these letters of the page, or with a slip."""
    page, wanted = alignment.page, alignment.claim.letters[token.start : token.end]
    here = page.text[start:end]
    if here == wanted:
        return Match(start, end) if stands_at(page, token, start) else None
    if not (token.may_slip and page.begins_word(start) and page.begins_word(end)):
        return None
    raw = page.raw(start, end)[1]
    exact = token.exact or raw != raw.lower()
    return Match(start, end, slip=True) if is_slip(wanted, here, exact=exact) else None


def _occurrences(alignment: Alignment, token: Token, start: int, end: int) -> Iterator[int]:
    """Where the token stands as a word of its own between these letters, or right at their beginning."""
    page, wanted = alignment.page, alignment.claim.letters[token.start : token.end]
    at = page.text.find(wanted, start, end)
    for _ in range(_CANDIDATES):
        if at < 0:
            return
        stop = at + len(wanted)
        if (at == start > 0 or page.begins_word(at)) and page.begins_word(stop) and stands_at(page, token, at):
            yield at
        at = page.text.find(wanted, at + 1, end)


def _look_around(alignment: Alignment) -> None:
    """What is still missing, around what was found: these may be the cells of a table. Short words only close by."""
    placed = [index for index, match in enumerate(alignment.found) if match is not None]
    if not placed:
        return
    start, end = _extent(alignment, placed)
    reach = len(alignment.claim.letters) + NEAR
    start, end = max(0, start - reach), min(len(alignment.page.text), end + reach)
    after = _next_found(alignment.found)
    before: Match | None = None
    for index, token in enumerate(alignment.claim.tokens):
        if alignment.found[index] is None:
            length, around = token.end - token.start, (before, after[index])
            places = islice(_occurrences(alignment, token, start, end), _OPTIONS)
            distance, at = min(((_distance(around, at, at + length), at) for at in places), default=(0, -1))
            if at >= 0 and (token.kind != "word" or length > 3 or distance <= CLOSE):
                alignment.found[index] = Match(at, at + length)
        before = alignment.found[index] or before


def _next_found(found: Sequence[Match | None]) -> list[Match | None]:
    """For each token what was found next after it."""
    following: list[Match | None] = []
    last: Match | None = None
    for match in reversed(found):
        following.append(last)
        last = match or last
    return following[::-1]


def _distance(around: tuple[Match | None, Match | None], start: int, end: int) -> int:
    """How far letters are from what stands before and after; much farther on their wrong side."""
    before, after = around
    gaps = [start - before.end] if before else []
    gaps += [after.start - end] if after else []
    return min(gap if gap >= 0 else NEAR - 3 * gap for gap in gaps)
