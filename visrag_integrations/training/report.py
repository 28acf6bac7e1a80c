"""`TrainingReport`: what a run did, in numbers, also as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from visrag_integrations.errors import CheckpointError

SKIPPED_SHOWN = 100
"""Rows that were left out, in the report; all are counted."""


@dataclass(frozen=True)
class TrainingReport:
    """A finished run.

    Attributes:
        base: What it started from.
        data: What it was trained on.
        checkpoint: The folder to load: the best by `evaluate`, else the last.
        steps: Steps of the run.
        best_step: The step of `checkpoint`.
        losses: (step, loss), as they were logged.
        scores: (step, metric -> value) of every evaluation.
        pages: Pages that went through the network, hard negatives too; each counted once a step.
        skipped: Rows that were left out, and why.
        skipped_pages: How many rows that are.
        seconds: How long training took, all parts of a run that was stopped together.
        resumed: How often the run was stopped and went on.
        settings: The recipe.
        history: What each step logged beside its loss: of reinforcement learning the mean and deviation of every
            reward, lengths, groups left out.
    """

    base: str
    data: str
    checkpoint: str
    steps: int
    best_step: int
    losses: tuple[tuple[int, float], ...] = field(repr=False)
    scores: tuple[tuple[int, dict[str, float]], ...]
    pages: int
    skipped: Mapping[str, str] = field(repr=False)
    skipped_pages: int
    seconds: float
    resumed: int
    settings: Mapping[str, Any] = field(repr=False)
    history: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def pages_per_second(self) -> float:
        """Pages trained on a second, evaluation and saving included."""
        if not self.seconds:
            return 0.0
        return self.pages / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """JSON-like; `checkpoint` relative to the run's folder."""
        values = asdict(self)
        values["checkpoint"] = Path(self.checkpoint).name
        return values | {"pages_per_second": self.pages_per_second}

    def to_json(self) -> str:
        """As `report.json` in the run's folder holds it."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> TrainingReport:
        """The report in a run's folder.

        Raises:
            CheckpointError: It cannot be read.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values.pop("pages_per_second")  # follows from the others
            values["checkpoint"] = str(path.parent / values["checkpoint"])
            values["losses"] = tuple((step, loss) for step, loss in values["losses"])
            values["scores"] = tuple((step, scores) for step, scores in values["scores"])
            values["history"] = tuple(values.get("history", ()))
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise CheckpointError(
                f"{path} is no report of a training run: {err!r}. Train into another folder."
            ) from err
