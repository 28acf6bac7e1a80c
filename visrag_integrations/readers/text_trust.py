"""Whether the letters of a text layer can be what the page shows: a cheap suspicion, and a comparison with OCR.

A layer can say other letters than the page shows: every letter shifted by a broken table ("Esp tydapnetzy qpp" for
"The inspection fee"), glyph numbers (`"7+%-`), bytes in the wrong order (Latin text as rare Chinese), old bad OCR. Text
of any language has its usual letters; a stretch in which they are rare is suspicious. That alone proves nothing (lists
of parts, base64): a few of its lines are read by OCR, and the layer is dropped only where OCR is sure of other words.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of each script the letters that its languages use most, and the share of them below which a stretch of text is
# suspicious. In English, German, French, Spanish, Italian, Finnish 0.60 to 0.68 of the letters are among the first
# eight, in Polish, Czech, Turkish about 0.5; of text whose letters were exchanged by others 0.3 on the average.
_USUAL: tuple[tuple[str, str, float], ...] = (
    ("latin", "eainrost", 0.42),
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
_MISREAD = re.compile(r"[a-z][0-9|~^{}\\$][a-z]")  # "inv0ice": old OCR. Names in code are seldom written so.
_MOST_MISREAD = 0.02  # of the letters

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
    table = _letter_table()
    kinds = table[np.minimum(codes, _TABLE)]
    scripts = _USUAL[:1] if text.isascii() else _USUAL
    for place, (_, _, least) in enumerate(scripts):
        letters = _in_words(kinds >> 1 == place + 1)
        if len(letters) >= _FEWEST:
            found += _unusual(letters, kinds[letters] & 1, least)
    if not text.isascii():
        found += [Suspicion(*match.span()) for match in _NAMELESS.finditer(text)]
    if _is_full_of_signs(text) or _is_swapped(codes) or _is_misread(text):
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


def _unusual(letters: NDArray[np.intp], usual: NDArray[np.integer[Any]], least: float) -> list[Suspicion]:
    """Stretches of letters of one script with too few usual ones."""
    size = min(_STRETCH, len(letters))
    sums = np.concatenate(([0], np.cumsum(usual)))
    # Stretches overlap by half, and the last one ends where the text does.
    starts = np.unique(np.append(np.arange(0, len(letters) - size + 1, max(1, size // 2)), len(letters) - size))
    shares = (sums[starts + size] - sums[starts]) / size
    found: list[Suspicion] = []
    for start in starts[shares < least].tolist():
        found.append(Suspicion(int(letters[start]), int(letters[start + size - 1]) + 1))
    return found


@functools.lru_cache(maxsize=1)
def _letter_table() -> NDArray[np.uint8]:
    """For each code point: 0 for none of these scripts, else twice the script's number, plus 1 for a usual letter."""
    table = np.zeros(_TABLE + 1, dtype=np.uint8)
    for place, (script, usual, _) in enumerate(_USUAL):
        for first, last in _RANGES[script]:
            for code in range(first, last):
                letter = chr(code)
                if letter.isalpha():
                    bare = unicodedata.normalize("NFD", letter.lower())[0]
                    table[code] = 2 * (place + 1) + (bare in usual)
    return table


def _is_full_of_signs(text: str) -> bool:
    visible = len("".join(text.split()))
    return visible >= _FEWEST and len(_SIGNS.findall(text)) > _MOST_SIGNS * visible


def _is_swapped(codes: NDArray[np.uint32]) -> bool:
    """Whether bytes are in the wrong order: "A", 0x0041, is then 0x4100, and every second byte is 0."""
    high = codes[codes >= 0x100]
    high = high[high != 0x3000]  # the wide space of Chinese and Japanese
    return len(high) >= 10 and 3 * int(np.count_nonzero(high & 0xFF == 0)) > len(high)


def _is_misread(text: str) -> bool:
    misread = len(_MISREAD.findall(text))
    return misread >= 8 and misread > _MOST_MISREAD * len(text)


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
