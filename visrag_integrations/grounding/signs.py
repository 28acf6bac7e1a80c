"""Whether a written number is negative: by a minus before or after it, by brackets, by a triangle.

    -1,234   −1,234   €-1,234   1,234-   (1,234)   (1,234 €)   ▲1,234   ▼ 1,234

Accountants put losses in brackets; but a number in brackets may also be a footnote, a year or a remark, and a triangle
that points up is a minus in Japanese accounts and a rise elsewhere. Where that cannot be told, the sign is "unclear",
and only a number that is marked in the same way is the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from visrag_integrations.grounding.thresholds import THRESHOLDS
from visrag_integrations.scores.numbers import DASHES

CURRENCIES = "$€£¥₹₩₽₺₴₫₪¢"
"""Signs of money, which may stand before or after a number."""
CURRENCY_CODES = "EUR|USD|GBP|CHF|JPY|CNY|INR|KRW|RUB|SEK|NOK|DKK|PLN|CZK|HUF|TRY|BRL|CAD|AUD|Rs|kr|zł|Fr"
"""Codes and short names of money that are written before the number as well as after it."""
MarkName = Literal["", "minus before", "minus after", "brackets", "triangle up", "triangle down"]
Sign = Literal["plus", "minus", "unclear"]

_UP = "▲△▴▵"
_DOWN = "▼▽▾▿"
_OPENING = "(（"  # not "[": square brackets hold references
_CLOSING = ")）"
_BESIDE = f" \u00a0\u202f%‰{CURRENCIES}"  # may stand between a mark and its number
# Accounts write "(1,234)" or "(12.5)". Plain digits in brackets after words are mostly a note or a year.
_IS_ACCOUNTED = re.compile(r"\d\D+\d")
_SHORT_NUMBER = 2
_YEAR_DIGITS = 4
_MONEY_REACH = 12  # characters after a number in which its name of money stands: ") EUR", "  CHF."
_MONEY_NAME = re.compile(rf"\b(?:{CURRENCY_CODES})\b")
_JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")


# What stands before or after a number and makes it a bound or a rough one; longer spellings first.
_COMPARISONS = {
    ">=": "≥", "<=": "≤", "+/-": "±", "+-": "±", "!=": "≠",
    "≥": "≥", "≧": "≥", "⩾": "≥", "≤": "≤", "≦": "≤", "⩽": "≤", ">": ">", "<": "<", "＞": ">", "＜": "<",
    "±": "±", "≠": "≠", "≈": "≈", "~": "≈", "∼": "≈", "～": "≈", "≃": "≈",
}  # fmt: skip
_ARROWS = ("->", "=>", "<-", "→")
_ANY_DASH = re.compile(f"[{DASHES}]")
_TAG = re.compile("</?[a-z]", re.IGNORECASE)


class NumberMark(NamedTuple):
    """How a number is marked, and what that means.

    Attributes:
        mark: What may make it negative.
        sign: Whether it does.
        comparison: "≥" of "≥ 18", "±" of "± 5 mm", "<" of "18 < x"; what stands before and after, with a bar between.
    """

    mark: MarkName = ""
    sign: Sign = "plus"
    comparison: str = ""

    def same(self, other: NumberMark) -> bool:
        """Whether two numbers are marked alike, or have the same sign, which is known; "≥ 18" is not "18"."""
        if self.comparison != other.comparison:
            return False
        if self.mark == other.mark:
            return True
        return self.sign == other.sign != "unclear"


UNMARKED = NumberMark()
"""A number without any mark."""


def mark_of(before: str, after: str) -> MarkName:
    """The mark of a number by the characters around it.

    >>> mark_of("cost -", ""), mark_of("3-", ""), mark_of("€ (", ") in"), mark_of("", "-"), mark_of("▲ ", "")
    ('minus before', '', 'brackets', 'minus after', 'triangle up')
    """
    front = before.rstrip(_BESIDE)
    last = front[-1:]
    if _ends_in_comparison(front) == "±":
        last = ""  # the minus is part of "+/-"
    if last and not front[-2:-1].isalnum():  # "3-5", "f(5)", "rose▲ 5": of the word before
        is_apart = before[len(front) : len(front) + 1].isspace()  # "costs - 5", "- $5": between, or of a list
        if last in DASHES and not is_apart:
            return "minus before"
        if last in _UP:
            return "triangle up"
        if last in _DOWN:
            return "triangle down"
        back = after.lstrip(_BESIDE)
        if last in _OPENING and back[:1] and back[0] in _CLOSING:
            return "brackets"
    if after[:1] and after[0] in DASHES and not after[1:2].isalnum():
        return "minus after"
    return ""


def comparison_of(before: str, after: str) -> str:
    """What makes a number a bound or a rough one, by the characters around it; "" where nothing does.

    >>> comparison_of(">= ", ""), comparison_of("± €", ""), comparison_of("", " < x"), comparison_of("-> ", "")
    ('≥|', '±|', '|<', '')
    """
    # With the last minus and without: "+/- 5" needs it, "≥ -5" has it behind.
    first = _ends_in_comparison(before.rstrip(_BESIDE)) or _ends_in_comparison(before.rstrip(_BESIDE + DASHES))
    second = _begins_with_comparison(after.lstrip(_BESIDE))
    if not first and not second:
        return ""
    return f"{first}|{second}"


def _ends_in_comparison(text: str) -> str:
    text = _ANY_DASH.sub("-", text)
    if text.endswith(_ARROWS):
        return ""
    for spelled, comparison in _COMPARISONS.items():
        if text.endswith(spelled):
            return comparison
    return ""


def _begins_with_comparison(text: str) -> str:
    if text.startswith(_ARROWS) or _TAG.match(text) is not None:
        return ""
    for spelled, comparison in _COMPARISONS.items():
        if text.startswith(spelled) and comparison not in "±≈":  # "5 ± 1", "5~10": of the next number
            return comparison
    return ""


def context_of(words_before: Sequence[str], words_after: Sequence[str]) -> tuple[str, str]:
    """What stands around a number, for `mark_of`: a bracket, a triangle or a sign of money may be a word of its own.

    Args:
        words_before: The word before the number's, and what stands before the number in its own word.
        words_after: What stands after the number in its own word, and the next word.

    >>> context_of(["cost", "("], [")", "and"]), context_of(["▲", ""], ["", "€"])
    (('(', ')'), ('▲ ', ' €'))
    """
    word, before = words_before
    after, next_word = words_after
    if not has_letters(word + before):
        before = f"{word} {before}"
    if not has_letters(after + next_word):
        after = f"{after} {next_word}"
    reach = THRESHOLDS.mark_reach
    return before[-reach:], after[:reach]


def has_words(text: str) -> bool:
    """Whether it has a letter or digit beside a name of money: "(1,234) EUR" ends with its amount.

    >>> has_words(") EUR"), has_words("€)"), has_words(") pieces")
    (False, False, True)
    """
    # OCR gives whole lines as one word, and a file may hold a megabyte of it: only what stands near can be a name.
    near = _MONEY_NAME.sub("", text[:_MONEY_REACH])
    return has_letters(near) or has_letters(text[_MONEY_REACH:])


def has_letters(text: str) -> bool:
    """Whether it has a letter or digit."""
    return any(character.isalnum() for character in text)


def sign_of(mark: MarkName, number: str, context: str, *, alone: bool, ends: bool) -> Sign:
    """What the mark of a number means.

    Args:
        mark: Of the number.
        number: As it is written, with a sign of money or percent beside it.
        context: What is written around it: Japanese accounts have triangles.
        alone: Whether the number stands alone, in a cell of a table.
        ends: Whether no word follows it: it ends its cell or the text.
    """
    if mark in ("minus before", "triangle down"):
        return "minus"
    if mark == "triangle up":
        if _JAPANESE.search(context) is not None:
            return "minus"
        return "unclear"
    if mark == "minus after" and ends:
        return "minus"
    if mark == "brackets" and (alone or (ends and _looks_accounted(number))):
        return "minus"
    return "plus"


def _looks_accounted(number: str) -> bool:
    """Whether a number in brackets after words is rather an amount than a note or a year.

    >>> [_looks_accounted(number) for number in ("1,234", "12.5 %", "1234567", "644", "12", "2019")]
    [True, True, True, True, False, False]
    """
    if _IS_ACCOUNTED.search(number) is not None or not number.isdigit():
        return True
    return len(number) > _SHORT_NUMBER and len(number) != _YEAR_DIGITS
