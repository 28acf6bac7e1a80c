"""Text as a stream of folded letters, so that white space, line breaks, hyphens and letter forms do not matter."""

from __future__ import annotations

import functools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from visrag_integrations.types import Word

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts whose words are not told apart by spaces (of Korean, because extracted text often lost them)."""
_UNSPACED = re.compile(f"[{UNSPACED}]")
# A character with its marks, so that composed and decomposed writing fold alike; to normalise more marks is slow.
_CLUSTER = re.compile("(?s).[\u0300-\u036f\u1160-\u11ff\u20d0-\u20ff\u3099\u309a]{0,30}")
_SIGNS = frozenset("%‰")


def fold(text: str) -> str:
    """The letters, digits and signs of quantity of a text, folded for comparison.

    >>> fold("Ré-sumé: ﬁve °C, 12 %")
    'resumefivec12%'
    """
    return letters_of(text)[0]


def letters_of(text: str) -> tuple[str, tuple[int, ...]]:
    """The folded letters, and for each the character it comes from.

    >>> letters_of("ﬁ-x")
    ('fix', (0, 0, 2))
    """
    return _letters(text) if len(text) > 40 else _letters_of_word(text)


def _letters(text: str) -> tuple[str, tuple[int, ...]]:
    if text.isascii():
        places = tuple(place for place, character in enumerate(text) if character.isalnum() or character in "%$")
        return "".join([text[place] for place in places]).lower(), places
    folded, found = [], []
    for cluster in _CLUSTER.finditer(text):
        letters = _fold_cluster(cluster.group())
        folded.append(letters)
        found += [cluster.start()] * len(letters)
    return "".join(folded), tuple(found)


_letters_of_word = functools.lru_cache(1 << 16)(_letters)


@functools.lru_cache(1 << 14)
def _fold_cluster(cluster: str) -> str:
    parts = unicodedata.normalize("NFKD", cluster.casefold()).casefold()
    return unicodedata.normalize("NFC", "".join(map(_kept, parts)))


def _kept(character: str) -> str:
    """The letter as it is compared, digits of every script as 0 to 9; "" for what is no letter, and for accents."""
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category[0] == "M":  # vowel signs of Indic scripts and voicing marks of kana tell words apart; accents do not
        return character if unicodedata.combining(character) < 10 and not 0xFE00 <= ord(character) <= 0xFE0F else ""
    return character if character.isalnum() or character in _SIGNS or category == "Sc" else ""


def is_unspaced(text: str) -> bool:
    """Whether some of it is of a script without spaces.

    >>> is_unspaced("税"), is_unspaced("tax")
    (True, False)
    """
    return not text.isascii() and _UNSPACED.search(text) is not None


@dataclass(frozen=True)
class PageLetters:
    """All words of a page as one stream of letters.

    Attributes:
        words: The page's words.
        text: Their folded letters, without anything between them.
        starts: Where the letters of each word begin in `text`.
        places: For each word, which of its characters each letter comes from.
    """

    words: Sequence[Word]
    text: str
    starts: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, words: Sequence[Word]) -> PageLetters:
        """The stream of these words."""
        read = [letters_of(word.text) for word in words]
        starts = tuple(accumulate((len(letters) for letters, _ in read[:-1]), initial=0)) if read else ()
        return cls(words, "".join(letters for letters, _ in read), starts, tuple(places for _, places in read))

    def place(self, letter: int) -> tuple[int, int]:
        """Which word a letter is of, and which character of the word it comes from."""
        word = bisect_right(self.starts, letter) - 1
        return word, self.places[word][letter - self.starts[word]]

    def begins_word(self, at: int) -> bool:
        """Whether a word of the text begins here; scripts without spaces may be entered anywhere."""
        if at <= 0 or at >= len(self.text):
            return True
        if self._word_begins(at) or is_unspaced(self.text[at - 1 : at + 1]):
            return True
        return self.place(at)[1] > self.place(at - 1)[1] + 1

    def raw(self, start: int, end: int, around: int = 0) -> tuple[str, str, str]:
        """The page's own characters of these letters, and up to `around` characters of the same words on both sides."""
        (first, begin), (last, stop) = self.place(start), self.place(end - 1)
        opening, closing = self.words[first].text, self.words[last].text
        before, after = opening[max(0, begin - around) : begin], closing[stop + 1 : stop + 1 + around]
        if first == last:
            return before, opening[begin : stop + 1], after
        between = [word.text for word in self.words[first + 1 : last]]
        return before, " ".join([opening[begin:], *between, closing[: stop + 1]]), after

    def _word_begins(self, at: int) -> bool:
        word = bisect_right(self.starts, at) - 1
        return self.starts[word] == at
