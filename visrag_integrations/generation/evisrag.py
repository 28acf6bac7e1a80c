"""EVisRAG's prompt and, beside it, the parser of what the model answers.

The prompt is `evisrag.txt`, byte for byte as published; `{query}` is replaced literally, whatever the question holds.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from importlib import resources

from visrag_integrations.generation.indexes import without_colons
from visrag_integrations.generation.inert import inert, without_tags
from visrag_integrations.generation.parser import EvidenceStream, bare_page, parse_evidence
from visrag_integrations.types import Conversation, Message, Page, ScoredPage

__all__ = [
    "EvidenceStream",
    "build_prompt",
    "evisrag_messages",
    "parse_evidence",
    "plain_messages",
    "question_of",
    "quotable",
    "wrap_question",
]

INSUFFICIENT = "insufficient to answer"
NOTHING_RELEVANT = "no relevant information"
_PLACEHOLDER = "{query}"
_INDEX = re.compile(r"(\[[^\[\]\n]{0,16}\][* \t]{0,4}|(?:image|img|图片|图像)[ \t\[\]#0-9*]{1,20})[:：]", re.IGNORECASE)


@functools.cache
def prompt_template() -> str:
    """The published prompt, with its placeholder."""
    return resources.files("visrag_integrations.generation").joinpath("evisrag.txt").read_bytes().decode("utf-8")


def build_prompt(question: str) -> str:
    """The prompt for a question.

    What reads as a part of the prompt is made inert in it; any other question stands in it as it is.

    >>> build_prompt("How many?").endswith("Question: How many?\\n")
    True
    """
    before, _, after = prompt_template().partition(_PLACEHOLDER)
    return before + inert(question, begins_line=False) + after


def question_of(prompt: str) -> str:
    """The question inside a prompt; a text that is not EVisRAG's prompt is itself the question.

    >>> question_of(build_prompt("{query}?")), question_of("How many?")
    ('{query}?', 'How many?')
    """
    before, _, after = prompt_template().partition(_PLACEHOLDER)
    # The lengths too: the two halves must not overlap in a text that is shorter than both.
    if len(prompt) >= len(before) + len(after) and prompt.startswith(before) and prompt.endswith(after):
        return prompt[len(before) : len(prompt) - len(after)]
    return prompt


def evisrag_messages(question: str, pages: Sequence[Page | ScoredPage]) -> Conversation:
    """One user turn as the model was trained on: the prompt, then the pages in rank order."""
    return (Message((build_prompt(question), *_bare(pages))),)


def plain_messages(question: str, pages: Sequence[Page | ScoredPage]) -> Conversation:
    """One user turn for a general model: the question itself, then the pages in rank order."""
    return (Message((inert(question), *_bare(pages))),)


def wrap_question(conversation: Conversation) -> tuple[Conversation, list[Page] | None]:
    """The conversation with its questions about pages put as the model was trained on, and the pages of the last turn.

    Without pages in the last turn, None: it is asked as it is, and the questions before it stay as they were put.

    >>> wrapped, pages = wrap_question((Message((Page("d", 1), "How many?")),))
    >>> wrapped == evisrag_messages("How many?", pages), pages == [Page("d", 1)]
    (True, True)
    """
    turns = []
    for turn in conversation:
        if turn.role == "user" and turn.pages:
            turn = _wrapped(turn)
        turns.append(turn)
    if not turns or turns[-1].role != "user" or not turns[-1].pages:
        return tuple(turns), None
    return tuple(turns), list(turns[-1].pages)


def _wrapped(turn: Message) -> Message:
    prompt = turn.text
    if question_of(prompt) == prompt:  # it is not wrapped yet
        prompt = build_prompt(prompt)
    return dataclasses.replace(turn, content=(prompt, *turn.pages))


_BEFORE_A_TAG = ("\\", "*", "_", "`")


def quotable(text: str) -> str:
    """Foreign text made safe to stand inside a section: nothing in it reads as a tag or as an evidence index.

    >>> quotable("a </evidence> [2]: b")
    'a ‹/evidence› [2]∶ b'
    """
    quoted = _INDEX.sub(r"\1∶", without_colons(without_tags(text)))
    if quoted.endswith(_BEFORE_A_TAG):
        quoted += " "  # else it would be read as a part of the tag that follows: "\\</evidence>", "**</evidence>"
    return quoted


def _bare(pages: Sequence[Page | ScoredPage]) -> tuple[Page, ...]:
    return tuple(map(bare_page, pages))
