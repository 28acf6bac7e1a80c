"""When two written numbers are the same: `1,234` is `1234` and `3,14` is `3.14`, but `314` is not."""

from __future__ import annotations

import functools
import re
import unicodedata

_GAP = "[ \u00a0\u2009\u202f'’]"  # what else stands between thousands: spaces of several widths, apostrophes
NUMBER = rf"\d{{1,3}}(?:{_GAP}\d{{3}})+(?:[.,]\d+)*(?!\d)|\d+(?:[.,٫٬]\d+)*"
"""A number as people write it, as a regular expression: groups of three with gaps, or digits with points and commas."""
_GROUPED = re.compile(_GAP)
_SEPARATED = re.compile("([.,])")
_DASHES = ("-", "−", "‒", "–")
_ARABIC_SEPARATORS = {"٫": ".", "٬": ","}  # decimal point, thousands
_GROUP = 3  # digits between two separators of thousands


def same_number(one: str, other: str) -> bool:
    """Whether both may be read as the same number; where a comma may mean two things, either will do.

    >>> [same_number("1,234", other) for other in ("1234", "1.234", "1 234", "1235", "12.34")]
    [True, True, True, False, False]
    >>> same_number("3,14", "3.14"), same_number("3.14", "314"), same_number("1.2.3", "1.23")
    (True, False, False)
    """
    return one == other or not _readings(one).isdisjoint(_readings(other))


def cut_off(before: str, after: str) -> bool:
    """Whether a number is only part of a longer one, by the characters around it in the same word.

    >>> cut_off("1", ""), cut_off("3.", ""), cut_off("", ".5"), cut_off("(", "."), cut_off("v", "kg")
    (True, True, True, False, False)
    """
    goes_on_before = re.search(r"\d[.,]?\Z", before)
    goes_on_after = re.match(r"[.,]?\d", after)
    return goes_on_before is not None or goes_on_after is not None


def is_negative(before: str) -> bool:
    """Whether the characters before a number end with a minus sign; the dash of a range is none.

    >>> is_negative("-"), is_negative(" −"), is_negative("3-"), is_negative("")
    (True, True, False, False)
    """
    return before[-1:] in _DASHES and not before[-2:-1].isalnum()


@functools.lru_cache(1 << 12)
def _readings(number: str) -> frozenset[str]:
    """What the number may be, in plain digits with a point: `1.234` is both 1234 and 1.234."""
    plain = _GROUPED.sub("", "".join(map(_ascii_digit, number)))
    parts = _SEPARATED.split(plain)  # "1,234.5" -> 1 , 234 . 5
    groups = parts[::2]
    separators = parts[1::2]
    if not all(map(str.isdigit, groups)):
        return frozenset()
    if not separators:
        return frozenset(groups)
    found: set[str] = set()
    if len(set(separators)) == 1 and _are_thousands(groups):
        found.add("".join(groups))
    elif len(separators) > 1:
        found.add(".".join(groups))  # a version or a date: 1.2.3
    whole = groups[:-1]
    has_decimals = separators[-1] not in separators[:-1] and _are_thousands(whole)
    if len(separators) == 1 or has_decimals:
        found.add(f"{''.join(whole)}.{groups[-1]}")
    return frozenset(found)


def _are_thousands(groups: list[str]) -> bool:
    """Whether the digits between the separators are grouped by three; a number does not begin with "0,"."""
    if len(groups[0]) > _GROUP or groups[0] == "0":
        return False
    return all(len(group) == _GROUP for group in groups[1:])


def _ascii_digit(character: str) -> str:
    """Digits of every script as 0 to 9; Arabic separators as ours."""
    if character in _ARABIC_SEPARATORS:
        return _ARABIC_SEPARATORS[character]
    if character.isascii():
        return character
    return str(unicodedata.decimal(character, character))
