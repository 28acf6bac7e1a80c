"""When two written numbers are the same: `1,234` is `1234` and `3,14` is `3.14`, but `314` is not."""

from __future__ import annotations

import functools
import re
import unicodedata

_GAP = "[ \u00a0\u2009\u202f'’]"  # what else stands between thousands
NUMBER = rf"\d{{1,3}}(?:{_GAP}\d{{3}})+(?:[.,]\d+)*(?!\d)|\d+(?:[.,٫٬]\d+)*"
"""A number as people write it, as a regular expression."""
_GROUPED = re.compile(_GAP)
_SEPARATED = re.compile("([.,])")
_DASHES = "-−‒–"


def same_number(one: str, other: str) -> bool:
    """Whether both may be read as the same number; where a comma may mean two things, either will do.

    >>> [same_number("1,234", other) for other in ("1234", "1.234", "1 234", "1235", "12.34")]
    [True, True, True, False, False]
    >>> same_number("3,14", "3.14"), same_number("3.14", "314"), same_number("1.2.3", "1.23")
    (True, False, False)
    """
    return one == other or not _readings(one).isdisjoint(_readings(other))


@functools.lru_cache(1 << 12)
def _readings(number: str) -> frozenset[str]:
    plain = _GROUPED.sub("", "".join(_ascii_digit(character) for character in number))
    first, *rest = _SEPARATED.split(plain)
    groups, separators = rest[1::2], rest[::2]
    if not all(group.isdigit() for group in (first, *groups)):
        return frozenset()
    if not separators:
        return frozenset({first})
    found = {".".join([first, *groups])} if len(groups) > 1 else set()  # a version: 1.2.3
    whole, last = [first, *groups[:-1]], separators[-1]
    if len(set(separators)) == 1 and _thousands([first, *groups]):
        found = {first + "".join(groups)}
    if len(groups) == 1 or (last not in separators[:-1] and _thousands(whole)):
        found.add(f"{''.join(whole)}.{groups[-1]}")
    return frozenset(found)


def _thousands(groups: list[str]) -> bool:
    return len(groups[0]) <= 3 and groups[0] != "0" and all(len(group) == 3 for group in groups[1:])


def _ascii_digit(character: str) -> str:
    if character in "٫٬":
        return "." if character == "٫" else ","
    return character if character.isascii() else str(unicodedata.decimal(character, character))


def cut_off(before: str, after: str) -> bool:
    """Whether a number is only part of a longer one, by the characters around it in the same word.

    >>> cut_off("1", ""), cut_off("3.", ""), cut_off("", ".5"), cut_off("(", "."), cut_off("v", "kg")
    (True, True, True, False, False)
    """
    glued = re.search(r"\d[.,]?\Z", before) or re.match(r"[.,]?\d", after)
    return glued is not None


def is_negative(before: str) -> bool:
    """Whether the characters before a number end with a minus sign; the dash of a range is none.

    >>> is_negative("-"), is_negative(" −"), is_negative("3-"), is_negative("")
    (True, True, False, False)
    """
    return before[-1:] in tuple(_DASHES) and not before[-2:-1].isalnum()
