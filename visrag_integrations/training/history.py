"""What a run has logged, read back: losses, scores, and which checkpoint is the best one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

EVALUATION = "eval_"  # what the Trainer puts before the names of an evaluation's metrics

Scores = list[tuple[int, dict[str, float]]]
"""(step, metric -> value) of every evaluation."""


def logged_losses(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(step, loss) of every step that was logged.

    >>> logged_losses([{"step": 1, "loss": 4.1}, {"step": 1, "eval_mrr@10": 0.2}])
    [(1, 4.1)]
    """
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def logged_scores(history: Sequence[Mapping[str, Any]]) -> Scores:
    """Every evaluation.

    >>> logged_scores([{"step": 1, "loss": 4.1}, {"step": 1, "eval_mrr@10": 0.2, "epoch": 0.5}])
    [(1, {'mrr@10': 0.2})]
    """
    scores: Scores = []
    for entry in history:
        found: dict[str, float] = {}
        for name, value in entry.items():
            if name.startswith(EVALUATION):
                found[name.removeprefix(EVALUATION)] = value
        if found:
            scores.append((entry["step"], found))
    return scores


def best_of(scores: Scores, metric: str, saved: Collection[int]) -> int | None:
    """The saved step with the best value; of equally good ones the first. None where none was evaluated.

    >>> best_of([(1, {"mrr@10": 0.2}), (2, {"mrr@10": 0.5}), (3, {"mrr@10": 0.5})], "mrr@10", [2, 3])
    2
    """
    best_step: int | None = None
    best_value = float("-inf")
    for step, values in scores:
        # A step may have been evaluated and not saved: then there is nothing to load.
        if step in saved and values.get(metric, best_value) > best_value:
            best_step, best_value = step, values[metric]
    return best_step
