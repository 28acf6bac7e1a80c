"""The entries of EVisRAG's evidence section, one per image index, read while they are written.

An entry starts at an index with its colon (`[2]:`, also `[2]：`, `Image 2:`), on a new line or not, up to the next one.
Where a section has no such index at all, `[2]` at the beginning of a line starts one too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from visrag_integrations.errors import printable
from visrag_integrations.generation.wording import says_nothing_relevant
from visrag_integrations.types import Evidence

MAX_ENTRIES = 1000
"""Evidence entries read from one text; more than that is no answer but noise."""

_WORDS = r"(?:image|img|图片|图像)"
_START = re.compile(
    r"\*{0,2}(?:"
    rf"\[[ \t]{{0,2}}(?:{_WORDS}[ \t]{{0,2}})?[#]?(?P<a>[0-9]{{1,9}})[ \t]{{0,2}}\]"
    rf"|(?<![^\W_]){_WORDS}[ \t]{{0,2}}(?:\[(?P<b>[0-9]{{1,9}})\]|[#]?(?P<c>[0-9]{{1,9}}))"
    r")\*{0,2}[ \t]{0,2}(?P<colon>[:：])",
    re.IGNORECASE,
)
_BARE_START = re.compile(r"^[ \t]{0,4}\[(?P<a>[0-9]{1,9})\](?P<b>)(?P<c>)", re.MULTILINE)
_LONGEST_START = 48  # characters `_START` can match, with room to spare
_BULLET = re.compile(r"(?:[-*•+#]{1,4}|[0-9]{1,2}[.)])\s*")


@dataclass
class EntryReader:
    """The text of the evidence sections in pieces in, one `Evidence` per index out."""

    found: list[Evidence] = field(default_factory=list)
    _index: int | None = None
    _text: list[str] = field(default_factory=list)
    _tail: str = ""  # the last characters, where an index may have begun
    _section: list[str] = field(default_factory=list)
    _found_before: int = 0
    _lead: str = ""
    _dropped: int = 0
    _forms: dict[str, str] = field(default_factory=dict)

    def feed(self, piece: str) -> list[Evidence]:
        """Entries that are complete now that this piece came."""
        if self._index is None:
            self._section.append(piece)
        before, text, last = len(self.found), self._tail + piece, 0
        for match in _START.finditer(text):
            self._text.append(text[last : match.start()])
            self._finish_entry(followed=True)
            self._begin(match)
            last = match.end()
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
        self._found_before, self._tail, self._section = len(self.found), "", []
        return self.found[before:]

    def _begin(self, match: re.Match[str]) -> None:
        number = match["a"] or match["b"] or match["c"]
        self._index = int(number)
        written = match[0].strip()
        if written != f"[{number}]:":
            self._forms.setdefault(written, f"[{number}]:")

    def _finish_entry(self, *, followed: bool) -> None:
        text = "".join(self._text).strip()
        self._text = []
        if followed:
            head, newline, line = text.rpartition("\n")
            if len(line) < 8 and _BULLET.fullmatch(line):
                text = head.rstrip() if newline else ""
        if self._index is None:
            self._lead = self._lead or (text if followed else "")
        elif len(self.found) >= MAX_ENTRIES:
            self._dropped += 1
        else:
            if text.startswith("**") and text.count("**") % 2:
                text = text[2:].lstrip()
            self.found.append(Evidence(self._index, text, relevant=not (text == "" or says_nothing_relevant(text))))
        self._index = None

    def _read_bare(self, text: str) -> None:
        """Entries at the beginning of a line whose index has no colon."""
        starts = list(_BARE_START.finditer(text))
        if not starts:
            self._lead = self._lead or text.strip()
            return
        self._lead = self._lead or text[: starts[0].start()].strip()
        for match, following in zip(starts, [*starts[1:], None], strict=True):
            self._begin(match)
            self._text = [text[match.end() : following.start() if following else len(text)]]
            self._finish_entry(followed=following is not None)

    def problems(self, shown: int | None) -> list[str]:
        """What is off with the indexes, given how many pages were shown (None: not known)."""
        problems = []
        counts = Counter(entry.page_index for entry in self.found)
        outside = [index for index in counts if index < 1 or (shown is not None and index > shown)]
        inside = [index for index in counts if index not in set(outside)]
        expected = range(1, (shown if shown is not None else min(max(inside, default=0), MAX_ENTRIES)) + 1)
        skipped = [index for index in expected if index not in counts]
        repeated = [index for index, count in counts.items() if count > 1]
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
        if self._forms:
            forms = ", ".join(f"{excerpt(form)} for {right}" for form, right in list(self._forms.items())[:3])
            problems.append(f"evidence indexes are written differently: {forms}")
        if self._lead:
            problems.append(f"evidence text before the first index is left out: {excerpt(self._lead)}")
        if empty := [entry.page_index for entry in self.found if not entry.text]:
            problems.append(f"the evidence entry is empty for image {listed(empty)}")
        if self._dropped:
            problems.append(f"{self._dropped} evidence entries beyond the first {MAX_ENTRIES} are left out")
        return problems


def excerpt(text: str, length: int = 60) -> str:
    """The beginning of a text on one line, quoted, for a message.

    >>> excerpt("a\\n  b" * 40, 6)
    '"a ba b..."'
    """
    line = printable(" ".join(text[: 4 * length].split()))
    return f'"{line}"' if len(line) <= length and len(text) <= 4 * length else f'"{line[:length].rstrip()}..."'


def listed(numbers: Sequence[int], limit: int = 5) -> str:
    """Numbers for a message, the first few of them.

    >>> listed([2, 3, 4], limit=2)
    '2, 3 and 1 more'
    """
    text = ", ".join(map(str, numbers[:limit]))
    return text if len(numbers) <= limit else f"{text} and {len(numbers) - limit} more"
