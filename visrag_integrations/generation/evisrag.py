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
from visrag_integrations.types import Conversation, Message, Page, PageText, ScoredPage

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
_PICTURE = "<image>"
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

    UltraRAG's wording of the prompt is recognised too, with or without its marks of pictures.

    >>> question_of(build_prompt("{query}?")), question_of("How many?")
    ('{query}?', 'How many?')
    """
    if is_published_prompt(prompt):
        before, _, after = prompt_template().partition(_PLACEHOLDER)
        return prompt[len(before) : len(prompt) - len(after)]
    reworded = _read_other_wording(prompt)
    if reworded is not None:
        return reworded[0]
    return prompt


def is_published_prompt(prompt: str) -> bool:
    """Whether this is the published prompt around a question, byte for byte."""
    before, _, after = prompt_template().partition(_PLACEHOLDER)
    # The lengths too: the two halves must not overlap in a text that is shorter than both.
    return len(prompt) >= len(before) + len(after) and prompt.startswith(before) and prompt.endswith(after)


def pictures_marked(prompt: str) -> int | None:
    """How many pictures the marks below the question stand for; None where this is not UltraRAG's wording.

    >>> pictures_marked(build_prompt("How many?") + "<image><image>")
    2
    """
    reworded = _read_other_wording(prompt)
    if reworded is None:
        return None
    return reworded[1]


def _read_other_wording(prompt: str) -> tuple[str, int] | None:
    """The question and the number of marks in UltraRAG's wording: the published lines without the blank ones.

    Published:  "...</observe> tags.\\n\\nStep 2: ...\\nQuestion: How many?\\n"
    UltraRAG's: "...</observe> tags.\\nStep 2: ...\\nQuestion: How many?\\n<image><image>"

    Blank lines and spaces at the ends of lines are free: a template that an editor has tidied up is the same prompt.
    """
    *instructions, heading = _instructions()  # the heading of the question is no line of its own
    lines = prompt.split("\n")
    place = 0
    for instruction in instructions:
        while place < len(lines) and not lines[place].strip():
            place += 1
        if place == len(lines) or lines[place].strip() != instruction:
            return None
        place += 1
    rest = "\n".join(lines[place:]).strip()
    if not rest.startswith(heading):
        return None
    asked = rest[len(heading) :].split("\n")
    marks = 0
    # Marks stand on lines of their own: one at the end of the question's line is a part of the question.
    while len(asked) > 1 and not asked[-1].replace(_PICTURE, "").strip():
        marks += asked.pop().count(_PICTURE)
    return "\n".join(asked).strip(), marks


@functools.cache
def _instructions() -> tuple[str, ...]:
    """The published lines before the question, without the blank ones; the last is what stands before it."""
    before, _, _ = prompt_template().partition(_PLACEHOLDER)
    lines = []
    for line in before.split("\n"):
        if line.strip():
            lines.append(line.strip())
    return tuple(lines)


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
    if not is_published_prompt(prompt):  # not wrapped yet, or in another wording than the model was trained on
        prompt = build_prompt(question_of(prompt))
    shown = [part for part in turn.content if isinstance(part, (Page, PageText))]
    return dataclasses.replace(turn, content=(prompt, *shown))


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
