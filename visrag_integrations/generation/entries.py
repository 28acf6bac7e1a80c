"""The entries of EVisRAG's evidence section, one per image index, read while they are written.

An entry starts at an index with its colon (`[2]:`, also `[2]：`, `Image 2:`), on a new line or not, up to the next one.
Where a section has no such index at all, `[2]` at the beginning of a line starts one too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from visrag_integrations.errors import printable
from visrag_integrations.generation.refusals import says_nothing_relevant
from visrag_integrations.types import Evidence

# A model shown five pages writes five entries. A loop that a model falls into can write very many: they would fill
# memory and a screen, and none of them is about a page that was shown.
MAX_ENTRIES = 1000
"""Evidence entries read from one text; more than that is no answer but noise."""

_WORDS = r"(?:image|img|图片|图像)"
# "[2]:", "[ img #2 ]:", "Image 2:", "图片[2]：", each also in bold: "**[2]:**" and "**[2]**:" begin with "**".
# Every repetition has a bound, so that a megabyte of "[" or "*" is read in linear time.
_START = re.compile(
    r"\*{0,2}(?:"
    rf"\[[ \t]{{0,2}}(?:{_WORDS}[ \t]{{0,2}})?[#]?(?P<a>[0-9]{{1,9}})[ \t]{{0,2}}\]"
    rf"|(?<![^\W_]){_WORDS}[ \t]{{0,2}}(?:\[(?P<b>[0-9]{{1,9}})\]|[#]?(?P<c>[0-9]{{1,9}}))"
    r")\*{0,2}[ \t]{0,2}(?P<colon>[:：])",
    re.IGNORECASE,
)
_BARE_START = re.compile(r"^[ \t]{0,4}\[(?P<a>[0-9]{1,9})\](?P<b>)(?P<c>)", re.MULTILINE)
# Characters of the longest index that `_START` can match, with room to spare. Fewer would lose an index that arrives
# in pieces; more would only hold back text for longer.
_LONGEST_START = 48
# What a list puts before its next item: "- ", "2. ", "## ". It belongs to the entry that follows, not to this one.
_BULLET = re.compile(r"(?:[-*•+#]{1,4}|[0-9]{1,2}[.)])\s*")


@dataclass
class EntryReader:
    """Takes the text of the evidence sections in pieces, gives one `Evidence` per index."""

    found: list[Evidence] = field(default_factory=list)
    _index: int | None = None  # of the entry that is being read; None before the first one
    _text: list[str] = field(default_factory=list)
    _tail: str = ""  # the last characters, where an index may have begun
    _section: list[str] = field(default_factory=list)
    _found_before: int = 0
    _lead: str = ""
    _dropped: int = 0
    _spellings: dict[str, str] = field(default_factory=dict)  # an index as it was written -> as it should be

    def feed(self, piece: str) -> list[Evidence]:
        """Entries that are complete now that this piece came."""
        if self._index is None:
            self._section.append(piece)
        before = len(self.found)
        text = self._tail + piece
        last = 0
        for match in _START.finditer(text):
            self._text.append(text[last : match.start()])
            self._finish_entry(followed=True)
            self._begin(match)
            last = match.end()
        # The end is kept and searched again with the next piece: "[1]: seven [2" may go on with "]:".
        rest = text[last:]
        self._text.append(rest[:-_LONGEST_START])
        self._tail = rest[-_LONGEST_START:]
        return self.found[before:]

    def end(self) -> list[Evidence]:
        """The section ended: its last entry, or, where no index had a colon, the entries without."""
        before = len(self.found)
        self._text.append(self._tail)
        self._finish_entry(followed=False)
        if before == self._found_before and len(self.found) == before:
            self._read_bare("".join(self._section))
        self._found_before = len(self.found)
        self._tail = ""
        self._section = []
        return self.found[before:]

    def _begin(self, match: re.Match[str]) -> None:
        number = match["a"] or match["b"] or match["c"]
        self._index = int(number)
        written = match[0].strip()
        if written != f"[{number}]:":
            self._spellings.setdefault(written, f"[{number}]:")

    def _finish_entry(self, *, followed: bool) -> None:
        """The text collected so far is an entry, or what stood before the first index."""
        text = "".join(self._text).strip()
        self._text = []
        if followed:
            text = _without_next_bullet(text)
        if self._index is not None:
            self._keep_entry(self._index, text)
        elif followed and not self._lead:
            self._lead = text
        self._index = None

    def _keep_entry(self, index: int, text: str) -> None:
        if len(self.found) >= MAX_ENTRIES:
            self._dropped += 1
            return
        if text.startswith("**") and text.count("**") % 2:
            text = text[2:].lstrip()  # "**[2]:** seven" was cut behind its colon; this is the other end of the bold
        relevant = text != "" and not says_nothing_relevant(text)
        self.found.append(Evidence(index, text, relevant=relevant))

    def _read_bare(self, text: str) -> None:
        """Entries at the beginning of a line whose index has no colon."""
        starts = list(_BARE_START.finditer(text))
        if not starts:
            self._lead = self._lead or text.strip()
            return
        self._lead = self._lead or text[: starts[0].start()].strip()
        for match, following in pairwise(starts):
            self._begin(match)
            self._text = [text[match.end() : following.start()]]
            self._finish_entry(followed=True)
        self._begin(starts[-1])
        self._text = [text[starts[-1].end() :]]
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


def excerpt(text: str, length: int = 60) -> str:
    """The beginning of a text on one line, quoted, for a message.

    >>> excerpt("a\\n  b" * 40, 6)
    '"a ba b..."'
    """
    most = 4 * length  # blanks are folded; so much of the text is enough, and a megabyte of it is never copied
    line = printable(" ".join(text[:most].split()))
    if len(line) <= length and len(text) <= most:
        return f'"{line}"'
    return f'"{line[:length].rstrip()}..."'


def listed(numbers: Sequence[int], limit: int = 5) -> str:
    """Numbers for a message, the first few of them.

    >>> listed([2, 3, 4], limit=2)
    '2, 3 and 1 more'
    """
    text = ", ".join(map(str, numbers[:limit]))
    if len(numbers) > limit:
        return f"{text} and {len(numbers) - limit} more"
    return text
