"""The entries of EVisRAG's evidence section, one per image index, read while they are written.

The rules, which do not depend on how the text is cut into pieces:

* An entry starts at an index with its colon (`[2]:`, also `[2]：`, `Image 2:`, `[1][2]:`), on a new line or not.
* Once a section has line breaks, an index inside a line is text where the same index begins another line of the
  section: "[1]: see [2]: appendix", and below "[2]: the appendix". That is known when the section ends; until then
  such an index and all that follows it is held back.
* Where a section has no such index at all, its lines begin with their indexes in another way (`- [2] total`,
  `Page 2: total`, `2. total`), or the section is JSON.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from visrag_integrations.generation.excerpts import excerpt, listed
from visrag_integrations.generation.indexes import Start, certain_end, line_starts, next_start, points
from visrag_integrations.generation.json_answers import entries_in, looks_like_json
from visrag_integrations.generation.refusals import says_nothing_relevant
from visrag_integrations.types import Evidence

# A model shown five pages writes five entries. A loop that a model falls into can write very many: they would fill
# memory and a screen, and none of them is about a page that was shown.
MAX_ENTRIES = 1000
"""Evidence entries read from one text; more than that is no answer but noise."""

# What a list puts before its next item: "- ", "2. ", "## ". It belongs to the entry that follows, not to this one.
_BULLET = re.compile(r"(?:[-*•+#–—▪●◦·‣>|]{1,4}|[0-9]{1,2}[.)]|from|in|on)\s*", re.IGNORECASE)
_LINE_LEAD = re.compile(r"[ \t>|]{0,8}(?:(?:[-*•+–—▪●◦·‣]|#{1,6}|[0-9]{1,2}[.)])[ \t]{0,4})?")
_LONGEST_LEAD = 24  # characters of a line that are remembered; what stands before an index there is no longer


class _Candidate(NamedTuple):
    """An index of which only the end of the section tells whether it begins an entry."""

    start: Start
    text: str  # as it was written, blanks and all
    at_line: bool  # whether a line begins with it


@dataclass
class EntryReader:
    """Takes the text of the evidence sections in pieces, gives one `Evidence` for each page that an index names."""

    found: list[Evidence] = field(default_factory=list)
    _indexes: tuple[int, ...] | None = None  # of the entry that is being read; None before the first one
    _text: list[str] = field(default_factory=list)
    _before: str = ""  # the character before `_held`: "subimage 2:" is no index, which only the "b" tells
    _held: str = ""  # the last characters, where an index may have begun
    _line: str = ""  # how the line goes that is being read, its last characters only
    _lines: bool = False  # whether this section has a line break so far
    _line_indexes: set[int] = field(default_factory=set)  # with which lines of this section begin
    _waiting: list[_Candidate | str] = field(default_factory=list)  # from the first index on that may be text
    _section: list[str] = field(default_factory=list)  # all of this section, until its first index
    _head: str = ""  # the first few letters of this section, which tell whether it is JSON
    _json: bool | None = None  # None: too little of the section is there to tell
    _started: bool = False  # whether this section has had an index
    _lead: str = ""
    _dropped: int = 0
    _spellings: dict[str, str] = field(default_factory=dict)  # an index as it was written -> as it should be

    def feed(self, piece: str) -> list[Evidence]:
        """Entries that are complete now that this piece came."""
        before = len(self.found)
        if not self._started:
            self._section.append(piece)
        if self._json is None:
            self._head += "".join(piece.split())[: 8 - len(self._head)]
            self._json = looks_like_json(self._head)
            if self._json is False:
                self._read("".join(self._section))
        elif not self._json:
            self._read(piece)
        return self.found[before:]

    def end(self) -> list[Evidence]:
        """The section ended: its last entries, or those that are spelled in another way."""
        before = len(self.found)
        if self._json is not False:
            text = "".join(self._section)
            if not self._read_json(text):
                self._read(text)
        self._take(self._held)
        self._settle()
        if self._started:
            self._finish_entry(followed=False)
        else:
            self._read_placed("".join(self._section))
        self._begin_section()
        return self.found[before:]

    def add(self, indexes: tuple[int, ...], text: str, *, relevant: bool | None = None) -> None:
        """Take in an entry that came in another form, for example as JSON; None: its words tell what it is."""
        self._started = True
        for index in indexes:
            self._keep_entry(index, text.strip(), relevant)

    def _begin_section(self) -> None:
        self._text, self._section, self._waiting = [], [], []
        self._before = self._held = self._line = self._head = ""
        self._line_indexes = set()
        self._lines = self._started = False
        self._indexes = self._json = None

    def _read(self, piece: str) -> None:
        """Take in text of a section that is not JSON."""
        text = self._before + self._held + piece
        read = len(self._before)  # what is before this character is taken in
        certain = certain_end(text, read)
        while (start := next_start(text, read)) is not None and start.begin <= certain:
            self._take(text[read : start.begin])
            self._take_start(start, text[start.begin : start.end])
            read = start.end
            if read > certain:
                certain = certain_end(text, read)
        self._take(text[read:certain])
        self._before = text[max(0, certain - 1) : certain]
        self._held = text[certain:]

    def _take(self, text: str) -> None:
        if self._waiting:
            self._waiting.append(text)
        else:
            self._text.append(text)
        _, newline, line = text.rpartition("\n")
        if newline:
            self._lines = True
            self._line = ""
        self._line = (self._line + line[-_LONGEST_LEAD:])[-_LONGEST_LEAD:]

    def _take_start(self, start: Start, text: str) -> None:
        at_line = len(self._line) < _LONGEST_LEAD and _LINE_LEAD.fullmatch(self._line) is not None
        if self._waiting or (not at_line and self._may_be_text()):
            self._waiting.append(_Candidate(start, text, at_line))
        else:
            self._begin(start)
        if at_line:
            self._line_indexes.update(start.indexes)
        self._line = (self._line + text)[-_LONGEST_LEAD:]

    def _may_be_text(self) -> bool:
        """Whether an index inside a line may be text, which only the end of the section tells."""
        if self._lines:
            return True
        if len(self.found) >= MAX_ENTRIES:
            return False  # it is left out in any case
        # Without a line break, only the words before it tell an index that points to another page from an entry that
        # begins in the middle of a line; and entries are to be shown as they come.
        return self._indexes is not None and points(self._line)

    def _settle(self) -> None:
        """The section is read to its end: what waited is now an entry or text."""
        waiting, self._waiting = self._waiting, []
        for part in waiting:
            if isinstance(part, str):
                self._text.append(part)
            elif part.at_line or self._line_indexes.isdisjoint(part.start.indexes):
                self._begin(part.start)
            else:
                self._text.append(part.text)

    def _begin(self, start: Start) -> None:
        """An index: the entry before it ends, and its own begins."""
        self._finish_entry(followed=True)
        self._indexes = start.indexes
        self._started = True
        self._section = []
        if start.written != start.plain and len(self._spellings) < MAX_ENTRIES:
            self._spellings.setdefault(start.written, start.plain)

    def _finish_entry(self, *, followed: bool) -> None:
        """The text collected so far is an entry, or what stood before the first index."""
        text = "".join(self._text).strip()
        self._text = []
        if followed:
            text = _without_next_bullet(text)
        if self._indexes is None:
            if not self._lead:
                self._lead = text
            return
        for index in self._indexes:
            self._keep_entry(index, text)
        self._indexes = None

    def _keep_entry(self, index: int, text: str, relevant: bool | None = None) -> None:
        if len(self.found) >= MAX_ENTRIES:
            self._dropped += 1
            return
        text = _without_half_of_bold(text)
        if relevant is None:
            relevant = text != "" and not says_nothing_relevant(text)
        self.found.append(Evidence(index, text, relevant=relevant))

    def _read_json(self, text: str) -> bool:
        """Take in a section that is JSON; False when it is none after all."""
        entries = entries_in(text)
        for entry in entries:
            self.add(entry.indexes, entry.text, relevant=entry.relevant)
        if entries:
            self._section = []
            self._spellings.setdefault("JSON", "[1]:")
        return bool(entries)

    def _read_placed(self, text: str) -> None:
        """Entries of a section whose indexes are told by their places at the beginnings of lines."""
        self._text = []
        last = 0
        for start in line_starts(text):
            self._text.append(_without_cell_end(text[last : start.begin]))
            self._begin(start)
            last = start.end
        self._text.append(_without_cell_end(text[last:]))
        self._finish_entry(followed=False)

    def problems(self, shown: int | None) -> list[str]:
        """What is wrong with the entries, given how many pages were shown (None: not known)."""
        problems = self._index_problems(shown)
        if self._spellings:
            first = islice(self._spellings.items(), 3)
            spellings = ", ".join(f"{excerpt(written)} for {right}" for written, right in first)
            problems.append(f"evidence indexes are written differently: {spellings}")
        if self._lead:
            problems.append(f"evidence text before the first index is left out: {excerpt(self._lead)}")
        if empty := [entry.page_index for entry in self.found if not entry.text]:
            problems.append(f"the evidence entry is empty for image {listed(empty)}")
        if self._dropped:
            problems.append(f"{self._dropped} evidence entries beyond the first {MAX_ENTRIES} are left out")
        return problems

    def _index_problems(self, shown: int | None) -> list[str]:
        """Images without an entry, with several, that were not shown, or out of order."""
        problems = []
        counts = Counter(entry.page_index for entry in self.found)
        outside, inside, repeated = [], [], []
        for index, count in counts.items():
            if index < 1 or (shown is not None and index > shown):
                outside.append(index)
            else:
                inside.append(index)
            if count > 1:
                repeated.append(index)
        last = shown
        if last is None:  # then every image up to the highest that is named was shown
            last = min(max(inside, default=0), MAX_ENTRIES)
        skipped = [index for index in range(1, last + 1) if index not in counts]
        if not self.found:
            problems.append("<evidence> names no image")
        elif skipped:
            problems.append(f"no evidence entry for image {listed(skipped)}")
        if repeated:
            problems.append(f"more than one evidence entry for image {listed(repeated)}")
        if outside:
            problems.append(f"evidence for images that were not shown: {listed(outside)}")
        if inside != sorted(inside):
            problems.append("the evidence entries are out of order")
        return problems


def _without_next_bullet(text: str) -> str:
    r"""The text of an entry without the mark of the list item that begins the next one.

    >>> _without_next_bullet("seven\n- "), _without_next_bullet("a total of\n12")
    ('seven', 'a total of\n12')
    """
    head, newline, line = text.rpartition("\n")
    if len(line) >= 8 or not _BULLET.fullmatch(line):  # no mark is that long; a long line need not be searched
        return text
    if not newline:
        return ""
    return head.rstrip()


def _without_cell_end(text: str) -> str:
    """The text of a table's row without the line that closes its last cell: "seven |" was "| 1 | seven |"."""
    kept = text.rstrip()
    if kept.endswith("|") and kept.count("|") == 1:
        return kept[:-1]
    return text


def _without_half_of_bold(text: str) -> str:
    """The text without two asterisks at one end, whose other half stood at the entry's index or was cut off.

    >>> _without_half_of_bold("** seven"), _without_half_of_bold("seven**"), _without_half_of_bold("**seven** x")
    ('seven', 'seven', '**seven** x')
    """
    for mark in ("**", "__"):
        if text.count(mark) % 2 == 0:
            continue
        if text.startswith(mark):
            return text[2:].lstrip()
        return text.removesuffix(mark).rstrip()
    return text
