"""Everything that happened in a run: to look at, to keep, to run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visrag_integrations.agent.steps import Finish, Problem, Reason, Shown, Step, step_dict
from visrag_integrations.errors import GenerationError
from visrag_integrations.generation.vrag import TEMPLATE
from visrag_integrations.types import Answer, Conversation, Generation, GenerationSettings, Usage


@dataclass(frozen=True, repr=False)
class Trace:
    """One run, step by step; in a notebook it draws itself.

    Attributes:
        question: What was asked.
        steps: What was thought and done, and what was shown for it, in order; the last one is a `Finish`.
        turns: What the generator wrote, one for each turn.
        template: The prompt that was used, with `{question}`.
    """

    question: str
    steps: tuple[Step, ...]
    turns: tuple[Generation, ...] = ()
    template: str = TEMPLATE

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __str__(self) -> str:
        """The answer's text."""
        return str(self.answer)

    def __repr__(self) -> str:
        return f"Trace({self.question!r}, {len(self.turns)} turns, {self.reason}: {self.answer.text!r})"

    @property
    def answer(self) -> Answer:
        """The answer, with the pages that were shown; an empty one while the run goes on."""
        last = self.steps[-1] if self.steps else None
        return last.answer if isinstance(last, Finish) else Answer("", sufficient=False)

    @property
    def reason(self) -> Reason | None:
        """Why the run ended; None while it goes on."""
        last = self.steps[-1] if self.steps else None
        return last.reason if isinstance(last, Finish) else None

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Every picture the model was shown, in order: pages and crops."""
        return tuple(shown for step in self.steps if not isinstance(step, Finish) for shown in step.observation.shown)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was wrong with the model's turns, in order."""
        return tuple(one for step in self.steps for one in step.observation.problems)

    @property
    def problem_counts(self) -> Counter[str]:
        """How often each problem came up, by name."""
        return Counter(one.name for one in self.problems)

    @property
    def usage(self) -> Usage:
        """Tokens that went in and came out in all turns, as far as the engine said."""
        known = [turn.usage for turn in self.turns if turn.usage is not None]
        return Usage(sum(one.input_tokens for one in known), sum(one.output_tokens for one in known))

    def to_dict(self) -> dict[str, Any]:
        """The run for programs, JSON-like, without pictures; `save` keeps those too."""
        answer = self.answer
        return {
            "question": self.question,
            "answer": answer.text,
            "sufficient": answer.sufficient,
            "reason": self.reason,
            "steps": [step_dict(step) for step in self.steps],
            "problems": dict(self.problem_counts),
            "usage": {"input_tokens": self.usage.input_tokens, "output_tokens": self.usage.output_tokens},
        }

    def generator(self) -> Recording:
        """A generator that writes what was written in this run, so that it can be run again without a model."""
        return Recording(self.turns)

    def save(self, folder: str | Path) -> Path:
        """Keep the run in a folder: `trace.json`, and every picture as the model saw it.

        What was in the folder under these names is replaced, as a whole. Pages of a run that is loaded again have the
        picture that was shown, not the one in the store.
        """
        from visrag_integrations.agent.storage import save_trace

        return save_trace(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Trace:
        """A run that was saved.

        Raises:
            TraceError: The folder holds none, or one of a newer version.
        """
        from visrag_integrations.agent.storage import load_trace

        return load_trace(Path(folder))

    def to_html(self) -> str:
        """The run as one self-contained HTML page: what was thought, the pages, and where it looked closer."""
        from visrag_integrations.agent.drawing import trace_page

        return trace_page(self)

    def _repr_html_(self) -> str:
        from visrag_integrations.agent.drawing import trace_fragment

        return trace_fragment(self)


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
        return [self._next(conversation) for conversation in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """The same in one piece."""
        yield self._next(conversation)

    def _next(self, conversation: Conversation) -> Generation:
        place = sum(message.role == "assistant" for message in conversation)
        if place >= len(self.turns):
            raise GenerationError(
                f"The recording has {len(self.turns)} turns, and turn {place + 1} is asked for: this run differs from "
                "the recorded one. Use the same pages, template and max_turns."
            )
        return self.turns[place]
