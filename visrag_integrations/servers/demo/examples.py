"""Questions to begin with, made from headings of the documents where they make a question; else none."""

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
# A heading above less than this is a title page or a slide of one line: it has nothing to say.
_TEXT_BELOW = 25
_NUMBER = re.compile(r"^((chapter|section|part|appendix)\s+)?[\dIVXivx]+[\dIVXivx.:)\-]*\s+", re.IGNORECASE)
# "Figure 11-4: An axis", "Table 3": the name of a picture, not of a chapter.
_CAPTION = re.compile(r"^(figure|fig\.|table|tab\.|listing|example|exhibit|chart|slide|page|note)\b", re.IGNORECASE)
# Headings that every document has; what they say is not worth asking.
_USUAL = frozenset(
    {"contents", "index", "references", "bibliography", "acknowledgements", "acknowledgments", "introduction"}
    | {"preface", "abstract", "appendix", "glossary", "summary", "overview", "conclusion", "conclusions", "table", "of"}
)
# In the text of nearly every page of English; two of them do not stand together on a page of another language.
_ENGLISH = frozenset(["the", "and", "of", "to", "is", "that", "with"])
_QUESTION = re.compile(r"\w.*[?？؟]$")


def example_questions(pages: Iterable[Page], wanted: int = 3) -> list[str]:
    """Up to so many questions about different pages, from different documents first.

    A heading that is a question is asked as it is, in whatever language; from other headings a question is made on
    pages in English only, because a question in two languages would puzzle people.
    """
    by_document: dict[str, list[str]] = {}
    for page in islice(pages, _PAGES):
        question = question_about(page)
        questions = by_document.setdefault(page.doc_id, [])
        if question and question not in questions:
            questions.append(question)
    # By turns: the first of every document, then the second of every document, ...
    found: list[str] = []
    for turn in zip_longest(*by_document.values()):
        for question in turn:
            if question is not None and question not in found:
                found.append(question)
    return found[:wanted]


def question_about(page: Page) -> str:
    """The question that a page's heading makes; "" where it makes none."""
    text = heading(page.words)
    if not text or _CAPTION.match(text):
        return ""
    if _QUESTION.search(text) and len(text.split()) > 1:
        return text
    words = text.casefold().split()
    # "Axes Axes" is a heading and a running title that stand in one line.
    if len(set(words)) < len(words) or set(words) <= _USUAL or text.endswith((":", ",", ";", "-")):
        return ""
    if not text[0].isupper() or not any(len(word) > 3 for word in words) or not _reads_english(page):
        return ""
    return f"What does the chapter ‘{text}’ say?"


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
        text = _NUMBER.sub("", " ".join(word.text for word in line)).strip(" .•-–—")
        # What is all capitals is mostly a running title or a chapter's number.
        letters = sum(letter.isalpha() for letter in text)
        if letters > 2 and len(text) <= _LONGEST and not text.isupper() and not any(map(str.isdigit, text)):
            return text
    return ""


def _reads_english(page: Page) -> bool:
    """Whether there is a text in English below the heading."""
    words = [word.text.casefold().strip(".,;:()") for word in page.words]
    return len(words) >= _TEXT_BELOW and len(_ENGLISH & set(words)) >= 2


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
