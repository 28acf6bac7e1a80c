"""`Recording`: a run's own turns as a generator, so that it can be run again without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visrag_integrations.errors import GenerationError
from visrag_integrations.types import Conversation, Generation, GenerationSettings


class Recording:
    """A generator that gives the turns of a run again: to the first turn of any conversation the first, and so on."""

    name = "recording"

    def __init__(self, turns: Sequence[Generation]) -> None:
        self.turns = tuple(turns)

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """The recorded turn that comes next in each conversation.

        Raises:
            GenerationError: There is no such turn.
        """
        return list(map(self._next, conversations))

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """The same in one piece."""
        yield self._next(conversation)

    def _next(self, conversation: Conversation) -> Generation:
        # So many turns of the model are in the conversation already.
        place = sum(message.role == "assistant" for message in conversation)
        if place >= len(self.turns):
            raise GenerationError(
                f"The recording has {len(self.turns)} turns, and turn {place + 1} is asked for: this run differs from "
                "the recorded one. Use the same pages, template and max_turns."
            )
        return self.turns[place]
