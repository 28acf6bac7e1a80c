"""When two spellings are one word that was misread or mistyped."""

from __future__ import annotations

_ALIKE = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("i", "l"), ("1", "l"), ("0", "o"), ("c", "e"))
_SLIP_FROM = 5  # letters of a word in which one letter may differ
_TWO_SLIPS_FROM = 10


def is_slip(wanted: str, found: str, *, exact: bool) -> bool:
    """Whether both are the same word, but for letters that look alike or, unless `exact`, one or two others.

    >>> is_slip("williams", "wi11iams", exact=True), is_slip("marie", "maria", exact=True)
    (True, False)
    >>> is_slip("interost", "interest", exact=False), is_slip("increase", "decrease", exact=False)
    (True, False)
    """
    if _shape(wanted) == _shape(found):
        return not (wanted.isdigit() or found.isdigit())
    if exact or len(wanted) < _SLIP_FROM or any(character.isdigit() for character in wanted + found):
        return False
    return _within(wanted, found, 2 if len(wanted) >= _TWO_SLIPS_FROM else 1)


def _shape(letters: str) -> str:
    """How the letters look to an OCR engine."""
    for like, same in _ALIKE:
        letters = letters.replace(like, same)
    return letters


def _within(one: str, other: str, most: int) -> bool:
    """Whether so many edits (a letter put in, left out, changed, or two swapped) turn one into the other."""
    if abs(len(one) - len(other)) > most:
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, against in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return False
    return row[-1] <= most
