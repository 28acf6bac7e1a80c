"""One round of writing: prompts, what was written to them, and its rewards, row by row; which groups are worth a step.

A group is the responses to one prompt. Where all of them are as good as possible, or as bad, there is nothing to learn
from it: RS-GRPO keeps groups whose mean reward is inside a range and writes to new prompts in place of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

KEPT_MEANS = (0.01, 6.9)
"""Groups are kept whose mean is inside: published. Below, nobody wrote anything right; 7 is the highest sum."""
MOST_ROUNDS = 20
"""Rounds of writing for one step, the first among them: published."""


@dataclass
class Rollout:
    """What was written in one round, on this device; `rewards` of all devices.

    Attributes:
        inputs: The data set's row of every response.
        written: As TRL's `_generate` gives it: lists with an entry for every response, or None.
        rewards: `(all responses, K)`, those of the first device first.
        columns: What reward functions want in the log, by column.
    """

    inputs: list[dict[str, Any]]
    written: list[Any]
    rewards: Tensor
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def put(self, place: int, other: Rollout, other_place: int) -> None:
        """One response of another rollout in place of one of this; the rewards are the caller's to move."""
        count, other_count = len(self.inputs), len(other.inputs)
        self.inputs[place] = other.inputs[other_place]
        for number, others in enumerate(other.written):
            # What is the same for all rows (no pictures at all, no tools) is None, or an empty list.
            if not isinstance(others, list) or len(others) != other_count:
                continue
            if self.written[number] is None:
                self.written[number] = [None] * count
            self.written[number][place] = others[other_place]
        for column, cells in self.columns.items():
            if column in other.columns:
                cells[place] = other.columns[column][other_place]


def group_means(rewards: Tensor, weights: Tensor, group_size: int) -> Tensor:
    """The mean of the weighted sum of rewards, a group.

    Args:
        rewards: `(groups * group_size, K)`; NaN where a reward says nothing.
        weights: `(K,)`.
        group_size: Responses a prompt.

    Returns:
        `(groups,)`.
    """
    sums = (rewards * weights).nansum(dim=1)
    return sums.view(-1, group_size).mean(dim=1)


def groups_to_replace(means: Tensor, kept: tuple[float, float]) -> list[int]:
    """The groups whose mean is not inside the range.

    >>> import torch
    >>> groups_to_replace(torch.tensor([0.0, 3.5, 7.0]), (0.01, 6.9))
    [0, 2]
    """
    low, high = kept
    return [group for group, mean in enumerate(means.tolist()) if not low < mean < high]


def new_prompts(dataset: Any, used: Sequence[Mapping[str, Any]], seed: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of a data set in an order of their own, without those whose prompts are in use already.

    The order follows from the seed alone, so that all devices, and a run that goes on, draw the same.
    """
    known = {row_key(row) for row in used}
    order = np.random.default_rng(list(seed)).permutation(len(dataset))
    for number in order.tolist():
        row: dict[str, Any] = dataset[number]
        key = row_key(row)
        if key not in known:
            known.add(key)
            yield row


def row_key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells rows apart without opening their pictures: the prompt's text, and every text and number beside it."""
    others = []
    for name, value in sorted(row.items()):
        if isinstance(value, (str, int, float)):
            others.append(f"{name}={value}")
    return (prompt_text(row["prompt"]), *others)


def prompt_text(prompt: Any) -> str:
    """The text of a prompt, without its pictures.

    >>> prompt_text([{"role": "user", "content": [{"type": "text", "text": "How many?"}, {"type": "image"}]}])
    'How many?'
    """
    if isinstance(prompt, str):
        return prompt
    texts: list[str] = []
    for message in prompt:
        content = message.get("content") or ""
        if isinstance(content, str):
            texts.append(content)
            continue
        for part in content:
            if part.get("type") == "text":
                texts.append(part["text"])
    return "\n".join(texts)
