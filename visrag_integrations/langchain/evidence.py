"""Answers with evidence as standard message content: reasoning blocks, then text with a citation for each page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage

from visrag_integrations.generation.events import AnswerReady, Event, SectionStarted, SectionText
from visrag_integrations.generation.evisrag import EvidenceStream
from visrag_integrations.generation.refusals import says_insufficient
from visrag_integrations.grounding import ground, grounding_dict
from visrag_integrations.types import Answer, Evidence, Page

RAW = "evisrag"
"""The key in `additional_kwargs` that holds what the model wrote, tags and all."""


class Trimmed:
    """Text that comes in pieces, without the white space around it. White space that may be the end is held back.

    >>> trimmed = Trimmed()
    >>> [trimmed.feed(piece) for piece in (" a", " ", "b ")]
    ['a', '', ' b']
    """

    def __init__(self) -> None:
        self._held, self._begun = "", False

    def feed(self, piece: str) -> str:
        """The text that is certain now, and was not given before."""
        if not self._begun:
            piece = piece.lstrip()
        text = self._held + piece
        certain = text.rstrip()  # the white space after it may be the end: held back until more text comes
        self._held = text[len(certain) :]
        if certain:
            self._begun = True
        return certain


class EvidenceBlocks:
    """Turns what the model writes into content blocks, piece by piece; the pieces add up to `answer_blocks`.

    Pieces of one block have the same `index`, by which LangChain joins them:

        "<think>so it "     -> {"type": "reasoning", "reasoning": "so it", "index": 0}
        "is</think>"        -> {"type": "reasoning", "reasoning": " is", "index": 0}
        "<answer>12</an..." -> {"type": "text", "text": "12", "index": 1}

    Of several answers each is a block of its own here, as they were written; read as a whole, the last one stands.

    Args:
        pages: The pages the model was shown, in order.
    """

    def __init__(self, pages: Sequence[Page] = ()) -> None:
        self._reader = EvidenceStream(pages)
        self._section = Trimmed()
        self._index = -1
        self._block_begun = False
        self._answer_begun = False

    def feed(self, piece: str) -> list[dict[str, Any]]:
        """The blocks that this piece adds to."""
        return self._blocks(self._reader.feed(piece))

    def finish(self) -> list[dict[str, Any]]:
        """What was held back, and the citations."""
        *events, last = self._reader.finish()
        blocks = self._blocks(events)
        assert isinstance(last, AnswerReady)
        final = text_block(last.answer)
        if self._answer_begun:
            # The text has been given: what is joined to it now are its citations.
            final["text"] = ""
        else:
            self._index += 1
        return [*blocks, {**final, "index": self._index}]

    def _blocks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        blocks = []
        for event in events:
            # Evidence is no block: it comes with the citations. So it does not end the block before it.
            if isinstance(event, SectionStarted) and event.section != "evidence":
                self._section, self._block_begun = Trimmed(), False
            elif isinstance(event, SectionText):
                text = self._section.feed(event.text)
                if text:
                    blocks.append(self._block(event.section, text))
        return blocks

    def _block(self, section: str, text: str) -> dict[str, Any]:
        if not self._block_begun:
            self._block_begun = True
            self._index += 1
        if section != "answer":
            return {"type": "reasoning", "reasoning": text, "index": self._index}
        self._answer_begun = True
        return {"type": "text", "text": text, "index": self._index}


def answer_blocks(answer: Answer) -> list[dict[str, Any]]:
    """The answer as content blocks: observation and reasoning, then the text with its citations."""
    blocks = []
    for text in (answer.observation, answer.thinking):
        if text:
            blocks.append({"type": "reasoning", "reasoning": text})
    return [*blocks, text_block(answer)]


def text_block(answer: Answer) -> dict[str, Any]:
    """The answer's text, citing every page that has relevant evidence; the raw text where the model used no tags.

    A citation's `extras` say where its page is, what the verdict on the evidence is, and where on the page it stands.

    >>> page = Page("d1", 3, source="a.pdf")
    >>> text_block(Answer("12", evidence=(Evidence(1, "12 units", page=page),)))["annotations"][0]["title"]
    'a.pdf, page 3'
    """
    answer = ground(untagged(answer))  # finds each evidence on its page
    block: dict[str, Any] = {"type": "text", "text": answer.text}
    citations = [citation(entry, len(answer.text)) for entry in answer.evidence if entry.relevant]
    if citations:
        block["annotations"] = citations
    return block


def untagged(answer: Answer) -> Answer:
    """The answer; where the model used none of the tags, all it wrote is the answer's text."""
    if answer.text or answer.evidence or answer.thinking or answer.observation:
        return answer
    text = answer.raw.strip()
    return replace(answer, text=text, sufficient=bool(text) and not says_insufficient(text))


def citation(entry: Evidence, length: int) -> dict[str, Any]:
    """One evidence entry as a standard citation of the answer's text."""
    found: dict[str, Any] = {
        "type": "citation",
        "start_index": 0,  # the whole answer: the model does not say which words are from which page
        "end_index": length,
        "cited_text": entry.text,
        "extras": {"page_index": entry.page_index, **grounding_dict(entry)},
    }
    page = entry.page
    if page is None:
        return {**found, "title": f"image {entry.page_index}"}
    found["title"] = f"{page.source or page.doc_id}, page {page.number}"
    if page.source:
        found["url"] = f"{page.source}#page={page.number}"
    found["extras"] |= {"doc_id": page.doc_id, "number": page.number, "source": page.source}
    return found


def raw_text(message: BaseMessage) -> str:
    """What the model wrote: kept beside the content by ChatEVisRAG; of any other message its text."""
    raw = message.additional_kwargs.get(RAW)
    return raw if isinstance(raw, str) else str(message.text)
