"""Other forms of what a text says, so that it is found as people type it.

A page is indexed by its words as they are printed. Beside them stand, from this file:

- each number in plain digits: "1.845,50" and "1 845,50" as "1845.50"; where a point may mean two things, both readings;
- dates, part numbers, phone and account numbers without what separates their parts: "AB-1234/5" as "ab12345";
- words that are divided at the end of a line, whole: "mainte-" and "nance" as "maintenance".

A query gets the same forms, and a few more that need no room in the index: "Mueller" also looks for "Müller", "ab1234"
for "AB 1234". All functions here take and give text that is folded (see `lexical.tokens`), if nothing else is said.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

from visrag_integrations.scores.numbers import NUMBER, readings

_HAS_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(NUMBER)
_PLAIN_READING = re.compile(r"[0-9.]+")
# Longer ones are rows of a table that look like one number with spaces between thousands.
_LONGEST_NUMBER = 24

_PART = r"[^\W_]"
# Parts with one separator between: AB-1234/5, 20-10-2031, 978-3-16-148410-0.
_CODE = re.compile(rf"(?<!{_PART}){_PART}+(?:[-/.:–‑]{_PART}+){{1,7}}(?!{_PART})")
# Account numbers (IBAN) and card numbers in groups of four; phone numbers begin with + or 0.
_GROUPS = re.compile(
    r"\b[a-z]{2}\d{2}(?: [a-z0-9]{4}){2,7}(?: [a-z0-9]{1,4})?\b|\b\d{4}(?: \d{4}){2,4}\b"
    r"|(?:\+|\b0)\d{1,4}(?:[ /()-]{1,3}\d{2,}){1,5}\b"
)
_NO_PART = re.compile(r"[\W_]+")
# Shorter ones are found by their parts, or are something else: "3-4" must not be found as 34. An IBAN has up to 34.
_SHORTEST_CODE = 5
_SHORTEST_DIGITS = 6
_LONGEST_CODE = 34

# At the end of a line: a hyphen, a soft hyphen, Unicode's own hyphen.
_DIVIDED = re.compile(r"([^\W\d_]+)([-\u00ad\u2010])\s*\Z")
_FIRST_WORD = re.compile(r"\s*([^\W\d_]+)")
_SOFT_HYPHEN = "\u00ad"

_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae"})
_UMLAUT = re.compile("[aou]e|aa")
_SHORTEST_UMLAUT_WORD = 5  # shorter words with "oe", "ue" are mostly English: "does", "blue", "toe"
_LETTERS_DIGITS = re.compile(r"([^\W\d_]{1,5})(\d{3,})")


def number_and_code_forms(text: str) -> Iterator[str]:
    """Numbers in plain digits, and codes without what separates their parts.

    >>> list(number_and_code_forms("1.845,50 eur, part ab-1234/5, 1.234 or 2 318,40"))
    ['1845.50', '1.234', '1234', '2318.40', 'ab12345']
    """
    if _HAS_DIGIT.search(text) is None:
        return
    for number in _NUMBER.finditer(text):
        written = number.group()
        if not written.isdigit() and len(written) <= _LONGEST_NUMBER:
            found = sorted(filter(_PLAIN_READING.fullmatch, readings(written)))
            for reading in found:
                is_version = reading.count(".") > 1  # "1.845.50", a reading of "1.845,50" that nobody means
                if not is_version or len(found) == 1:
                    yield reading
    for pattern in (_CODE, _GROUPS):
        for code in pattern.finditer(text):
            joined = _NO_PART.sub("", code.group())
            if _is_code(joined):
                yield joined


def _is_code(joined: str) -> bool:
    if not _SHORTEST_CODE <= len(joined) <= _LONGEST_CODE or _HAS_DIGIT.search(joined) is None:
        return False
    return not joined.isdigit() or len(joined) >= _SHORTEST_DIGITS


def divided_words(lines: Sequence[str]) -> Iterator[str]:
    """Words that are divided at the ends of these lines, whole; neither is folded.

    Both are indexed, the whole and its parts, for nobody knows whether "well-" and "known" are one word.

    >>> list(divided_words(["under the mainte-", "nance contract of Ber-", "Lin"]))
    ['maintenance']
    """
    for line, following in pairwise(lines):
        first = _DIVIDED.search(line[-64:])
        if first is None:
            continue
        second = _FIRST_WORD.match(following)
        if second is None:
            continue
        goes_on = second[1][0].islower() or first[2] == _SOFT_HYPHEN
        if goes_on:
            yield first[1] + second[1]


def spelled_out(text: str) -> str:
    """A text that is not folded, with ae for ä and the like, as people type it without these keys.

    >>> spelled_out("Müller")
    'mueller'
    """
    return unicodedata.normalize("NFC", text).casefold().translate(_SPELLED_OUT)


def query_forms(words: Sequence[str]) -> Iterator[str]:
    """More forms that only a query needs: umlauts that are spelled out, codes with and without a space.

    >>> list(query_forms(["mueller", "ab1234", "kx", "4471"]))
    ['muller', 'ab 1234', 'kx4471']
    """
    for word in words:
        if len(word) >= _SHORTEST_UMLAUT_WORD and word.isascii() and word.isalpha():
            short = _UMLAUT.sub(lambda found: found.group()[0], word)
            if short != word:
                yield short
        code = _LETTERS_DIGITS.fullmatch(word)
        if code is not None:
            yield f"{code[1]} {code[2]}"  # a pair of neighbouring words is indexed so
    for letters, digits in pairwise(words):
        if _LETTERS_DIGITS.fullmatch(letters + digits) and letters.isalpha():
            yield letters + digits
