"""Whether the letters of a text layer can be what the page shows: a cheap suspicion, and a comparison with OCR.

A layer can say other letters than the page shows: every letter shifted by a broken table ("Esp tydapnetzy qpp" for
"The inspection fee"), glyph numbers (`"7+%-`), bytes in the wrong order (Latin text as rare Chinese), old bad OCR. Text
of any language has its usual letters; a stretch in which they are rare is suspicious. That alone proves nothing (lists
of parts, base64): a few of its lines are read by OCR, and the layer is dropped only where OCR is sure of other words.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How often each letter is used, per thousand: rounded, about the mean of English, German, French, Spanish, Italian,
# Polish and Finnish. A stretch of text is as likely as the mean of log(26 * share) over its letters says: 0 for
# letters drawn by lot. The lowest stretches of 540 pages of manuals (commands, file names) are at -0.01 to 0.1, prose
# is at 0.2 to 0.5; English, French and Spanish with their letters exchanged are at -0.4 (half of them) to -0.1 (one in
# ten is above).
_LATIN = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        (86, 16, 36, 42, 130, 13, 18, 28, 73, 4, 10, 48, 29, 72, 64, 26, 6, 67, 70, 70, 36, 12, 11, 3, 10, 6),
        strict=True,
    )
)
_LEAST_LATIN = -0.05
# Of the other scripts the letters that are used most, and the share of them below which a stretch is suspicious: in
# prose they are 0.6 and more, among letters drawn by lot a third.
_USUAL: tuple[tuple[str, str, float], ...] = (
    ("greek", "αοιετσνηρυ", 0.42),
    ("cyrillic", "оеаинтсрвл", 0.42),
    ("hebrew", "יוהלאמרשתנב", 0.42),
    ("arabic", "اليمنرتوبه", 0.38),
)
# Letters of a stretch that is judged by itself, so that a paragraph in a broken font is seen among good ones; with
# fewer the shares of good text scatter too much. A page of less text than one stretch is judged as a whole.
_STRETCH = 100
_FEWEST = 40
# Code points: where each script's letters are, to within what is needed to count them.
_RANGES = {
    "latin": ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0x1E00, 0x1F00)),
    "greek": ((0x370, 0x400), (0x1F00, 0x2000)),
    "cyrillic": ((0x400, 0x530),),
    "hebrew": ((0x5D0, 0x5EB),),
    "arabic": ((0x620, 0x64B), (0x671, 0x6D4)),
}
_TABLE = 0x2000  # scripts above have no alphabet of few letters
# Signs inside of words that no language puts there; code has up to a tenth of them, glyph numbers half.
_SIGNS = re.compile(r"[\"#$%&'*+/;<=>?@\[\]\\^`{|}~!]")
_MOST_SIGNS = 0.3
_NAMELESS = re.compile("[\ufffd\ue000-\uf8ff]{4,}")  # a bullet of a symbol font is one such character; words are more
_WORDS = re.compile(r"[^\W\d_]{3,}")
_MISREAD_SIGNS = r"[0-9|~^{}\\$]"
_MISREAD = re.compile(f"[a-z]{_MISREAD_SIGNS}[a-z]")  # "inv0ice": old OCR. Names in code are seldom written so.
_MOST_MISREAD = 0.02  # of the letters
_FEWEST_MISREAD = 8
# The patterns above take a tenth of a millisecond of every page, so that they are asked only where tables, which take a
# tenth of that, say that they may find enough. What a table says of a letter, as bits:
_SMALL_LETTER, _SIGN, _MISREAD_SIGN = 1, 2, 4

# How alike two lines are, from 0 to 1 (difflib): what OCR reads of good print is at 0.9 and more like its text layer,
# other words of the same language are at 0.3.
_ALIKE = 0.6
_UNLIKE = 0.5
_SURE = 0.8  # of OCR's own score: below it OCR does not know the script, and its word counts nothing
_FEWEST_COMPARED = 6  # letters and digits of a line


class Suspicion(NamedTuple):
    """A stretch of a page's text that may not be what the page shows.

    Attributes:
        start: Its first character.
        stop: The one after its last.
    """

    start: int
    stop: int


def suspicious_stretches(text: str) -> list[Suspicion]:
    """Where the letters of a text are not those of any language; empty for nearly every page.

    >>> suspicious_stretches("The inspection fee is due on the first day of every month, and paid in advance.")
    []
    >>> len(suspicious_stretches("Esp tydapnetzy qpp td opp zy esp qtcde olj zq pgpcj xzyes, lyo altn ty logiynp."))
    1
    """
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)
    found: list[Suspicion] = []
    script_of, weight_of = _letter_tables()
    bounded = np.minimum(codes, _TABLE)
    scripts = script_of[bounded]
    letters_of = np.bincount(
        scripts, minlength=len(_RANGES) + 1
    )  # of each script on the page; the first are no letters
    for script in (np.flatnonzero(letters_of[1:] >= _FEWEST) + 1).tolist():
        least = _LEAST_LATIN if script == 1 else _USUAL[script - 2][2]
        letters = _in_words(scripts == script)
        if len(letters) >= _FEWEST:
            for stretch in _unusual(letters, weight_of[bounded[letters]], least):
                # Repeated commands and names make stretches of few letters: how different words look counts.
                if _is_unusual_word_by_word(text[stretch.start : stretch.stop], script, least):
                    found.append(stretch)
    if not text.isascii():
        found += [Suspicion(*match.span()) for match in _NAMELESS.finditer(text)]
    marks = _marks()[bounded]
    may_be_signs = np.count_nonzero(marks & _SIGN) > _MOST_SIGNS * letters_of[1:].sum()
    if (may_be_signs and _is_full_of_signs(text)) or _is_swapped(codes) or _is_misread(text, marks):
        found.append(Suspicion(0, len(text)))
    return found


def _in_words(is_letter: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Places of the letters that stand three or more together: signs in formulas and part numbers are no language."""
    if len(is_letter) < 3:
        return np.flatnonzero([])
    three = is_letter[:-2] & is_letter[1:-1] & is_letter[2:]
    inside = np.zeros(len(is_letter), dtype=np.bool_)
    for shift in range(3):
        inside[shift : shift + len(three)] |= three
    return np.flatnonzero(inside)


def _unusual(letters: NDArray[np.intp], weights: NDArray[np.float32], least: float) -> list[Suspicion]:
    """Stretches of letters of one script whose mean weight is too low."""
    size = min(_STRETCH, len(letters))
    sums = np.concatenate(([0.0], np.cumsum(weights, dtype=np.float64)))
    # Stretches overlap by half, and the last one ends where the text does.
    last = len(letters) - size
    starts = np.append(np.arange(0, last, max(1, size // 2)), last)
    means = (sums[starts + size] - sums[starts]) / size
    found: list[Suspicion] = []
    for start in starts[means < least].tolist():
        found.append(Suspicion(int(letters[start]), int(letters[start + size - 1]) + 1))
    return found


def _is_unusual_word_by_word(stretch: str, script: int, least: float) -> bool:
    """Whether a stretch is mostly of one script, and unusual when each of its words counts once."""
    words = set(_WORDS.findall(stretch.lower()))
    codes = np.frombuffer("".join(words).encode("utf-32-le", "replace"), dtype=np.uint32)
    script_of, weight_of = _letter_tables()
    bounded = np.minimum(codes, _TABLE)
    letters = bounded[script_of[bounded] == script]
    if 2 * len(letters) < len(codes) or len(letters) < _FEWEST:
        return False
    return float(weight_of[letters].mean()) < least


@functools.lru_cache(maxsize=1)
def _letter_tables() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """For each code point its script (0 none, 1 Latin, then as in `_USUAL`), and what it counts there."""
    script_of = np.zeros(_TABLE + 1, dtype=np.uint8)
    weight_of = np.zeros(_TABLE + 1, dtype=np.float32)
    total = sum(_LATIN.values())
    usual = {script: letters for script, letters, _ in _USUAL}
    for place, (script, ranges) in enumerate(_RANGES.items(), 1):
        for code in (code for first, last in ranges for code in range(first, last)):
            letter = chr(code)
            if not letter.isalpha():
                continue
            bare = unicodedata.normalize("NFD", letter.lower())[0]
            script_of[code] = place
            if script == "latin":
                # A letter that is none of the 26 (ß, ı, ł) says nothing.
                weight_of[code] = math.log(26 * _LATIN[bare] / total) if bare in _LATIN else 0.0
            else:
                weight_of[code] = bare in usual[script]
    return script_of, weight_of


def _is_full_of_signs(text: str) -> bool:
    visible = len("".join(text.split()))
    return visible >= _FEWEST and len(_SIGNS.findall(text)) > _MOST_SIGNS * visible


def _is_swapped(codes: NDArray[np.uint32]) -> bool:
    """Whether bytes are in the wrong order: "A", 0x0041, is then 0x4100, and every second byte is 0."""
    high = codes[codes >= 0x100]
    swapped = high[high & 0xFF == 0]
    # One such sign alone is a frame (0x2500) or the wide space of Chinese (0x3000), however often it is there.
    return 3 * len(swapped) > len(high) and len(np.unique(swapped)) >= 6


def _is_misread(text: str, marks: NDArray[np.uint8]) -> bool:
    small = marks & _SMALL_LETTER > 0
    odd = marks & _MISREAD_SIGN > 0
    inside = small[:-2] & odd[1:-1] & small[2:]
    if np.count_nonzero(inside) < _FEWEST_MISREAD:  # no fewer than the pattern finds, which shares no letters
        return False
    misread = len(_MISREAD.findall(text))
    return misread >= _FEWEST_MISREAD and misread > _MOST_MISREAD * len(text)


@functools.lru_cache(maxsize=1)
def _marks() -> NDArray[np.uint8]:
    """For each code point whether it is a small letter, a sign, and one that bad OCR puts into words, as bits."""
    marks = np.zeros(_TABLE + 1, dtype=np.uint8)
    for code in range(128):
        letter = chr(code)
        if re.match("[a-z]", letter):
            marks[code] |= _SMALL_LETTER
        if _SIGNS.match(letter):
            marks[code] |= _SIGN
        if re.match(_MISREAD_SIGNS, letter):
            marks[code] |= _MISREAD_SIGN
    return marks


def agrees(line: str, read: str, score: float) -> bool | None:
    """Whether a line of the layer says what OCR reads in its place; None where OCR is too unsure to tell.

    >>> agrees("Esp tydapnetzy qpp", "The inspection fee", 0.97), agrees("Fee: 12 EUR", "Fee:12 EUR", 0.97)
    (False, True)
    """
    ours, theirs = _bare(line), _bare(read)
    if score < _SURE or len(theirs) < _FEWEST_COMPARED:
        return None
    alike = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).ratio()
    if alike >= _ALIKE:
        return True
    return False if alike < _UNLIKE else None


def verdict(answers: Sequence[bool | None]) -> bool | None:
    """What most of the lines that could be compared say; None where none could.

    >>> verdict([False, None, False, True]), verdict([None])
    (False, None)
    """
    known = [answer for answer in answers if answer is not None]
    if not known:
        return None
    return 2 * sum(known) >= len(known)


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
