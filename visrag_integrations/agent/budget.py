"""What limits a run: turns, tokens, and what the generator takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visrag_integrations.agent.pictures import PictureRules
from visrag_integrations.agent.steps import Shown
from visrag_integrations.errors import SettingError
from visrag_integrations.generation.vrag import TEMPLATE, check_template
from visrag_integrations.interfaces.generators import context_length_of, max_images_of
from visrag_integrations.types import Conversation, Generation, Page, Usage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

ANSWER_TOKENS = 1024
"""Tokens of one turn unless the settings say otherwise: reasoning and one action.
A turn that is cut off is lost, one that may be long leaves less of the context for pictures."""
_NOTE = 100  # tokens of what the model is told beside a picture: a few sentences; nothing counts them exactly


@dataclass(frozen=True)
class Capacity:
    """What a generator takes in one conversation; None where it does not say."""

    max_images: int | None = None
    context_length: int | None = None


def capacity_of(generator: Generator) -> Capacity:
    """What a generator takes in one conversation, as far as it says."""
    return Capacity(max_images_of(generator), context_length_of(generator))


@dataclass(frozen=True)
class Rules:
    """What holds for every question of an agent.

    Attributes:
        max_turns: At most so many; before the last one the model is asked to answer.
        token_budget: At most about so many tokens read and written in all turns together.
        answer_tokens: At most so many are written in a turn.
        template: The prompt, with `{question}`.
        pictures: How pages become pictures.
    """

    max_turns: int = 10
    token_budget: int | None = None
    answer_tokens: int = ANSWER_TOKENS
    template: str = TEMPLATE
    pictures: PictureRules = field(default_factory=PictureRules)

    def __post_init__(self) -> None:
        for name in ("max_turns", "token_budget", "answer_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name} is {value}; it must be 1 or more.")
        check_template(self.template)


@dataclass
class Tokens:
    """Counts what the engine says it read and wrote, or estimates it where the engine says nothing."""

    spent: int = 0  # in all turns
    _turn: int = 0  # read and written in the last turn: what the next one has to read again
    _added: int = 0  # and beside it

    def count(self, conversation: Conversation, written: Generation) -> None:
        """A turn was written."""
        usage = written.usage or Usage(_estimate(conversation), len(written.text) // 4)
        self._turn = usage.input_tokens + usage.output_tokens
        self._added = 0
        self.spent += self._turn

    def add(self, shown: Shown | None, rules: Rules) -> None:
        """The model is shown or told something."""
        self._added = _NOTE
        if shown is not None:
            self._added += rules.pictures.grid.most

    def next_turn(self, rules: Rules) -> int:
        """What the next turn takes at most."""
        # Before the first turn nothing is known: a budget must not end a run that has not begun.
        if not self._turn:
            return 0
        return self._turn + self._added + rules.answer_tokens

    def turn_after(self, rules: Rules) -> int:
        """What the turn after it takes at most, with another picture."""
        if not self._turn:
            return 0
        return self.next_turn(rules) + rules.pictures.grid.most + _NOTE + rules.answer_tokens


def _estimate(conversation: Conversation) -> int:
    """Tokens of a conversation, roughly: four characters a token, 28 x 28 pixels a token."""
    total = 0
    for message in conversation:
        for part in message.content:
            text: Any = part
            picture: Any = part
            if isinstance(part, Page):
                text = part.text
                picture = part.picture
            # The agent shows opened pictures only; anything else is read as its text.
            if hasattr(picture, "width"):
                total += picture.width * picture.height // 28**2
            else:
                total += len(str(text)) // 4
    return total
