"""The pieces of evidence that are looked for, and what each weighs: numbers, units and names most."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from visrag_integrations.grounding.letters import UNSPACED, letters_of
from visrag_integrations.grounding.numbers import NUMBER

Kind = Literal["number", "unit", "name", "sign", "word"]
WEIGHTS: dict[Kind, float] = {"number": 4.0, "unit": 1.0, "name": 3.0, "sign": 1.0, "word": 1.0}
_SHORT_WORD = 0.5  # articles and the like; and a character of a script without spaces
_LONGEST_UNIT = 3  # letters, with a capital among them; "million" and "kilometres" are units at any length
SIGNS = "%‰$€£¥₹₩₽₺₴₫₪¢"

# Accents and vowel signs are no letters to `re`, and still part of the word.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0981-\u0dff"
_TOKEN = re.compile(
    rf"(?P<number>{NUMBER})|(?P<one>[{UNSPACED}])"
    rf"|(?P<word>(?:(?![{UNSPACED}\d_])\w(?:(?!\d)[{_MARKS}])*)+)|(?P<sign>[{SIGNS}])"
)
_HYPHENATED = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010]\s*\n\s*(?=[^\W\d_])")


@dataclass(frozen=True)
class Token:
    """A piece of the evidence; a short word, or one in small letters, after a number is taken for its unit.

    Attributes:
        kind: What it is; what is not a plain word must stand on the page exactly.
        start: Its first letter in the evidence's stream of letters.
        end: The letter after its last.
        raw: As it is written.
        span: Where it stands in the evidence's text.
        cased: Whether its script has small and capital letters.
        weight: What it counts.
        before: The two characters before a number.
    """

    kind: Kind
    start: int
    end: int
    raw: str
    span: tuple[int, int]
    cased: bool = True
    weight: float = 1.0
    before: str = ""

    @property
    def exact(self) -> bool:
        """Whether another spelling makes it another thing; where a script has no capitals, names cannot be told."""
        return self.kind != "word" or not self.cased

    @property
    def may_slip(self) -> bool:
        """Whether a word that looks like it may be meant."""
        return self.cased and self.kind in ("word", "name", "unit")


@dataclass(frozen=True)
class Claim:
    """A piece of evidence, ready to be looked for."""

    text: str
    letters: str
    tokens: tuple[Token, ...]

    @classmethod
    def of(cls, text: str) -> Claim:
        """The tokens of a text.

        >>> [(token.raw, token.kind) for token in Claim.of("Of 1,234 kg, Miller lost 12 %.").tokens][:5]
        [('Of', 'name'), ('1,234', 'number'), ('kg', 'unit'), ('Miller', 'name'), ('lost', 'word')]
        """
        letters, places = letters_of(text)
        joined = {match.start(): match.end() for match in _HYPHENATED.finditer(text)}
        tokens: list[Token] = []
        for match in _TOKEN.finditer(text):
            start, end = bisect_left(places, match.start()), bisect_left(places, match.end())
            if start == end:
                continue
            last = tokens[-1] if tokens else None
            if last and match["word"] and joined.get(last.span[1]) == match.start():
                tokens[-1] = _joined(last, match.group(), end, match.end())
            else:
                tokens.append(_token(match, start, end, last, text))
        return cls(text, letters, tuple(tokens))

    def letters_in(self, tokens: Sequence[Token]) -> int:
        """How many letters these tokens have."""
        return sum(token.end - token.start for token in tokens)


def _token(match: re.Match[str], start: int, end: int, last: Token | None, text: str) -> Token:
    raw, span = match.group(), match.span()
    if match["number"]:
        return Token(
            "number", start, end, raw, span, weight=WEIGHTS["number"], before=text[max(0, span[0] - 2) : span[0]]
        )
    if match["sign"]:
        return Token("sign", start, end, raw, span, weight=WEIGHTS["sign"])
    if match["one"]:
        return Token("word", start, end, raw, span, cased=False, weight=_SHORT_WORD)
    cased = raw.lower() != raw.upper()
    counted = last is not None and last.kind == "number" and span[0] - last.span[1] <= 1
    if counted and (len(raw) <= _LONGEST_UNIT or raw == raw.lower()):
        return Token("unit", start, end, raw, span, cased, WEIGHTS["unit"])
    if raw != raw.lower():
        weight = WEIGHTS["name"] if not _begins_sentence(text, span[0]) else _word_weight(raw)
        return Token("name", start, end, raw, span, cased, weight)
    return Token("word", start, end, raw, span, cased, _word_weight(raw))


def _joined(first: Token, raw: str, end: int, stop: int) -> Token:
    """A word that was broken at the end of a line."""
    whole = first.raw + raw
    weight = max(first.weight, _word_weight(whole))
    return Token(first.kind, first.start, end, whole, (first.span[0], stop), first.cased, weight)


def _word_weight(raw: str) -> float:
    return WEIGHTS["word"] if len(raw) > 3 else _SHORT_WORD


def _begins_sentence(text: str, at: int) -> bool:
    before = text[max(0, at - 12) : at].rstrip(" \t\n\"'“„«(")
    return not before or before[-1] in ".!?:;•-*"
