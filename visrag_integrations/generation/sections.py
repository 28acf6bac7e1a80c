"""EVisRAG's four tags found in text that arrives in pieces: which text belongs to which section.

The rules, which do not depend on how the text is cut into pieces:

* Tags are `<observe>`, `<evidence>`, `<think>`, `<answer>` and their closing forms, in any case; nothing else is a tag.
* A section runs to its own closing tag. Other tags before it are text of the section.
* A section whose closing tag does not come before the same tag opens again, or before the text ends, is unclosed:
  it runs to the next tag of any kind.

Whether a tag inside an open section is text is known only when that section closes; until then it is held back. Every
tag is held back at most once for each of the four names, so reading takes linear time whatever the text is.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from visrag_integrations.generation.events import Section

SECTIONS: tuple[Section, ...] = ("observe", "evidence", "think", "answer")
TAG = re.compile(r"<(/?)(observe|evidence|think|answer)>", re.IGNORECASE | re.ASCII)
# Four are right. A model that repeats itself without end, or a text made to hurt, has very many.
MAX_SECTIONS = 1000
"""Sections read from one text; more than that is no answer but noise, and left out as text outside the tags."""

_TAGS = tuple(f"<{slash}{name}>" for name in SECTIONS for slash in ("", "/"))
_LONGEST = max(map(len, _TAGS))  # so many characters may have to wait for the rest of their tag


class Tag(NamedTuple):
    """A tag as it was written."""

    section: Section
    closing: bool
    text: str


class Opened(NamedTuple):
    """A section begins."""

    section: Section


class Piece(NamedTuple):
    """Text of a section, or text outside all of them (None)."""

    section: Section | None
    text: str


class Closed(NamedTuple):
    """A section ends: at its own closing tag, at another tag, or with the text."""

    section: Section
    how: Literal["closed", "unclosed", "cut off"]


class StrayTag(NamedTuple):
    """A tag that is not where it should be: a closing one that closes nothing, or one quoted inside a section."""

    tag: str
    inside: Section | None


# Tags as they are mostly written, made once: the same few objects stand for all tags of a text, however long it is.
_KNOWN = {tag: Tag(cast(Section, tag.strip("</>")), tag.startswith("</"), tag) for tag in _TAGS}

TextOrTag = str | Tag | None  # None is the end of the text
Mark = Opened | Piece | Closed | StrayTag


@dataclass
class TagSplitter:
    """Takes text in pieces, gives text and tags; holds back at most the beginning of a tag."""

    cut_tag: str = ""
    _held: str = ""

    def feed(self, piece: str) -> list[TextOrTag]:
        text = self._held + piece
        end = len(text) - self._unfinished(text)
        self._held = text[end:]
        tokens: list[TextOrTag] = []
        last = 0
        for match in TAG.finditer(text, 0, end):
            if match.start() > last:
                tokens.append(text[last : match.start()])
            tokens.append(_KNOWN.get(match[0]) or Tag(cast(Section, match[2].lower()), bool(match[1]), match[0]))
            last = match.end()
        if end > last:
            tokens.append(text[last:end])
        return tokens

    def finish(self) -> list[TextOrTag]:
        """What was held back, and None for the end. A tag cut off after three characters or more is dropped."""
        held, self._held = self._held, ""
        if len(held) > 2 or held == "</":
            self.cut_tag = held
        elif held:
            return [held, None]
        return [None]

    @staticmethod
    def _unfinished(text: str) -> int:
        """How many characters at the end may be the beginning of a tag."""
        start = text.rfind("<", max(0, len(text) - _LONGEST + 1))
        if start < 0:
            return 0
        beginning = text[start:].lower()
        for tag in _TAGS:
            if tag.startswith(beginning) and tag != beginning:
                return len(beginning)
        return 0


@dataclass
class SectionReader:
    """Takes text and tags, gives marks: what opens, what belongs where, what closes and how."""

    count: int = 0
    _open: Section | None = None
    _pending: list[TextOrTag] = field(default_factory=list)  # from the first tag inside the open section on

    def read(self, tokens: list[TextOrTag]) -> list[Mark]:
        todo = deque(tokens)
        marks: list[Mark] = []
        while todo:
            token = todo.popleft()
            if self._open is None:
                self._outside(token, marks)
            elif isinstance(token, str):
                if self._pending:
                    self._pending.append(token)
                else:
                    marks.append(Piece(self._open, token))
            elif token is None or (token.section == self._open and not token.closing):
                self._give_up(token, todo, marks)
            elif token.section == self._open:
                self._close(marks)
            else:
                self._pending.append(token)
        return marks

    def _outside(self, token: TextOrTag, marks: list[Mark]) -> None:
        if isinstance(token, str):
            marks.append(Piece(None, token))
        elif token is not None and self.count >= MAX_SECTIONS:
            marks.append(Piece(None, token.text))
        elif token is not None and token.closing:
            marks.append(StrayTag(token.text, None))
        elif token is not None:
            self._open = token.section
            self.count += 1
            marks.append(Opened(token.section))

    def _close(self, marks: list[Mark]) -> None:
        """The open section's own closing tag came: all that was held back is its text."""
        assert self._open is not None
        for token in self._pending:
            if isinstance(token, Tag):
                marks.append(StrayTag(token.text, self._open))
                marks.append(Piece(self._open, token.text))
            elif token is not None:
                marks.append(Piece(self._open, token))
        marks.append(Closed(self._open, "closed"))
        self._open, self._pending = None, []

    def _give_up(self, token: TextOrTag, todo: deque[TextOrTag], marks: list[Mark]) -> None:
        """The open section is never closed: it ended where what was held back begins, which is now read again."""
        assert self._open is not None
        if token is None and not self._pending:
            marks.append(Closed(self._open, "cut off"))
        else:
            marks.append(Closed(self._open, "unclosed"))
        # Put back in the order in which it was read: what was held back, then this token.
        todo.appendleft(token)
        todo.extendleft(reversed(self._pending))
        self._open, self._pending = None, []
