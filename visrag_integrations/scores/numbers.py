"""When two written numbers are the same: `1,234` is `1234` and `3,14` is `3.14`, but `314` is not."""

from __future__ import annotations

import functools
import re
import unicodedata

DASHES = "-−‒–—‐‑﹣－˗⁻"
"""Minus signs, and the dashes that are written for one."""
_GAP = "[ \u00a0\u2009\u202f'’]"  # what else stands between thousands: spaces of several widths, apostrophes
_VULGAR = "¼½¾⅐-⅞↉"
_RAISED = "⁰¹²³⁴-⁹"
_POWER = rf"(?:⁻?[{_RAISED}]+|\^[-−]?\d+)"
NUMBER = (
    rf"(?:\d{{1,3}} ?)?[{_VULGAR}]"  # 2½
    r"|(?<![\d/.,])(?:\d{1,3} )?\d{1,2}[/⁄]\d{1,2}(?![\d/⁄]|[.,]\d)"  # 1/2, 2 1/2; not a date of three parts
    rf"|\d{{1,3}}(?:{_GAP}\d{{3}})+(?:[.,]\d+)*(?!\d)"
    rf"|\d+(?:[.,٫٬]\d+)*{_POWER}?"
)
"""A number as people write it, as a regular expression.

A fraction, groups of three with gaps, or digits with points and commas, and a power of them: 1/2, 1 234.5, 10⁶.
"""
_GROUPED = re.compile(_GAP)
_SEPARATED = re.compile("([.,])")
_FRACTION = re.compile(r"(?:(\d+) )?(\d+)/(\d+)")
_ARABIC_SEPARATORS = {"٫": ".", "٬": ","}  # decimal point, thousands
_GROUP = 3  # digits between two separators of thousands
_LAKH_GROUP = 2  # in India only the last group has three: 12,34,567
_SMALL_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "01234567890123456789")


def same_number(one: str, other: str) -> bool:
    """Whether both may be read as the same number; where a comma may mean two things, either will do.

    >>> [same_number("1,234", other) for other in ("1234", "1.234", "1 234", "1235", "12.34")]
    [True, True, True, False, False]
    >>> same_number("3,14", "3.14"), same_number("3.14", "314"), same_number("1.2.3", "1.23")
    (True, False, False)
    >>> same_number("12,34,567", "1234567"), same_number("2½", "2 1/2")
    (True, True)
    >>> same_number("10⁶", "10^6"), same_number("10⁶", "106")
    (True, False)
    """
    return one == other or not readings(one).isdisjoint(readings(other))


def plain_digits(number: str) -> str:
    """With small raised and lowered digits as common ones, as they stand in units and formulas: m², H₂O.

    >>> plain_digits("²")
    '2'
    """
    return number.translate(_SMALL_DIGITS)


def cut_off(before: str, after: str) -> bool:
    """Whether a number is only part of a longer one, by the characters around it in the same word.

    >>> cut_off("1", ""), cut_off("3.", ""), cut_off("", ".5"), cut_off("(", "."), cut_off("v", "kg"), cut_off("", "½")
    (True, True, True, False, False, True)
    """
    goes_on_before = re.search(r"\d[.,]?\Z", before)
    goes_on_after = re.match(rf"[.,]?\d|[{_VULGAR}{_RAISED}]|\^\d", after)
    return goes_on_before is not None or goes_on_after is not None


@functools.lru_cache(1 << 12)
def readings(number: str) -> frozenset[str]:
    """What the number may be, in plain digits with a point: `1.234` is both 1234 and 1.234."""
    number, power = _without_power(number)
    if power:
        return frozenset(f"{reading}^{power}" for reading in readings(number))
    fraction = _as_fraction(number)
    if fraction:
        return frozenset({fraction})
    plain = _GROUPED.sub("", "".join(map(_ascii_digit, number)))
    parts = _SEPARATED.split(plain)  # "1,234.5" -> 1 , 234 . 5
    groups = parts[::2]
    separators = parts[1::2]
    if not all(map(str.isdigit, groups)):
        return frozenset()
    if not separators:
        return frozenset(groups)
    found: set[str] = set()
    if len(set(separators)) == 1 and (_are_thousands(groups) or _are_lakhs(groups)):
        found.add("".join(groups))
    elif len(separators) > 1:
        found.add(".".join(groups))  # a version or a date: 1.2.3
    whole = groups[:-1]
    has_decimals = separators[-1] not in separators[:-1] and (_are_thousands(whole) or _are_lakhs(whole))
    if len(separators) == 1 or has_decimals:
        found.add(f"{''.join(whole)}.{groups[-1]}")
    return frozenset(found)


def _are_thousands(groups: list[str]) -> bool:
    """Whether the digits between the separators are grouped by three; a number does not begin with "0,"."""
    if len(groups[0]) > _GROUP or groups[0] == "0":
        return False
    return all(len(group) == _GROUP for group in groups[1:])


def _are_lakhs(groups: list[str]) -> bool:
    """Whether the digits are grouped as in India: 12,34,567."""
    if len(groups) < 2 or len(groups[0]) > _LAKH_GROUP or groups[0].startswith("0"):
        return False
    return len(groups[-1]) == _GROUP and all(len(group) == _LAKH_GROUP for group in groups[1:-1])


def _without_power(number: str) -> tuple[str, str]:
    """A number and its power: 10⁻⁶ and 10^-6 are 10 and -6."""
    found = re.fullmatch(rf"(.*[\d])({_POWER})", number, re.DOTALL)
    if found is None:
        return number, ""
    power = plain_digits(found[2].removeprefix("^")).replace("⁻", "-").replace("−", "-")
    return found[1], power


def _as_fraction(number: str) -> str:
    """A fraction in one way to write it, 2½ and 2 1/2 as "2 1/2"; "" for other numbers."""
    if number.isascii() and "/" not in number:
        return ""
    spelled = ""
    for character in number:
        if unicodedata.decomposition(character).startswith("<fraction>"):
            spelled += " "
        spelled += unicodedata.normalize("NFKC", character)
    spelled = " ".join(spelled.replace("⁄", "/").split())
    spelled = re.sub(r" ?/ ?", "/", spelled)
    if _FRACTION.fullmatch(spelled) is None:
        return ""
    return spelled


def _ascii_digit(character: str) -> str:
    """Digits of every script as 0 to 9; Arabic separators as ours."""
    if character in _ARABIC_SEPARATORS:
        return _ARABIC_SEPARATORS[character]
    if character.isascii():
        return character
    return str(unicodedata.decimal(character, character))
