"""EVisRAG's answers read as they are written, or as a whole: typed events, then one `Answer`. Never raises on text."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from visrag_integrations.errors import printable
from visrag_integrations.generation.events import (
    AnswerReady,
    Event,
    EvidenceFound,
    Section,
    SectionStarted,
    SectionText,
)
from visrag_integrations.generation.sections import (
    MAX_SECTIONS,
    SECTIONS,
    Closed,
    Mark,
    Oddity,
    Opened,
    Piece,
    SectionReader,
    TagSplitter,
)
from visrag_integrations.generation.wording import says_insufficient, says_nothing_relevant
from visrag_integrations.types import Answer, Evidence, Page, ScoredPage

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
class EvidenceStream:
    """Reads an answer while it is written; any cut into pieces gives the same `Answer` as the whole.

    >>> stream = EvidenceStream()
    >>> [event.text for event in stream.feed("<answer>4") + stream.feed("2</ans")[:1] if isinstance(event, SectionText)]
    ['4', '2']
    >>> _ = stream.feed("wer>")
    >>> stream.close().text
    '42'

    Args:
        pages: The pages the model was shown, best first; None when they are not known.
    """

    pages: Sequence[Page | ScoredPage] | None = None
    _splitter: TagSplitter = field(default_factory=TagSplitter)
    _sections: SectionReader = field(default_factory=SectionReader)
    _raw: list[str] = field(default_factory=list)
    _texts: dict[Section, list[list[str]]] = field(default_factory=lambda: {name: [] for name in SECTIONS})
    _order: list[Section] = field(default_factory=list)
    _outside: list[str] = field(default_factory=list)
    _noted: Counter[Oddity | Closed] = field(default_factory=Counter)
    _entries: EntryReader = field(default_factory=lambda: EntryReader())

    def feed(self, piece: str) -> list[Event]:
        """Read the next piece; gives what became known with it."""
        self._raw.append(piece)
        return self._take(self._sections.read(self._splitter.feed(piece)))

    def finish(self) -> list[Event]:
        """Read to the end; the last event is `AnswerReady`."""
        events = self._take(self._sections.read(self._splitter.finish()))
        return [*events, AnswerReady(self._answer())]

    def close(self) -> Answer:
        """Read to the end; the whole answer."""
        last = self.finish()[-1]
        assert isinstance(last, AnswerReady)
        return last.answer

    def _take(self, marks: list[Mark]) -> list[Event]:
        events: list[Event] = []
        for mark in marks:
            if isinstance(mark, Piece):
                self._take_text(mark, events)
            elif isinstance(mark, Opened):
                self._texts[mark.section].append([])
                self._order.append(mark.section)
                events.append(SectionStarted(mark.section))
            elif isinstance(mark, Closed):
                self._take_end(mark, events)
            elif isinstance(mark, Oddity):
                self._noted[mark] += 1
        return events

    def _take_text(self, piece: Piece, events: list[Event]) -> None:
        if piece.section is None:
            self._outside.append(piece.text)
            return
        self._texts[piece.section][-1].append(piece.text)
        if piece.section == "evidence":
            events += [EvidenceFound(self._with_page(entry)) for entry in self._entries.feed(piece.text)]
        else:
            events.append(SectionText(piece.section, piece.text))

    def _take_end(self, mark: Closed, events: list[Event]) -> None:
        if mark.how != "closed":
            self._noted[mark] += 1
        if mark.section == "evidence":
            events += [EvidenceFound(self._with_page(entry)) for entry in self._entries.end()]

    def _with_page(self, entry: Evidence) -> Evidence:
        if self.pages is None or not 1 <= entry.page_index <= len(self.pages):
            return entry
        page = self.pages[entry.page_index - 1]
        return dataclasses.replace(entry, page=page.page if isinstance(page, ScoredPage) else page)

    def _answer(self) -> Answer:
        written = {name: ["".join(pieces).strip() for pieces in self._texts[name]] for name in SECTIONS}
        text = next((text for text in reversed(written["answer"]) if text), "")
        return Answer(
            text=text,
            sufficient=bool(text) and not says_insufficient(text),
            evidence=tuple(self._with_page(entry) for entry in self._entries.found),
            thinking="\n\n".join(filter(None, written["think"])),
            observation="\n\n".join(filter(None, written["observe"])),
            pages=scored(self.pages or ()),
            problems=tuple(self._problems(written)),
            raw="".join(self._raw),
        )

    def _problems(self, written: dict[Section, list[str]]) -> list[str]:
        problems = []
        for name in SECTIONS:
            if not written[name]:
                problems.append(f"<{name}> is missing")
            elif not any(written[name]):
                problems.append(f"<{name}> is empty")
            if len(written[name]) > 1:
                rule = "the last one stands" if name == "answer" else "they are joined"
                problems.append(f"<{name}> appears {len(written[name])} times; {rule}")
        first = list(dict.fromkeys(self._order))
        if first != [name for name in SECTIONS if name in first]:
            problems.append(f"the sections are out of order: {', '.join(first)}")
        notes = Counter({_in_words(mark): 0 for mark in self._noted})
        for mark, count in self._noted.items():
            notes[_in_words(mark)] += count
        problems += [note if count == 1 else f"{note} (x{count})" for note, count in notes.items()]
        if self._sections.count >= MAX_SECTIONS:
            problems.append(f"what comes after the first {MAX_SECTIONS} sections is left out")
        if self._splitter.cut_tag:
            problems.append(f"the text ends inside a tag: {self._splitter.cut_tag}")
        if outside := "".join(self._outside).strip():
            problems.append(f"text outside the tags is left out: {excerpt(outside)}")
        if any(written["evidence"]):
            problems += self._entries.problems(None if self.pages is None else len(self.pages))
        return problems


def _in_words(mark: Oddity | Closed) -> str:
    """What is off where a section does not end as it should, or a tag stands where it should not."""
    if isinstance(mark, Oddity):
        place = f"inside <{mark.inside}> is text there" if mark.inside else "closes nothing"
        return f"the tag {mark.tag.lower()} {place}"
    if mark.how == "unclosed":
        return f"<{mark.section}> is not closed"
    return f"the text ends inside <{mark.section}>: it was cut off, or </{mark.section}> was left out"


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


def parse_evidence(text: str, pages: Sequence[Page | ScoredPage] | None = None) -> Answer:
    """The answer that EVisRAG wrote, with its evidence by page; what is off goes into `problems`, in words.

    >>> answer = parse_evidence("<evidence>[1]: no relevant information [2]: total: 7</evidence><answer>7</answer>")
    >>> answer.text, [(entry.page_index, entry.text, entry.relevant) for entry in answer.evidence]
    ('7', [(1, 'no relevant information', False), (2, 'total: 7', True)])
    >>> answer.problems
    ('<observe> is missing', '<think> is missing')

    Args:
        text: What the model wrote; any string.
        pages: The pages it was shown, best first.
    """
    stream = EvidenceStream(pages)
    stream.feed(text)
    return stream.close()


def scored(pages: Sequence[Page | ScoredPage]) -> tuple[ScoredPage, ...]:
    """The pages as `ScoredPage`; one that was given without a score gets 0.0 of type "none"."""
    return tuple(page if isinstance(page, ScoredPage) else ScoredPage(page, 0.0, "none") for page in pages)


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
