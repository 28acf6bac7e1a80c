"""The words of a page as one stream of folded letters, and the way back from a letter to its word."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from visrag_integrations.grounding.folding import folded_letters, is_unspaced
from visrag_integrations.types import Word


@dataclass(frozen=True)
class PageLetters:
    """All words of a page as one stream of letters, so that it does not matter where words and lines end.

    The words "Late", "payers" and "(5 %)" are the stream "latepayers5%"; its letter 4 is the "p" of "payers", which is
    character 0 of word 1.

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
        """The stream of these words.

        >>> box = (0.0, 0.0, 1.0, 1.0)
        >>> page = PageLetters.of([Word("Late", box), Word("payers", box), Word("(5 %)", box)])
        >>> page.text, page.starts, page.place(4), page.raw(10, 12)[1]
        ('latepayers5%', (0, 4, 10), (1, 0), '5 %')
        """
        texts: list[str] = []
        starts: list[int] = []
        places: list[tuple[int, ...]] = []
        end = 0
        for word in words:
            letters, characters = folded_letters(word.text)
            texts.append(letters)
            starts.append(end)
            places.append(characters)
            end += len(letters)
        return cls(words, "".join(texts), tuple(starts), tuple(places))

    def place(self, letter: int) -> tuple[int, int]:
        """Which word a letter is of, and which character of the word it comes from."""
        # Words without letters ("--") begin where the next one does; bisect_right takes the last, which has the letter.
        word = bisect_right(self.starts, letter) - 1
        return word, self.places[word][letter - self.starts[word]]

    def begins_word(self, at: int) -> bool:
        """Whether a word of the text begins here; scripts without spaces may be entered anywhere."""
        if at <= 0 or at >= len(self.text):
            return True
        if self._starts_page_word(at) or is_unspaced(self.text[at - 1 : at + 1]):
            return True
        # OCR gives a whole line as one word: there a word begins after a character that folded to nothing.
        return self.place(at)[1] > self.place(at - 1)[1] + 1

    def raw(self, start: int, end: int, around: int = 0) -> tuple[str, str, str]:
        """The page's own characters of these letters, and up to `around` characters of the same words on both sides."""
        first, begin = self.place(start)
        last, stop = self.place(end - 1)
        opening = self.words[first].text
        closing = self.words[last].text
        before = opening[max(0, begin - around) : begin]
        after = closing[stop + 1 : stop + 1 + around]
        if first == last:
            return before, opening[begin : stop + 1], after
        between = [word.text for word in self.words[first + 1 : last]]
        return before, " ".join([opening[begin:], *between, closing[: stop + 1]]), after

    def _starts_page_word(self, at: int) -> bool:
        word = bisect_right(self.starts, at) - 1
        return self.starts[word] == at
