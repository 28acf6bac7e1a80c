"""When two spellings are one word that was misread or mistyped."""

from __future__ import annotations

from visrag_integrations.grounding.thresholds import THRESHOLDS

# What OCR engines take for one another; both sides are written as the second before they are compared.
_ALIKE = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("i", "l"), ("1", "l"), ("0", "o"), ("c", "e"))


def is_misspelling(wanted: str, found: str, *, exact: bool) -> bool:
    """Whether both are the same word, but for letters that look alike or, unless `exact`, one or two others.

    >>> is_misspelling("williams", "wi11iams", exact=True), is_misspelling("marie", "maria", exact=True)
    (True, False)
    >>> is_misspelling("interost", "interest", exact=False), is_misspelling("increase", "decrease", exact=False)
    (True, False)
    """
    if _shape(wanted) == _shape(found):
        # "10" and "lo" have one shape, but a number is never a misread word.
        return not (wanted.isdigit() or found.isdigit())
    if exact or len(wanted) < THRESHOLDS.one_misspelling_from:
        return False
    if any(character.isdigit() for character in wanted + found):
        return False
    most = 1
    if len(wanted) >= THRESHOLDS.two_misspellings_from:
        most = 2
    return _within(wanted, found, most)


def _shape(letters: str) -> str:
    """How the letters look to an OCR engine."""
    for like, same in _ALIKE:
        letters = letters.replace(like, same)
    return letters


def _within(one: str, other: str, most: int) -> bool:
    """Whether at most this many edits (a letter put in, left out, changed, or two swapped) turn one into the other.

    The edit distance of Damerau and Levenshtein, a row of its table at a time.
    """
    if abs(len(one) - len(other)) > most:
        return False
    older: list[int] = []
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        older = before
        before = row
        row = [i]
        for j, against in enumerate(other, 1):
            changed = before[j - 1] + (letter != against)
            cost = min(before[j] + 1, row[j - 1] + 1, changed)
            swapped = i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against
            if swapped:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most:  # it can only grow from here
            return False
    return row[-1] <= most
