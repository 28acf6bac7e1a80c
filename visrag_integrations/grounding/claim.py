"""A piece of evidence, cut into the tokens that are looked for, and what each weighs: numbers and names most."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

from visrag_integrations.grounding.folding import UNSPACED, folded_letters
from visrag_integrations.grounding.signs import (
    CURRENCIES,
    UNMARKED,
    NumberMark,
    comparison_of,
    context_of,
    mark_of,
    sign_of,
)
from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.scores.numbers import NUMBER, cut_off

TokenKind = Literal["number", "unit", "name", "sign", "word"]
SIGNS = f"%‰{CURRENCIES}"
"""Signs of quantity: percent, per mille and currencies."""

# Accents and vowel signs are no letters to `re`, and still part of the word.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0981-\u0dff"
# The order matters: "1,234" is a number before it is anything else, "税" is a token of its own, not part of a word.
_TOKEN = re.compile(
    rf"(?P<number>{NUMBER})|(?P<unspaced>[{UNSPACED}])"
    rf"|(?P<word>(?:(?![{UNSPACED}\d_])\w(?:(?!\d)[{_MARKS}])*)+)|(?P<sign>[{SIGNS}])"
)
# A word divided at the end of a line: "mar-\ngin". The hyphen may be soft or a real hyphen character.
_DIVIDED = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010]\s*\n\s*(?=[^\W\d_])")
_OPENING = " \t\n\"'“„«("  # may stand between the end of a sentence and the next word
_SENTENCE_ENDS = ".!?:;•-*"  # the last three begin items of lists


@dataclass(frozen=True)
class ClaimToken:
    """A number, unit, name, sign or word of the claim.

    Of the claim "Costs: 40 kg", whose letters are "costs40kg", the token "40" is a number with the letters 5 to 7 and
    the span 7 to 9.

    Attributes:
        kind: What it is.
        start: Its first letter in the claim's letters.
        end: The letter after its last.
        raw: As it is written.
        span: Where it stands in the claim's text.
        cased: Whether its script has small and capital letters.
        weight: What it counts.
        mark: Of a number, how it is marked as negative.
        in_word: Whether a number follows a letter without a space, as in "m2".
        is_cut: Whether a number is only part of what is written: "½" of "½½".
    """

    kind: TokenKind
    start: int
    end: int
    raw: str
    span: tuple[int, int]
    cased: bool = True
    weight: float = 1.0
    mark: NumberMark = UNMARKED
    in_word: bool = False
    is_cut: bool = False

    @property
    def length(self) -> int:
        """How many letters it has."""
        return self.end - self.start

    @property
    def counted_letters(self) -> int:
        """How many letters it counts as where short likenesses are told from quotations.

        A character of a script without capitals (and mostly without spaces) says as much as two letters.
        """
        if self.cased:
            return self.length
        return 2 * self.length

    @property
    def exact(self) -> bool:
        """Whether another spelling makes it another thing; where a script has no capitals, any word may be a name."""
        return self.kind != "word" or not self.cased

    @property
    def may_be_misspelt(self) -> bool:
        """Whether a word that looks like it may be meant: never for a number or a sign."""
        return self.cased and self.kind in ("word", "name", "unit")


@dataclass(frozen=True)
class Claim:
    """A piece of evidence, ready to be looked for.

    Attributes:
        text: As the model wrote it.
        letters: Its folded letters.
        tokens: From left to right.
    """

    text: str
    letters: str
    tokens: tuple[ClaimToken, ...]

    @property
    def says_something(self) -> bool:
        """Whether it has more than a word or two that stand on every page ("a", "of the"); "IBM" and "5" do not."""
        if len(self.letters) >= THRESHOLDS.seed:
            return True  # "are due in": small words, and still a phrase
        unspaced = 0
        for token in self.tokens:
            is_acronym = token.kind == "name" and token.length > 1 and token.raw.isupper()
            if token.weight > THRESHOLDS.short_word_weight or token.kind == "sign" or is_acronym:
                return True
            unspaced += not token.cased
        return unspaced > 1  # a character of a script without spaces is half a word

    @classmethod
    def of(cls, text: str) -> Claim:
        """The tokens of a text.

        >>> [(token.raw, token.kind) for token in Claim.of("Of 1,234 kg, Miller lost 12 %.").tokens][:5]
        [('Of', 'name'), ('1,234', 'number'), ('kg', 'unit'), ('Miller', 'name'), ('lost', 'word')]
        >>> [(token.raw, token.start, token.end, token.span) for token in Claim.of("a mar-\\ngin").tokens]
        [('a', 0, 1, (0, 1)), ('margin', 1, 7, (2, 10))]
        """
        letters, places = folded_letters(text)
        divided = {match.start(): match.end() for match in _DIVIDED.finditer(text)}
        tokens: list[ClaimToken] = []
        last: ClaimToken | None = None
        for match in _TOKEN.finditer(text):
            start = bisect_left(places, match.start())
            end = bisect_left(places, match.end())
            if start == end:  # nothing of it is a letter: an accent on its own
                continue
            continues = last is not None and match["word"] and divided.get(last.span[1]) == match.start()
            if last is not None and continues:
                tokens.pop()
                last = _joined(last, match.group(), end, match.end())
            else:
                last = _token(match, start, end, last, text)
            tokens.append(last)
        return cls(text, letters, tuple(tokens))


def _token(match: re.Match[str], start: int, end: int, last: ClaimToken | None, text: str) -> ClaimToken:
    raw = match.group()
    span = match.span()
    if match["number"]:
        mark = _mark_in(text, span, raw)
        before = text[max(0, span[0] - 2) : span[0]]
        is_cut = cut_off(before, text[span[1] : span[1] + 2])
        number = ClaimToken("number", start, end, raw, span, weight=THRESHOLDS.number_weight)
        return dataclasses.replace(number, mark=mark, in_word=before[-1:].isalpha(), is_cut=is_cut)
    if match["sign"]:
        return ClaimToken("sign", start, end, raw, span, weight=THRESHOLDS.sign_weight)
    if match["unspaced"]:
        return ClaimToken("word", start, end, raw, span, cased=False, weight=THRESHOLDS.short_word_weight)
    cased = raw.lower() != raw.upper()
    if _is_unit(raw, span, last):
        return ClaimToken("unit", start, end, raw, span, cased, THRESHOLDS.unit_weight)
    has_capital = raw != raw.lower()
    if not has_capital:
        return ClaimToken("word", start, end, raw, span, cased, _word_weight(raw))
    # The first word of a sentence has to be right to the letter, as a name has, but it may be any word: "The".
    weight = THRESHOLDS.name_weight
    if _begins_sentence(text, span[0]):
        weight = _word_weight(raw)
    return ClaimToken("name", start, end, raw, span, cased, weight)


def _mark_in(text: str, span: tuple[int, int], raw: str) -> NumberMark:
    """How a number of a text is marked."""
    reach = THRESHOLDS.sentence_end_reach
    before = re.split(r"\s", " " + text[max(0, span[0] - reach) : span[0]])
    after = re.split(r"\s", text[span[1] : span[1] + reach] + " ")
    around = context_of(before[-2:], after[:2])
    mark = mark_of(*around)
    comparison = comparison_of(*around)
    if not mark:
        return UNMARKED._replace(comparison=comparison)
    alone = not any(character.isalnum() for character in text[: span[0]] + text[span[1] :])
    rest = text[span[1] :].lstrip(")）-−–% \u00a0" + CURRENCIES)
    ends = not rest[:1].isalpha() or rest[:1].isupper()
    return NumberMark(mark, sign_of(mark, raw, text, alone=alone, ends=ends), comparison)


def _is_unit(raw: str, span: tuple[int, int], last: ClaimToken | None) -> bool:
    """Whether the word is the unit of the number right before it."""
    if last is None or last.kind != "number" or span[0] - last.span[1] > 1:
        return False
    return raw == raw.lower() or len(raw) <= THRESHOLDS.longest_unit_with_capital


def _joined(first: ClaimToken, raw: str, end: int, stop: int) -> ClaimToken:
    """A word that was divided at the end of a line."""
    whole = first.raw + raw
    weight = max(first.weight, _word_weight(whole))
    return ClaimToken(first.kind, first.start, end, whole, (first.span[0], stop), first.cased, weight)


def _word_weight(raw: str) -> float:
    if len(raw) <= THRESHOLDS.short_word:
        return THRESHOLDS.short_word_weight
    return THRESHOLDS.word_weight


def _begins_sentence(text: str, at: int) -> bool:
    before = text[max(0, at - THRESHOLDS.sentence_end_reach) : at].rstrip(_OPENING)
    return not before or before[-1] in _SENTENCE_ENDS
