"""EVisRAG's answers read as they are written, or as a whole: typed events, then one `Answer`. Never raises on text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.errors import printable
from visrag_integrations.generation.entries import EntryReader
from visrag_integrations.generation.events import (
    AnswerReady,
    Event,
    EvidenceFound,
    Section,
    SectionStarted,
    SectionText,
)
from visrag_integrations.generation.excerpts import excerpt
from visrag_integrations.generation.json_answers import entries_of, text_of
from visrag_integrations.generation.refusals import rests_on_nothing, says_insufficient
from visrag_integrations.generation.sections import (
    MAX_SECTIONS,
    Closed,
    Mark,
    Opened,
    Piece,
    SectionReader,
    StrayTag,
)
from visrag_integrations.generation.tags import SECTIONS, TagSplitter
from visrag_integrations.generation.untagged import OutsideText, Untagged
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
    _outside: OutsideText = field(default_factory=OutsideText)
    _untagged: Untagged = field(default_factory=Untagged)
    _noted: Counter[StrayTag | Closed] = field(default_factory=Counter)
    _entries: EntryReader = field(default_factory=EntryReader)

    def feed(self, piece: str) -> list[Event]:
        """Read the next piece; gives what became known with it."""
        self._raw.append(piece)
        return self._take(self._sections.read(self._splitter.feed(piece)))

    def finish(self, *, cut_off: bool = False) -> list[Event]:
        """Read to the end; the last event is `AnswerReady`.

        Args:
            cut_off: Whether the text ended at a token limit. Without any tag it is then no answer, else it is one.
        """
        events = self._take(self._sections.read(self._splitter.finish()))
        answered = any("".join(pieces).strip() for pieces in self._texts["answer"])
        self._untagged = self._outside.read(answered=answered, cut_off=cut_off)
        for name, content in self._untagged.sections:
            self._take_untagged(name, content, events)
        events.append(AnswerReady(self._answer()))
        return events

    def close(self, *, cut_off: bool = False) -> Answer:
        """Read to the end; the whole answer."""
        last = self.finish(cut_off=cut_off)[-1]
        assert isinstance(last, AnswerReady)
        return last.answer

    def _take(self, marks: list[Mark]) -> list[Event]:
        events: list[Event] = []
        for mark in marks:
            if isinstance(mark, Piece):
                self._take_text(mark, events)
            elif isinstance(mark, Opened):
                self._outside.open()
                self._take_start(mark.section, events)
            elif isinstance(mark, Closed):
                self._take_end(mark, events)
            else:
                self._noted[mark] += 1
                if mark.inside is None:
                    self._outside.close(mark.tag)
        return events

    def _take_start(self, section: Section, events: list[Event]) -> None:
        self._texts[section].append([])
        self._order.append(section)
        events.append(SectionStarted(section))

    def _take_text(self, piece: Piece, events: list[Event]) -> None:
        if piece.section is None:
            self._outside.add(piece.text)
            return
        self._texts[piece.section][-1].append(piece.text)
        # Evidence is told entry by entry: half of one says nothing about its page.
        if piece.section == "evidence":
            self._take_entries(self._entries.feed(piece.text), events)
        else:
            events.append(SectionText(piece.section, piece.text))

    def _take_end(self, mark: Closed, events: list[Event]) -> None:
        if mark.how == "closed":
            self._outside.close(f"</{mark.section}>")
        else:
            self._noted[mark] += 1
        if mark.section == "evidence":
            self._take_entries(self._entries.end(), events)

    def _take_untagged(self, section: Section, content: Any, events: list[Event]) -> None:
        """A section that was found outside the tags, as text or as JSON."""
        self._take_start(section, events)
        if section != "evidence" or isinstance(content, str):
            self._take_text(Piece(section, text_of(content)), events)
        else:
            self._texts[section][-1].append(text_of(content))
            before = len(self._entries.found)
            for entry in entries_of(content):
                self._entries.add(entry.indexes, entry.text, relevant=entry.relevant)
            self._take_entries(self._entries.found[before:], events)
        if section == "evidence":
            self._take_entries(self._entries.end(), events)

    def _take_entries(self, entries: list[Evidence], events: list[Event]) -> None:
        for entry in entries:
            events.append(EvidenceFound(self._with_page(entry)))

    def _with_page(self, entry: Evidence) -> Evidence:
        if self.pages is None or not 1 <= entry.page_index <= len(self.pages):
            return entry
        return dataclasses.replace(entry, page=bare_page(self.pages[entry.page_index - 1]))

    def _answer(self) -> Answer:
        written: dict[Section, list[str]] = {}
        for name, sections in self._texts.items():
            written[name] = ["".join(pieces).strip() for pieces in sections]
        answers = [text for text in written["answer"] if text]
        text = answers[-1] if answers else ""  # a model that corrects itself writes the right answer last
        return Answer(
            text=text,
            sufficient=bool(text) and not says_insufficient(text) and not self._rests_on_nothing(text),
            evidence=tuple(map(self._with_page, self._entries.found)),
            thinking="\n\n".join(filter(None, written["think"])),
            observation="\n\n".join(filter(None, written["observe"])),
            pages=scored(self.pages or ()),
            problems=tuple(self._problems(written)),
            raw="".join(self._raw),
        )

    def _rests_on_nothing(self, text: str) -> bool:
        page_texts = [bare_page(page).text for page in self.pages or ()]
        return bool(page_texts) and rests_on_nothing(text, self._entries.found, page_texts)

    def _problems(self, written: dict[Section, list[str]]) -> list[str]:
        problems = []
        for name in SECTIONS:
            problems += _section_problems(name, written[name])
        opened = list(dict.fromkeys(self._order))  # each once, where it came first
        if opened != sorted(opened, key=SECTIONS.index):
            problems.append(f"the sections are out of order: {', '.join(opened)}")
        problems += self._tag_problems()
        if self._sections.count >= MAX_SECTIONS:
            problems.append(f"what comes after the first {MAX_SECTIONS} sections is left out")
        if self._splitter.cut_tag:
            problems.append(f"the text ends inside a tag: {printable(self._splitter.cut_tag)}")
        if self._splitter.spellings:
            spellings = ", ".join(f"{excerpt(tag)} for {plain}" for tag, plain in self._splitter.spellings.items())
            problems.append(f"tags are written differently: {spellings}")
        if self._untagged.problem:
            problems.append(self._untagged.problem)
        if outside := self._untagged.left.strip():
            problems.append(f"text outside the tags is left out: {excerpt(outside)}")
        if any(written["evidence"]):  # else it is enough that the section is missing or empty
            shown = None if self.pages is None else len(self.pages)
            problems += self._entries.problems(shown)
        return problems

    def _tag_problems(self) -> list[str]:
        """Tags and section ends that are not as they should be, each kind once with its number."""
        counts: Counter[str] = Counter()
        for mark, count in self._noted.items():
            counts[_in_words(mark)] += count  # </THINK> and </think> read alike
        problems = []
        for words, count in counts.items():
            if count > 1:
                words += f" (x{count})"
            problems.append(words)
        return problems


def _section_problems(name: Section, texts: list[str]) -> list[str]:
    """What is wrong with all the sections of one name; each should be there once, with something in it."""
    if not texts:
        return [f"<{name}> is missing"]
    problems = []
    if not any(texts):
        problems.append(f"<{name}> is empty")
    if len(texts) > 1:
        rule = "the last one stands" if name == "answer" else "they are joined"
        problems.append(f"<{name}> appears {len(texts)} times; {rule}")
    return problems


def _in_words(mark: StrayTag | Closed) -> str:
    """What is wrong where a section does not end as it should, or a tag stands where it should not."""
    if isinstance(mark, Closed):
        if mark.how == "unclosed":
            return f"<{mark.section}> is not closed"
        return f"the text ends inside <{mark.section}>: it was cut off, or </{mark.section}> was left out"
    if mark.inside is None:
        return f"the tag {mark.tag} closes nothing"
    return f"the tag {mark.tag} inside <{mark.inside}> is text there"


def parse_evidence(text: str, pages: Iterable[Page | ScoredPage] | None = None, *, cut_off: bool = False) -> Answer:
    """The answer that EVisRAG wrote, with its evidence by page; what is wrong goes into `problems`, in words.

    >>> answer = parse_evidence("<evidence>[1]: no relevant information [2]: total: 7</evidence><answer>7</answer>")
    >>> answer.text, [(entry.page_index, entry.text, entry.relevant) for entry in answer.evidence]
    ('7', [(1, 'no relevant information', False), (2, 'total: 7', True)])
    >>> answer.problems
    ('<observe> is missing', '<think> is missing')

    Args:
        text: What the model wrote; any string.
        pages: The pages it was shown, best first.
        cut_off: Whether the text ended at a token limit. A text without any tag is the answer, but not then.
    """
    shown = None if pages is None else list(pages)
    stream = EvidenceStream(shown)
    stream.feed(text)
    return stream.close(cut_off=cut_off)


def scored(pages: Sequence[Page | ScoredPage]) -> tuple[ScoredPage, ...]:
    """The pages as `ScoredPage`; one that was given without a score gets 0.0 of type "none"."""
    return tuple(map(_scored_page, pages))


def _scored_page(page: Page | ScoredPage) -> ScoredPage:
    return page if isinstance(page, ScoredPage) else ScoredPage(page, 0.0, "none")


def bare_page(page: Page | ScoredPage) -> Page:
    """The page itself, without its score."""
    return page.page if isinstance(page, ScoredPage) else page
