"""Text folded for comparison: only letters, digits and signs of quantity stay, in one form each.

    "Ré-sumé: ﬁve °C, 12 %"   becomes   "resumefivec12%"

White space, line breaks, hyphens, punctuation, case, accents and ligatures are gone, so they cannot make a quotation
differ from its page. Everything after this file counts in these *letters*, and keeps for each the character it comes
from, so that the way back to the page's words (and their boxes) and to the evidence's text stays open.
"""

from __future__ import annotations

import functools
import re
import unicodedata

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts whose words are not told apart by spaces (of Korean, because extracted text often lost them)."""

_UNSPACED = re.compile(f"[{UNSPACED}]")
# A character with its marks, so that composed and decomposed writing fold alike. At most 30 marks: real text has a few,
# and to normalise very many on one character is slow.
_CLUSTER = re.compile("(?s).[\u0300-\u036f\u1160-\u11ff\u20d0-\u20ff\u3099\u309a]{0,30}")
_SIGNS = frozenset("%‰")
# Unicode's combining classes: below 10 are marks that belong to the letter (vowel signs 0, nukta 7, voicing marks of
# kana 8, virama 9). Hebrew and Arabic points (from 10) and accents (from 200) may differ.
_FIRST_ACCENT_CLASS = 10
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)  # they choose how a character looks, and are invisible themselves
# A page has few different words and says them often, so folded words are remembered; longer text is folded once.
_LONGEST_REMEMBERED = 40


def fold(text: str) -> str:
    """The letters, digits and signs of quantity of a text, folded for comparison.

    >>> fold("Ré-sumé: ﬁve °C, 12 %")
    'resumefivec12%'
    """
    return folded_letters(text)[0]


def folded_letters(text: str) -> tuple[str, tuple[int, ...]]:
    """The folded letters, and for each the place of the character that it comes from.

    >>> folded_letters("ﬁ-x")
    ('fix', (0, 0, 2))
    """
    if len(text) > _LONGEST_REMEMBERED:
        return _folded(text)
    return _remembered(text)


def is_unspaced(text: str) -> bool:
    """Whether some of it is of a script without spaces.

    >>> is_unspaced("税"), is_unspaced("tax")
    (True, False)
    """
    return not text.isascii() and _UNSPACED.search(text) is not None


def _folded(text: str) -> tuple[str, tuple[int, ...]]:
    if text.isascii():
        return _folded_ascii(text)
    folded: list[str] = []
    places: list[int] = []
    for cluster in _CLUSTER.finditer(text):
        letters = _folded_cluster(cluster.group())
        folded.append(letters)
        places += [cluster.start()] * len(letters)  # "ﬁ" gives two letters from one character
    return "".join(folded), tuple(places)


_remembered = functools.lru_cache(1 << 16)(_folded)


def _folded_ascii(text: str) -> tuple[str, tuple[int, ...]]:
    """The same, quicker: nothing has to be normalised."""
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isalnum() or character in "%$":
            letters.append(character)
            places.append(place)
    return "".join(letters).lower(), tuple(places)


@functools.lru_cache(1 << 14)
def _folded_cluster(cluster: str) -> str:
    # Case is folded a second time because NFKD may bring new capitals ("℡" becomes "TEL").
    parts = unicodedata.normalize("NFKD", cluster.casefold()).casefold()
    return unicodedata.normalize("NFC", "".join(map(_compared, parts)))


def _compared(character: str) -> str:
    """The letter as it is compared: digits of every script as 0 to 9; "" for accents and what is no letter."""
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category.startswith("M"):
        # Vowel signs of Indic scripts and voicing marks of kana tell words apart; accents do not.
        is_part_of_letter = unicodedata.combining(character) < _FIRST_ACCENT_CLASS
        keep = is_part_of_letter and ord(character) not in _VARIATION_SELECTORS
    else:
        keep = character.isalnum() or character in _SIGNS or category == "Sc"
    if keep:
        return character
    return ""
