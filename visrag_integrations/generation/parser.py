"""EVisRAG's answers read as they are written, or as a whole: typed events, then one `Answer`. Never raises on text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from visrag_integrations.generation.entries import EntryReader, excerpt
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
from visrag_integrations.generation.wording import says_insufficient
from visrag_integrations.types import Answer, Evidence, Page, ScoredPage


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
    _entries: EntryReader = field(default_factory=EntryReader)

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


def parse_evidence(text: str, pages: Iterable[Page | ScoredPage] | None = None) -> Answer:
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
    stream = EvidenceStream(None if pages is None else list(pages))
    stream.feed(text)
    return stream.close()


def scored(pages: Sequence[Page | ScoredPage]) -> tuple[ScoredPage, ...]:
    """The pages as `ScoredPage`; one that was given without a score gets 0.0 of type "none"."""
    return tuple(page if isinstance(page, ScoredPage) else ScoredPage(page, 0.0, "none") for page in pages)
