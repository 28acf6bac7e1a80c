"""Groups of responses that teach nothing, written anew to other prompts: RS-GRPO's filter."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from visrag_integrations.training.rollouts import Rollout, group_means, groups_to_replace, new_prompts

logger = logging.getLogger(__name__)


class GroupReplacing:
    """For `ScopedGRPOTrainer`: fills a step with groups that are worth it.

    Attributes:
        keep_groups: Groups are kept where the mean of their summed rewards is inside of these two; None keeps all.
        rounds: At most so many rounds of writing a step.
    """

    keep_groups: tuple[float, float] | None
    rounds: int
    accelerator: Any
    args: Any
    num_generations: int
    reward_weights: Tensor
    state: Any
    train_dataset: Any

    def _write_and_score(self, inputs: list[dict[str, Any]]) -> Rollout:
        raise NotImplementedError

    def _log(self, name: str, value: float) -> None:
        raise NotImplementedError

    def _replace_groups(self, rollout: Rollout) -> list[int]:
        """Write to new prompts in place of the groups that nothing can be learned from; gives those that are left."""
        dropped = self._groups_outside(rollout.rewards)
        first = len(dropped)
        rounds = 1
        size = self.num_generations
        seed = [self.args.seed, self.state.global_step]
        prompts = None
        while dropped and rounds < self.rounds:
            if prompts is None:
                prompts = new_prompts(self.train_dataset, self._all_prompts(rollout.inputs), seed)
            asked: dict[int, dict[str, Any]] = {}
            for group in dropped:
                row = next(prompts, None)
                if row is not None:
                    asked[group] = row
            if not asked:
                break  # every prompt of the data set was tried
            rounds += 1
            if self.accelerator.num_processes == 1:
                self._rewrite_here(rollout, asked)
            else:
                self._rewrite_everywhere(rollout, asked)
            dropped = self._groups_outside(rollout.rewards)
        total = len(rollout.rewards) // size
        self._log("groups_replaced", first - len(dropped))
        self._log("groups_dropped", len(dropped))
        self._log("generation_rounds", rounds)
        if dropped:
            logger.warning(
                "Step %d: %d of %d groups teach nothing after %d rounds and are left out.",
                self.state.global_step + 1,
                len(dropped),
                total,
                rounds,
            )
        return dropped

    def _rewrite_here(self, rollout: Rollout, asked: dict[int, dict[str, Any]]) -> None:
        """On the only device: write to the new prompts alone."""
        size = self.num_generations
        rows = [row for row in asked.values() for _ in range(size)]
        other = self._write_and_score(rows)
        good = set(range(len(asked))) - set(self._groups_outside(other.rewards))
        for number, group in enumerate(asked):
            if number in good:
                for each in range(size):
                    rollout.put(group * size + each, other, number * size + each)
                    rollout.rewards[group * size + each] = other.rewards[number * size + each]

    def _rewrite_everywhere(self, rollout: Rollout, asked: dict[int, dict[str, Any]]) -> None:
        """On several devices: each writes as much as before, because all gather together; what was good stays."""
        size, rank, count = self.num_generations, self.accelerator.process_index, len(rollout.inputs)
        rows = []
        for place in range(count):
            group = (rank * count + place) // size
            rows.append(asked.get(group, rollout.inputs[place]))
        other = self._write_and_score(rows)
        good = set(asked) - set(self._groups_outside(other.rewards))
        for place in range(count):
            if (rank * count + place) // size in good:
                rollout.put(place, other, place)
        for group in good:
            rollout.rewards[group * size : (group + 1) * size] = other.rewards[group * size : (group + 1) * size]

    def _groups_outside(self, rewards: Tensor) -> list[int]:
        assert self.keep_groups is not None
        means = group_means(rewards, self.reward_weights.to(rewards.device), self.num_generations)
        return groups_to_replace(means, self.keep_groups)

    def _all_prompts(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of all devices, by their prompts."""
        if self.accelerator.num_processes == 1:
            return inputs
        from accelerate.utils import gather_object

        gathered: list[dict[str, Any]] = gather_object([_without_pictures(row) for row in inputs])
        return gathered


def _without_pictures(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("image", "images")}
