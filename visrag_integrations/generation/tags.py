r"""EVisRAG's tags however they are spelled, found in text that arrives in pieces.

    <answer>  <ANSWER>  < answer >  <answer type="final">  **<answer>**  `<answer>`  \<answer\>  ＜answer＞

are one tag, and `&lt;answer&gt;` is one too where the first tag of the text is escaped like that. Names are never
guessed: `<ans wer>` and `</thinking>` are text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from visrag_integrations.generation.events import Section

SECTIONS: tuple[Section, ...] = ("observe", "evidence", "think", "answer")
_OPENERS = ("<", "＜", "&lt;")
_CLOSERS = (">", "＞", "&gt;")
_MARKS = "*_`"  # what markdown puts around a word, the same on both sides


def _one_of(words: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, words)) + ")"


def _beginnings(words: Iterable[str], least: int = 1) -> str:
    """What matches the first letters of one of the words, `least` at least, the longest beginning first."""
    found = set()
    for word in words:
        for length in range(least, len(word) + 1):
            found.add(word[:length])
    return _one_of(sorted(found, key=lambda beginning: (-len(beginning), beginning)))


# The parts of a tag. Every repetition has a bound, so that a megabyte of "<" is read in linear time, and so that a tag
# has a greatest length: no more than that has to wait at the end of a piece.
_MARK = r"(?P<mark>\*{1,3}|_{1,3}|`{1,3})?"
_BLANK = r"[ \t]{0,2}"
_START = rf"\\?(?P<open>{_one_of(_OPENERS)}){_BLANK}"
_SLASH = rf"(?P<slash>\\?[/／]{_BLANK})?"
_NAME = rf"(?P<name>{_one_of(SECTIONS)})"
_ATTRIBUTE = r"\s{1,2}[a-z_-]{1,12}\s?=\s?(?:\"[^\"<>＜＞]{0,24}\"|'[^'<>＜＞]{0,24}'|[\w.-]{1,24})"
_END = rf"{_BLANK}\\?{_one_of(_CLOSERS)}"
_FLAGS = re.IGNORECASE | re.ASCII  # ASCII: else the Kelvin sign is a "k", and "thinK" with it a tag
TAG = re.compile(rf"{_MARK}{_START}{_SLASH}{_NAME}(?:{_ATTRIBUTE}){{0,2}}{_END}(?(mark)(?P=mark))", _FLAGS)
# What may still become a tag when more text comes: at least every beginning of what `TAG` matches. A little more than
# that is let in (any text for attributes), which holds back a few letters for longer and changes nothing else.
_REST = rf"(?:\s[^<>＜＞]{{0,100}})?{_BLANK}\\?"
_UNFINISHED = re.compile(
    rf"{_MARK}(?:\\?(?:"
    rf"{_START}{_SLASH.replace('?P<slash>', '?:')}(?:{_NAME}{_REST}"
    rf"(?:{_END}(?(mark)[*_`]{{0,2}})|{_beginnings(_CLOSERS)})?|{_beginnings(SECTIONS)})?\\?"
    rf"|{_beginnings(_OPENERS)})?)?\Z",
    _FLAGS,
)
# A tag of which so much was written is a tag that was cut off; "<", "<a", "&l" and "<think about" are text.
_CUT = re.compile(
    rf"{_MARK}{_START}(?:\\?[/／]{_BLANK}{_beginnings(SECTIONS)}?|{_beginnings(SECTIONS, 2)})"
    rf"(?:\s[a-z_-]{{1,12}}\s?=[^<>＜＞]{{0,60}})?{_BLANK}\\?(?:&g?t?)?\Z",
    _FLAGS,
)
_LONGEST = 160  # characters of the longest text that `TAG` can match, with room to spare
_FIRST_OF_TAG = re.compile(r"[<＜&\\*_`]")


class Tag(NamedTuple):
    """A tag.

    Attributes:
        section: Its name.
        closing: Whether it ends a section.
        text: As it was written, with the markdown around it.
    """

    section: Section
    closing: bool
    text: str

    @property
    def plain(self) -> str:
        """As it should be written."""
        slash = "/" if self.closing else ""
        return f"<{slash}{self.section}>"


# Tags as they are mostly written, made once: the same few objects stand for all tags of a text, however long it is.
_KNOWN: dict[str, Tag] = {}
for _name in SECTIONS:
    _KNOWN[f"<{_name}>"] = Tag(_name, False, f"<{_name}>")
    _KNOWN[f"</{_name}>"] = Tag(_name, True, f"</{_name}>")

TextOrTag = str | Tag | None  # None is the end of the text


@dataclass
class TagSplitter:
    """Takes text in pieces, gives text and tags; holds back at most the beginning of a tag.

    Attributes:
        cut_tag: The beginning of a tag with which the text ends.
        spellings: The first few tags that were written differently: as they were -> as they should be.
    """

    cut_tag: str = ""
    spellings: dict[str, str] = field(default_factory=dict)
    _held: str = ""
    _escaped: bool | None = None  # whether the first tag is written as "&lt;answer&gt;"; None before the first
    _marks: Counter[str] = field(default_factory=Counter)  # of each character of `_MARKS`, since the last tag

    def feed(self, piece: str) -> list[TextOrTag]:
        """Text and tags that are certain now that this piece came."""
        return self._split(self._held + piece, ended=False)

    def finish(self) -> list[TextOrTag]:
        """What was held back, and None for the end. The beginning of a tag is left out and noted."""
        return [*self._split(self._held, ended=True), None]

    def _split(self, text: str, *, ended: bool) -> list[TextOrTag]:
        tokens: list[TextOrTag] = []
        read = 0  # what is before this character is in `tokens`
        look = 0  # tags are looked for from here on
        certain = len(text) if ended else _certain(text, 0)
        while (match := TAG.search(text, look)) is not None and match.start() <= certain:
            look = match.end()
            if self._is_tag(match):
                look -= self._add_tag(match, text[read : match.start()], tokens)
                read = look
            if look > certain:  # what looked unfinished was the end of this tag
                certain = _certain(text, look)
        if ended:
            certain = self._without_cut_tag(text, look)
        self._add_text(text[read:certain], tokens)
        self._held = text[certain:]
        return tokens

    def _is_tag(self, match: re.Match[str]) -> bool:
        """Whether it counts: a tag that is escaped among others that are not is text, quoted from a page."""
        escaped = match["open"].startswith("&")
        if self._escaped is None:
            self._escaped = escaped
        return self._escaped or not escaped

    def _opened(self, mark: str, text: str) -> bool:
        """Whether the text since the last tag, which ends with `text`, has begun bold type that this mark ends."""
        return (self._marks[mark[0]] + text.count(mark[0])) % (2 * len(mark)) != 0

    def _add_tag(self, match: re.Match[str], before: str, tokens: list[TextOrTag]) -> int:
        """Take in a tag and the text before it; gives how many marks at its end belong to the text that follows."""
        mark = match["mark"] or ""
        if not mark or not self._opened(mark, before):
            self._add_text(before, tokens)
            tokens.append(self._tag(match, match[0]))
            return 0
        # "**7**</answer>**": the first two marks end the bold text, and the last two stand behind the tag.
        self._add_text(before + mark, tokens)
        tokens.append(self._tag(match, match[0][len(mark) : -len(mark)]))
        return len(mark)

    def _without_cut_tag(self, text: str, start: int) -> int:
        """Where the text ends without the beginning of a tag, which is noted."""
        cut = _CUT.search(text, max(start, len(text) - _LONGEST))
        if cut is None or not self._is_tag(cut):
            return len(text)
        self.cut_tag = cut[0]
        return cut.start()

    def _add_text(self, text: str, tokens: list[TextOrTag]) -> None:
        if not text:
            return
        for mark in _MARKS:
            self._marks[mark] += text.count(mark)
        tokens.append(text)

    def _tag(self, match: re.Match[str], written: str) -> Tag:
        self._marks.clear()
        tag = _KNOWN.get(written)
        if tag is None:
            tag = Tag(cast(Section, match["name"].lower()), match["slash"] is not None, written)
            if written.lower() != tag.plain and len(self.spellings) < 3:
                self.spellings.setdefault(written, tag.plain)
        return tag


def _certain(text: str, start: int) -> int:
    """Up to where the text can be read whatever follows: all of it, or up to what may be the beginning of a tag."""
    first = _FIRST_OF_TAG.search(text, max(start, len(text) - _LONGEST))
    if first is None:
        return len(text)
    unfinished = _UNFINISHED.search(text, first.start())
    if unfinished is None:
        return len(text)
    return unfinished.start()
