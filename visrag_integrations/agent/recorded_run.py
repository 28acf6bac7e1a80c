"""What happened in a run, as a value: its steps, and what can be counted from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from visrag_integrations.agent.steps import Finish, Problem, Reason, Shown, Step, step_dict
from visrag_integrations.generation.vrag import TEMPLATE
from visrag_integrations.types import Answer, Generation, Usage


@dataclass(frozen=True, repr=False)
class RecordedRun:
    """One run, step by step.

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
        return f"{type(self).__name__}({self.question!r}, {len(self.turns)} turns, {self.reason}: {self.answer.text!r})"

    @property
    def answer(self) -> Answer:
        """The answer, with the pages that were shown; an empty one while the run goes on."""
        return self._finish.answer if self._finish is not None else Answer("", sufficient=False)

    @property
    def reason(self) -> Reason | None:
        """Why the run ended; None while it goes on."""
        return self._finish.reason if self._finish is not None else None

    @property
    def _finish(self) -> Finish | None:
        """The last step of a run that is over."""
        if self.steps and isinstance(self.steps[-1], Finish):
            return self.steps[-1]
        return None

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Every picture the model was shown, in order: pages and crops."""
        found: list[Shown] = []
        for step in self.steps:
            if not isinstance(step, Finish):  # which repeats all pages
                found += step.observation.shown
        return tuple(found)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was wrong with the model's turns, in order."""
        found: list[Problem] = []
        for step in self.steps:
            found += step.observation.problems
        return tuple(found)

    @property
    def problem_counts(self) -> Counter[str]:
        """How often each problem came up, by name."""
        return Counter(one.name for one in self.problems)

    @property
    def usage(self) -> Usage:
        """Tokens that went in and came out in all turns, as far as the engine said."""
        # Some engines say nothing about it.
        read = 0
        written = 0
        for turn in self.turns:
            if turn.usage is not None:
                read += turn.usage.input_tokens
                written += turn.usage.output_tokens
        return Usage(read, written)

    def to_dict(self) -> dict[str, Any]:
        """The run for programs, JSON-like, without pictures; `save` keeps those too."""
        answer = self.answer
        return {
            "question": self.question,
            "answer": answer.text,
            "sufficient": answer.sufficient,
            "reason": self.reason,
            "steps": list(map(step_dict, self.steps)),
            "problems": dict(self.problem_counts),
            "usage": {"input_tokens": self.usage.input_tokens, "output_tokens": self.usage.output_tokens},
        }
