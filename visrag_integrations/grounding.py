"""Where on its page a piece of evidence stands: quoted text in, boxes out."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from visrag_integrations.types import Box, Page, Word

_SEED = 8  # letters that must agree before a run is looked at; of Chinese, Japanese and Korean half as many
_ALONE = 16  # letters of a run that counts wherever it stands; a shorter one must be near the longest
_LONGEST_TEXT = 4000  # letters of the evidence that are looked for
_MOST_PLACES = 1000  # places of the whole text that are tried
_CANDIDATES = 64  # places of one seed that are tried
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")


class Run(NamedTuple):
    """Letters `start` to `end` of the page that also stand in the evidence."""

    start: int
    end: int


class Letter(NamedTuple):
    """One letter of the page, folded, and where it comes from."""

    folded: str
    word: int
    place: int  # in the word's own text


@dataclass(frozen=True)
class _PageLetters:
    text: str
    letters: tuple[Letter, ...]

    @classmethod
    def of(cls, words: Sequence[Word]) -> _PageLetters:
        letters = [
            Letter(folded, index, place)
            for index, word in enumerate(words)
            for place, character in enumerate(word.text)
            for folded in fold(character)
        ]
        return cls("".join(letter.folded for letter in letters), tuple(letters))

    def begins_word(self, at: int) -> bool:
        """Whether a word of the text begins here."""
        if at == 0 or at >= len(self.letters):
            return True
        before, here = self.letters[at - 1], self.letters[at]
        return before.word != here.word or here.place > before.place + 1 or bool(_IDEOGRAPH.match(here.folded))


def find_passage(page: Page, text: str) -> list[Box]:
    """Boxes around what the text quotes of the page, one per line, in reading order; empty when nothing is found.

    White space, line breaks, hyphens, punctuation, case and letter forms may differ. Where the text stands nowhere as a
    whole, the longest stretches that do are boxed.

    >>> words = (Word("Total", (0.1, 0.1, 0.2, 0.12)), Word("cost:", (0.21, 0.1, 0.3, 0.12)))
    >>> find_passage(Page(doc_id="a", number=1, words=words), "TOTAL COST")
    [(0.1, 0.1, 0.3, 0.12)]
    """
    wanted = "".join(fold(text))[:_LONGEST_TEXT]
    if not wanted or not page.words:
        return []
    letters = _PageLetters.of(page.words)
    whole = _whole(letters, wanted)
    runs = [whole] if whole else _stretches(letters, wanted)
    return _lines(_covered(page.words, letters, runs))


def fold(text: str) -> str:
    """The letters and digits of a text, folded for comparison.

    >>> fold("Ré-sumé: ﬁve °C")
    'resumefivec'
    """
    folded = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(character for character in folded if character.isalnum()))


def _whole(page: _PageLetters, wanted: str) -> Run | None:
    """The first place where all of it stands, from the beginning of a word to the end of one."""
    at = page.text.find(wanted)
    inside: Run | None = None
    for _ in range(_MOST_PLACES):
        if at < 0:
            break
        end = at + len(wanted)
        if page.begins_word(at) and page.begins_word(end):
            return Run(at, end)
        if inside is None and len(wanted) >= _SEED:
            inside = Run(at, end)
        at = page.text.find(wanted, at + 1)
    return inside


def _stretches(page: _PageLetters, wanted: str) -> list[Run]:
    """The longest run that both share, the runs near it, and other long ones."""
    runs = [run for found in _common_runs(page.text, wanted) if (run := _trimmed(page, found))]
    if not runs:
        return []
    anchor = max(runs, key=lambda run: _weight(page.text, run))
    reach = len(wanted)
    return sorted(
        run
        for run in runs
        if _weight(page.text, run) >= _ALONE or (run.start < anchor.end + reach and run.end > anchor.start - reach)
    )


def _common_runs(text: str, wanted: str) -> Iterator[Run]:
    """From left to right of what is wanted: the longest stretch of the page that agrees from here on."""
    seed = _SEED // 2 if _IDEOGRAPH.search(wanted) else _SEED
    places = defaultdict(list)
    for at in range(len(text) - seed + 1):
        places[text[at : at + seed]].append(at)
    here = 0
    while here <= len(wanted) - seed:
        ends = [(_agree(text, at, wanted, here), at) for at in places.get(wanted[here : here + seed], ())[:_CANDIDATES]]
        if not ends:
            here += 1
            continue
        length, at = max(ends, key=lambda end: (end[0], -end[1]))
        yield Run(at, at + length)
        here += length


def _agree(text: str, at: int, wanted: str, here: int) -> int:
    """How many letters agree from these two places on."""
    most = min(len(text) - at, len(wanted) - here)
    length = 0
    while length < most and text[at + length] == wanted[here + length]:
        length += 1
    return length


def _trimmed(page: _PageLetters, run: Run) -> Run | None:
    """The run without words it only touches; None where too little is left."""
    start, end = run
    while start < end and not page.begins_word(start):
        start += 1
    while end > start and not page.begins_word(end):
        end -= 1
    trimmed = Run(start, end)
    return trimmed if _weight(page.text, trimmed) >= _SEED else None


def _weight(text: str, run: Run) -> int:
    """Letters of a run; an ideograph counts as two."""
    part = text[run.start : run.end]
    return len(part) + len(_IDEOGRAPH.findall(part))


def _covered(words: Sequence[Word], page: _PageLetters, runs: Sequence[Run]) -> list[tuple[int, Box]]:
    """The covered part of every word that is covered, in reading order."""
    extent: dict[int, tuple[int, int]] = {}
    for run in runs:
        for letter in page.letters[run.start : run.end]:
            first, last = extent.get(letter.word, (letter.place, letter.place))
            extent[letter.word] = min(first, letter.place), max(last, letter.place)
    return [(index, _part(words[index], *extent[index])) for index in sorted(extent)]


def _part(word: Word, first: int, last: int) -> Box:
    """The box of characters `first` to `last`; OCR gives whole lines as one word, so a box may be cut."""
    left, top, right, bottom = word.box
    before, after = word.text[:first], word.text[last + 1 :]
    step = (right - left) / len(word.text)
    if " " in before or _IDEOGRAPH.search(before):
        left += step * first
    if " " in after or _IDEOGRAPH.search(after):
        right -= step * len(after)
    return left, top, right, bottom


def _lines(boxes: Sequence[tuple[int, Box]]) -> list[Box]:
    """Boxes of neighbouring words on one line as one."""
    merged: list[Box] = []
    last = -2
    for index, box in boxes:
        if merged and index == last + 1 and _same_line(merged[-1], box):
            one = merged[-1]
            merged[-1] = (min(one[0], box[0]), min(one[1], box[1]), max(one[2], box[2]), max(one[3], box[3]))
        else:
            merged.append(box)
        last = index
    return merged


def _same_line(one: Box, other: Box) -> bool:
    """Whether the second box goes on the line of the first: as high, to its right, and not far."""
    overlap = min(one[3], other[3]) - max(one[1], other[1])
    height = min(one[3] - one[1], other[3] - other[1])
    return overlap >= 0.5 * height and -0.02 <= other[0] - one[2] <= 0.1
