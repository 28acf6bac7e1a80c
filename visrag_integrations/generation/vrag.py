"""VRAG-RL's protocol: the prompt that sets it and, beside it, the parser of a turn. The tags are the model's own.

Each turn the model reasons inside `<think>`, then does one thing: `<search>`, `<bbox>` (look closer) or `<answer>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.inert import inert
from visrag_integrations.types import Conversation

ActionName = Literal["search", "bbox", "answer"]

STOP = ("</search>", "</bbox>", "</answer>")
"""Strings that end a turn; `parse_turn` puts back the one that an engine took away."""
ANSWER_NOW = "This is your last turn. Write the best answer you can give now: <answer> the answer </answer>"
"""What the model is told before its last turn."""
TEMPLATE = """\
Answer a question from the pages of documents. You see no page yet; you ask for pages one at a time.

Begin every turn with your reasoning inside <think> and </think>. Then do exactly one of these, and wait:
<search> what to look for </search> shows you the page that fits best of those you have not seen.
<bbox>[x1, y1, x2, y2]</bbox> shows you a part of the last picture larger, to read small print. The numbers are pixels \
of that picture: left, top, right, bottom.
<answer> the answer </answer> ends the task. Keep the answer short; if the pages do not hold it, write \
<answer> insufficient to answer </answer>.

Question: {question}"""
_PLACEHOLDER = "{question}"
# A blank inside the brackets is forgiven, as in "< /think >". So much and no more: "a < b" is no tag.
_TAG = re.compile(r"< ?(/?) ?(think|search|bbox|answer) ?>", re.IGNORECASE | re.ASCII)
_CUT_TAG = re.compile(r"</[a-z]{0,6}$", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Action:
    """What the model wants done.

    Attributes:
        name: "search", "bbox" or "answer".
        content: What stands inside the tags.
        end: Where its text ends in the turn.
        flaw: Why it cannot be read: "cut_off" or "crossed_tags"; "" when it can.
    """

    name: ActionName
    content: str
    end: int
    flaw: str = ""


@dataclass(frozen=True)
class Turn:
    """One turn of the model, read.

    Attributes:
        thought: What it reasoned.
        actions: What it wants done; the first is what counts.
        problems: What is wrong, by the names in the agent's table: "no_think", "several_actions" and the like.
        kept: Its text up to the end of the action, as an engine that knows stop strings would have given it.
    """

    thought: str
    actions: tuple[Action, ...]
    problems: tuple[str, ...]
    kept: str

    @property
    def action(self) -> Action | None:
        """What is to be done now."""
        if not self.actions:
            return None
        return self.actions[0]

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer that stands anywhere in it, whatever else is wrong."""
        return tuple(action.content for action in self.actions if action.name == "answer" and action.content)


def build_prompt(question: str, template: str = TEMPLATE) -> str:
    """The first message: the template with the question in it; what reads as a part of the prompt is made inert.

    >>> build_prompt("How many?").endswith("Question: How many?")
    True
    """
    before, _, after = template.partition(_PLACEHOLDER)
    return before + inert(question, begins_line=False) + after


def check_template(template: str) -> str:
    """The template, if a question has a place in it.

    Raises:
        SettingError: It has none.
    """
    if _PLACEHOLDER not in template:
        raise SettingError(
            f"The template has no {_PLACEHOLDER}; that is where the question goes. It begins with {template[:60]!r}."
        )
    return template


def question_of(conversation: Conversation) -> str | None:
    """The question of a conversation that began with `build_prompt` and the template of this module.

    >>> from visrag_integrations.types import Message
    >>> question_of((Message((build_prompt("{question}?"),)),)), question_of((Message(("How many?",)),))
    ('{question}?', None)
    """
    before, _, after = TEMPLATE.partition(_PLACEHOLDER)
    if not conversation or not conversation[0].content:
        return None
    first = conversation[0].content[0]
    if not isinstance(first, str) or not first.startswith(before):
        return None
    return first[len(before) : len(first) - len(after)]


def quotable(text: str) -> str:
    """Foreign text made safe to stand inside an action.

    >>> quotable("a </answer> b")
    'a ‹/answer› b'
    """
    return _TAG.sub(lambda tag: f"‹{tag[0][1:-1]}›", text)


class _TurnTag(NamedTuple):
    name: str
    closing: bool
    start: int
    end: int


def parse_turn(text: str, *, cut_off: bool = False) -> Turn:
    """What the model thought and wants done; any text can be read.

    Args:
        text: What it wrote. A closing tag that a stop string took away is put back.
        cut_off: Whether the text ended at a token limit.

    >>> turn = parse_turn("<think>Look.</think><search> total cost")
    >>> turn.thought, turn.action.name, turn.action.content, turn.problems
    ('Look.', 'search', 'total cost', ())
    """
    if not cut_off:
        text = _restored(text)
    reader = _TurnReader(text, cut_off)
    reader.read()
    thought = "\n\n".join(filter(None, reader.thoughts))
    actions = tuple(reader.actions)
    if actions:
        if len(actions) > 1 and not actions[0].flaw:
            reader.problems.append("several_actions")
        return Turn(thought, actions, tuple(dict.fromkeys(reader.problems)), kept=text[: actions[0].end])
    if not text.strip():
        problem = "empty"
    elif cut_off:
        problem = "cut_off"
    else:
        problem = "no_action"
    return Turn(thought, actions, (problem,), kept=text)


def _restored(text: str) -> str:
    """The text with the closing tag of its last action."""
    last = None
    for match in _TAG.finditer(text):
        last = match
    if last is None or last[1] or last[2].lower() == "think":
        return text
    return f"{_CUT_TAG.sub('', text)}</{last[2].lower()}>"


class _TurnReader:
    """Reads thoughts and actions from left to right, and notes what is wrong with the thinking."""

    def __init__(self, text: str, cut_off: bool) -> None:
        self.thoughts: list[str] = []
        self.actions: list[Action] = []
        self.problems: list[str] = []
        self._text = text
        self._cut_off = cut_off
        self._tags: list[_TurnTag] = []
        for match in _TAG.finditer(text):
            self._tags.append(_TurnTag(match[2].lower(), bool(match[1]), match.start(), match.end()))
        self._closers = _closers(self._tags)
        self._outside: list[str] = []  # text outside all tags, for a turn whose thought stands in none
        self._at = 0  # what is before this character is read
        self._place = 0  # what is before this tag is read

    def read(self) -> None:
        while self._place < len(self._tags):
            tag = self._tags[self._place]
            self._outside.append(self._text[self._at : tag.start])
            if tag.closing:
                # "</think>" without its opening one: a chat template may write that into the prompt.
                if tag.name == "think" and not self.thoughts and not self.actions:
                    self.thoughts = ["".join(self._outside).strip()]
                self._go_on(tag.end, self._place + 1)
            elif tag.name == "think":
                self._read_thought(tag)
            else:
                self._read_action(tag)
        if not self.thoughts:
            self.problems.append("no_think")
            if not self.actions:
                self._outside.append(self._text[self._at :])
            self.thoughts = ["".join(self._outside).strip()]

    def _read_thought(self, tag: _TurnTag) -> None:
        closer = self._closers[self._place]
        if closer is None:
            self.problems.append("unclosed_think")
            end = self._next_start()
            self._go_on(end, self._place + 1)
        else:
            end = self._tags[closer].start
            self._go_on(self._tags[closer].end, closer + 1)
        self.thoughts.append(self._text[tag.end : end].strip())

    def _read_action(self, tag: _TurnTag) -> None:
        closer = self._closers[self._place]
        name = cast(ActionName, tag.name)
        if closer is None:
            flaw = "crossed_tags"
            if self._cut_off and self._place + 1 == len(self._tags):
                flaw = "cut_off"
            end = self._next_start()
            content = _CUT_TAG.sub("", self._text[tag.end : end])
            self._go_on(end, self._place + 1)
        else:
            flaw = "crossed_tags" if closer > self._place + 1 else ""  # other tags stand inside
            end = self._tags[closer].end
            content = self._text[tag.end : self._tags[closer].start]
            self._go_on(end, closer + 1)
        self.actions.append(Action(name, content.strip(), end, flaw))

    def _next_start(self) -> int:
        """Where the next tag begins, or the text ends."""
        if self._place + 1 == len(self._tags):
            return len(self._text)
        return self._tags[self._place + 1].start

    def _go_on(self, at: int, place: int) -> None:
        self._at = at
        self._place = place


def _closers(tags: Sequence[_TurnTag]) -> list[int | None]:
    """For each tag the next closing one of its name, found from the end so that it takes linear time."""
    coming: dict[str, int] = {}
    found: list[int | None] = [None] * len(tags)
    for place in range(len(tags) - 1, -1, -1):
        found[place] = coming.get(tags[place].name)
        if tags[place].closing:
            coming[tags[place].name] = place
    return found
