"""Which text belongs to which of EVisRAG's four sections, told by the tags between.

The rules, which do not depend on how the text is cut into pieces:

* Tags are `<observe>`, `<evidence>`, `<think>`, `<answer>` and their closing forms, as `tags.py` finds them.
* A section runs to its own closing tag. Other tags before it are text of the section.
* A section whose closing tag does not come before the same tag opens again, or before the text ends, is unclosed:
  it runs to the next tag of any kind.

Whether a tag inside an open section is text is known only when that section closes; until then it is held back. Every
tag is held back at most once for each of the four names, so reading takes linear time whatever the text is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from visrag_integrations.generation.events import Section
from visrag_integrations.generation.tags import Tag, TextOrTag

# Four are right. A model that repeats itself without end, or a text made to hurt, has very many.
MAX_SECTIONS = 1000
"""Sections read from one text; more than that is no answer but noise, and left out as text outside the tags."""


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


Mark = Opened | Piece | Closed | StrayTag


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
            marks.append(StrayTag(token.plain, None))
        elif token is not None:
            self._open = token.section
            self.count += 1
            marks.append(Opened(token.section))

    def _close(self, marks: list[Mark]) -> None:
        """The open section's own closing tag came: all that was held back is its text."""
        assert self._open is not None
        for token in self._pending:
            if isinstance(token, Tag):
                marks.append(StrayTag(token.plain, self._open))
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
