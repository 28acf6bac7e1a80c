"""Questions to begin with, made from headings of the documents themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice

from visrag_integrations.types import Page, Word

_PAGES = 60  # pages that are looked at
_WORDS = 40  # words at the top of a page that may be its heading
_WORTHY = re.compile(r"[^\W\d_]{3,}.*[\s/-][^\W\d_]{3,}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{4}")
_NUMBER = re.compile(r"^[\dIVXivx.:)]+\s+")


def example_questions(pages: Iterable[Page], wanted: int = 3) -> list[str]:
    """Up to so many questions about different pages, from different documents first; in the documents' own language."""
    by_document: dict[str, list[str]] = {}
    for page in islice(pages, _PAGES):
        found = heading(page.words)
        if found:
            by_document.setdefault(page.doc_id, []).append(found)
    rounds = [list(dict.fromkeys(headings)) for headings in by_document.values()]
    turns = (headings[turn] for turn in range(_PAGES) for headings in rounds if turn < len(headings))
    return [f"{found}?" for found in islice(dict.fromkeys(turns), wanted)]


def heading(words: Sequence[Word]) -> str:
    """The largest line near the top of a page, where it reads like a heading; "" where none does.

    >>> large = [Word("2.1", (0.1, 0.1, 0.14, 0.13)), Word("Packing", (0.15, 0.1, 0.3, 0.13)),
    ...          Word("boats", (0.31, 0.1, 0.4, 0.13))]
    >>> heading([*large, *[Word("fold", (0.1, 0.2, 0.15, 0.21))] * 9])
    'Packing boats'
    """
    lines: list[list[Word]] = []
    for word in words[:_WORDS]:
        if lines and abs(word.box[1] - lines[-1][0].box[1]) < 0.5 * _height(word):
            lines[-1].append(word)
        else:
            lines.append([word])
    usual = sorted(map(_height, words))[len(words) // 2] if words else 0.0
    for line in sorted(lines, key=lambda line: -max(map(_height, line))):
        text = _NUMBER.sub("", " ".join(word.text for word in line)).strip(" .:•-–—")
        if len(text) <= 60 and _WORTHY.search(text) and not text.isupper() and max(map(_height, line)) > 1.15 * usual:
            return text
    return ""


def _height(word: Word) -> float:
    return word.box[3] - word.box[1]
