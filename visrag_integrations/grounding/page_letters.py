"""The words of a page as one stream of folded letters, and the way back from a letter to its word."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from visrag_integrations.grounding.cells import PageCells
from visrag_integrations.grounding.folding import folded_letters, is_unspaced
from visrag_integrations.grounding.word_turns import upright_words, word_turns
from visrag_integrations.ocr.turning import QuarterTurn
from visrag_integrations.types import Word


class PageLayout:
    """Where the words of a page stand; found out when it is first asked for, because most evidence never asks."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words

    @functools.cached_property
    def cells(self) -> PageCells:
        """The cells of the page's lines, as they are when the page is turned to be read."""
        return PageCells.of(upright_words(self.words, self.turns))

    @functools.cached_property
    def turns(self) -> list[QuarterTurn]:
        """For each word how the page must be turned to read it."""
        return word_turns(self.words)


@dataclass(frozen=True)
class PageLetters:
    """All words of a page as one stream of letters, so that it does not matter where words and lines end.

    The words "Late", "payers" and "(5 %)" are the stream "latepayers5%"; its letter 4 is the "p" of "payers", which is
    character 0 of word 1.

    Attributes:
        words: The page's words, in the order of this stream.
        text: Their folded letters, without anything between them.
        starts: Where the letters of each word begin in `text`.
        places: For each word, which of its characters each letter comes from.
        layout: Where the page's words stand.
        order: For each word of the stream its place among the page's own words; empty where the order is the same.
    """

    words: Sequence[Word]
    text: str
    starts: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    layout: PageLayout = field(repr=False, compare=False)
    order: tuple[int, ...] = ()

    @classmethod
    def of(cls, words: Sequence[Word]) -> PageLetters:
        """The stream of these words, in the order in which they come.

        >>> box = (0.0, 0.0, 1.0, 1.0)
        >>> page = PageLetters.of([Word("Late", box), Word("payers", box), Word("(5 %)", box)])
        >>> page.text, page.starts, page.place(4), page.raw(10, 12)[1]
        ('latepayers5%', (0, 4, 10), (1, 0), '5 %')
        """
        return cls._of(words, PageLayout(words), ())

    def reordered(self, order: Sequence[int]) -> PageLetters:
        """The stream of the page's words in another order; a word may come twice."""
        words = [self.layout.words[place] for place in order]
        return self._of(words, self.layout, tuple(order))

    @classmethod
    def _of(cls, words: Sequence[Word], layout: PageLayout, order: tuple[int, ...]) -> PageLetters:
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
        return cls(words, "".join(texts), tuple(starts), tuple(places), layout, order)

    def place(self, letter: int) -> tuple[int, int]:
        """Which word a letter is of, and which character of the word it comes from."""
        # Words without letters ("--") begin where the next one does; bisect_right takes the last, which has the letter.
        word = bisect_right(self.starts, letter) - 1
        return word, self.places[word][letter - self.starts[word]]

    def page_word(self, letter: int) -> int:
        """The place of a letter's word among the page's own words."""
        word = bisect_right(self.starts, letter) - 1
        if self.order:
            return self.order[word]
        return word

    def begins_word(self, at: int) -> bool:
        """Whether a word of the text begins here; scripts without spaces may be entered anywhere."""
        if at <= 0 or at >= len(self.text):
            return True
        if self._starts_page_word(at) or is_unspaced(self.text[at - 1 : at + 1]):
            return True
        # OCR gives a whole line as one word: there a word begins after a character that folded to nothing.
        return self.place(at)[1] > self.place(at - 1)[1] + 1

    def splits_word(self, at: int) -> bool:
        """Whether the letters before and after here are neighbours in one word of the page."""
        if at <= 0 or at >= len(self.text) or self._starts_page_word(at):
            return False
        return self.place(at)[1] <= self.place(at - 1)[1] + 1

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
