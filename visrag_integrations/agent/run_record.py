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
class RunRecord:
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
