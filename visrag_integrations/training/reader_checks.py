"""Which examples can be trained on; the others are named, and left out."""

from __future__ import annotations

from collections.abc import Sequence

from visrag_integrations.errors import DatasetError
from visrag_integrations.training.reader import ReaderNetwork
from visrag_integrations.training.reader_examples import ReaderExamples
from visrag_integrations.training.rewards import RewardSpec, answer_reward, evidence_reward


def with_ground_truths(examples: ReaderExamples, rewards: Sequence[RewardSpec]) -> ReaderExamples:
    """The examples whose ground truth has the tags that the rewards read; the others are broken.

    Raises:
        DatasetError: None has them.
    """
    needed = {spec.name for spec in rewards if spec.function is None}
    good = []
    broken = dict(examples.broken)
    for row in examples.rows:
        try:
            if "accuracy" in needed:
                answer_reward("", row.truth)
            if "evidence" in needed:
                evidence_reward("", row.truth)
        except DatasetError as err:
            broken[row.where] = err.reason
            continue
        good.append(row)
    return _some(ReaderExamples(examples.name, tuple(good), broken))


def fitting(examples: ReaderExamples, reader: ReaderNetwork, *, answered: bool) -> ReaderExamples:
    """The examples that fit the network; the others are broken.

    Raises:
        DatasetError: None fits.
    """
    good = []
    broken = dict(examples.broken)
    for row in examples.rows:
        try:
            reader.check(row, answered=answered)
        except DatasetError as err:
            broken[row.where] = err.reason
            continue
        good.append(row)
    return _some(ReaderExamples(examples.name, tuple(good), broken))


def _some(examples: ReaderExamples) -> ReaderExamples:
    if not examples.rows:
        where, reason = next(iter(examples.broken.items()))
        raise DatasetError(examples.name, f"no row of it is any good. The first: {where}: {reason}")
    return examples
