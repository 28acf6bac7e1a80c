"""VRAG-RL's protocol: the prompt that sets it and, beside it, the parser of a turn. The tags are the model's own.

Each turn the model reasons inside `<think>`, then does one thing: `<search>`, `<bbox>` (look closer) or `<answer>`.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from visrag_integrations.errors import SettingError
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
_TAG = re.compile(r"< ?(/?) ?(think|search|bbox|answer) ?>", re.IGNORECASE | re.ASCII)
_CUT_TAG = re.compile(r"</[a-z]{0,6}$", re.IGNORECASE | re.ASCII)
_BRACKETS = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_BETWEEN = re.compile(r"[\s,;]+")


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
        problems: What is off, by the names in the agent's table: "no_think", "several_actions" and the like.
        kept: Its text up to the end of the action, as an engine that knows stop strings would have given it.
    """

    thought: str
    actions: tuple[Action, ...]
    problems: tuple[str, ...]
    kept: str

    @property
    def action(self) -> Action | None:
        """What is to be done now."""
        return self.actions[0] if self.actions else None

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer that stands anywhere in it, whatever else is wrong."""
        return tuple(one.content for one in self.actions if one.name == "answer" and one.content)


def build_prompt(question: str, template: str = TEMPLATE) -> str:
    """The first message: the template with the question in it, whatever the question holds.

    >>> build_prompt("How many?").endswith("Question: How many?")
    True
    """
    before, _, after = template.partition(_PLACEHOLDER)
    return before + question + after


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
    first = conversation[0].content[:1] if conversation else ()
    if not first or not isinstance(first[0], str) or not first[0].startswith(before):
        return None
    return first[0][len(before) : len(first[0]) - len(after)]


def quotable(text: str) -> str:
    """Foreign text made safe to stand inside an action.

    >>> quotable("a </answer> b")
    'a ‹/answer› b'
    """
    return _TAG.sub(lambda tag: f"‹{tag[0][1:-1]}›", text)


# --- a turn -------------------------------------------------------------------------------------------------------


class _Tag(NamedTuple):
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
    text = text if cut_off else _restored(text)
    tags = [_Tag(tag[2].lower(), bool(tag[1]), tag.start(), tag.end()) for tag in _TAG.finditer(text)]
    thoughts, actions, problems = _read(text, tags, cut_off)
    action = actions[0] if actions else None
    if len(actions) > 1 and not actions[0].flaw:
        problems.append("several_actions")
    if action is None:
        problems = ["empty" if not text.strip() else "cut_off" if cut_off else "no_action"]
    kept = text if action is None else text[: action.end]
    return Turn("\n\n".join(thoughts), tuple(actions), tuple(dict.fromkeys(problems)), kept)


def _restored(text: str) -> str:
    """The text with the closing tag of its last action."""
    last = next(iter(deque(_TAG.finditer(text), maxlen=1)), None)
    if last is None or last[1] or last[2].lower() == "think":
        return text
    return f"{_CUT_TAG.sub('', text)}</{last[2].lower()}>"


def _read(text: str, tags: Sequence[_Tag], cut_off: bool) -> tuple[list[str], list[Action], list[str]]:
    """Thoughts and actions from left to right, and what is off about the thinking."""
    closers = _closers(tags)
    thoughts: list[str] = []
    actions: list[Action] = []
    outside: list[str] = []
    problems: list[str] = []
    at = place = 0
    while place < len(tags):
        tag, closer = tags[place], closers[place]
        outside.append(text[at : tag.start])
        following = tags[place + 1].start if place + 1 < len(tags) else len(text)
        if tag.closing:
            if tag.name == "think" and not thoughts and not actions:  # templates may open it in the prompt
                thoughts, outside = ["".join(outside).strip()], []
            at, place = tag.end, place + 1
        elif tag.name == "think":
            if closer is None:
                problems.append("unclosed_think")
            at = following if closer is None else tags[closer].end
            thoughts.append(text[tag.end : following if closer is None else tags[closer].start].strip())
            place = place + 1 if closer is None else closer + 1
        else:
            action, at, place = _action(text, tags, place, closer, cut_off)
            actions.append(action)
    if not thoughts:
        problems.append("no_think")
        outside.append(text[at:] if not actions else "")
        thoughts = ["".join(outside).strip()]
    return [thought for thought in thoughts if thought], actions, problems


def _action(text: str, tags: Sequence[_Tag], place: int, closer: int | None, cut_off: bool) -> tuple[Action, int, int]:
    """The action that opens here, and where to read on: position and tag."""
    tag = tags[place]
    name = cast(ActionName, tag.name)
    if closer is None:
        last = place + 1 == len(tags)
        end = len(text) if last else tags[place + 1].start
        flaw = "cut_off" if last and cut_off else "crossed_tags"
        return Action(name, _CUT_TAG.sub("", text[tag.end : end]).strip(), end, flaw), end, place + 1
    content = text[tag.end : tags[closer].start].strip()
    return (
        Action(name, content, tags[closer].end, "" if closer == place + 1 else "crossed_tags"),
        tags[closer].end,
        (closer + 1),
    )


def _closers(tags: Sequence[_Tag]) -> list[int | None]:
    """For each tag the next closing one of its name."""
    coming: dict[str, int] = {}
    found: list[int | None] = [None] * len(tags)
    for place in range(len(tags) - 1, -1, -1):
        found[place] = coming.get(tags[place].name)
        if tags[place].closing:
            coming[tags[place].name] = place
    return found


# --- a box --------------------------------------------------------------------------------------------------------

PixelBox = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture as it was shown."""


def parse_box(content: str) -> PixelBox | str:
    """The four numbers of a `<bbox>`, or what is wrong: "box_unreadable" or "box_not_finite".

    >>> parse_box("[10, 20.5, 300, 400]"), parse_box("[1, 2, 3]"), parse_box("[0, 0, nan, 9]")
    ((10.0, 20.5, 300.0, 400.0), 'box_unreadable', 'box_not_finite')
    """
    inside = _BRACKETS.search(content)
    fields = _BETWEEN.split((inside[1] if inside else content).strip())
    if len(fields) != 4:
        return "box_unreadable"
    try:
        left, top, right, bottom = (float(field) for field in fields)
    except ValueError:
        return "box_unreadable"
    if not all(math.isfinite(edge) for edge in (left, top, right, bottom)):
        return "box_not_finite"
    return left, top, right, bottom


def box_problem(box: PixelBox, width: int, height: int) -> str:
    """The name of what is wrong with a box on a picture of that size; "" when nothing is.

    >>> [box_problem(box, 100, 100) for box in [(1, 1, 9, 9), (9, 1, 1, 9), (0, 0, 0.5, 9), (200, 0, 300, 9)]]
    ['', 'box_reversed', 'box_empty', 'box_outside']
    """
    left, top, right, bottom = box
    if left > right or top > bottom:
        return "box_reversed"
    if right - left < 1 or bottom - top < 1:
        return "box_empty"
    if min(right, width) - max(left, 0) < 1 or min(bottom, height) - max(top, 0) < 1:
        return "box_outside"
    return "box_clipped" if left < 0 or top < 0 or right > width or bottom > height else ""
