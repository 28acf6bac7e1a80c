"""Questions to begin with, made from headings of the documents themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest

from visrag_integrations.types import Page, Word

# The visitor waits for these questions, and only three are shown: the beginning of an index has enough headings.
_PAGES = 60  # pages that are looked at
_WORDS = 40  # words at the top of a page that may be its heading
_LONGEST = 60  # characters of a heading; what is longer is a sentence, and fits no button
_LARGER = 1.15  # times the usual height of words; below that, words of the text would count that happen to be tall
# Two words of three letters or more, as headings have and page numbers have not; or four characters of a script
# without spaces (kana, Han, Hangul).
_WORTHY = re.compile(r"[^\W\d_]{3,}.*[\s/-][^\W\d_]{3,}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{4}")
_NUMBER = re.compile(r"^[\dIVXivx.:)]+\s+")


def example_questions(pages: Iterable[Page], wanted: int = 3) -> list[str]:
    """Up to so many questions about different pages, from different documents first; in the documents' own language."""
    by_document: dict[str, list[str]] = {}
    for page in islice(pages, _PAGES):
        found = heading(page.words)
        headings = by_document.setdefault(page.doc_id, [])
        if found and found not in headings:
            headings.append(found)
    # By turns: the first heading of every document, then the second of every document, ...
    questions: list[str] = []
    for turn in zip_longest(*by_document.values()):
        for found in turn:
            if found is not None and f"{found}?" not in questions:
                questions.append(f"{found}?")
    return questions[:wanted]


def heading(words: Sequence[Word]) -> str:
    """The largest line near the top of a page, where it reads like a heading; "" where none does.

    >>> large = [Word("2.1", (0.1, 0.1, 0.14, 0.13)), Word("Packing", (0.15, 0.1, 0.3, 0.13)),
    ...          Word("boats", (0.31, 0.1, 0.4, 0.13))]
    >>> heading([*large, *[Word("fold", (0.1, 0.2, 0.15, 0.21))] * 9])
    'Packing boats'
    """
    if not words:
        return ""
    usual = sorted(map(_height, words))[len(words) // 2]
    for line in sorted(_lines(words[:_WORDS]), key=_tallest, reverse=True):
        if _tallest(line) <= _LARGER * usual:
            return ""
        # "2.1 Packing boats" -> "Packing boats"
        text = _NUMBER.sub("", " ".join(word.text for word in line)).strip(" .:•-–—")
        # What is all capitals is mostly a running title or a chapter's number.
        if len(text) <= _LONGEST and _WORTHY.search(text) and not text.isupper():
            return text
    return ""


def _lines(words: Sequence[Word]) -> list[list[Word]]:
    """Neighbours whose tops are less than half a word's height apart stand in one line."""
    lines: list[list[Word]] = []
    for word in words:
        if lines and abs(word.box[1] - lines[-1][0].box[1]) < 0.5 * _height(word):
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _tallest(line: Sequence[Word]) -> float:
    return max(map(_height, line))


def _height(word: Word) -> float:
    return word.box[3] - word.box[1]
