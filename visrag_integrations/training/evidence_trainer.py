"""The trainer of a reader's second stage: EVisRAG's rewards. Needs TRL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from torch import Tensor

from visrag_integrations.training.reader import ReaderNetwork
from visrag_integrations.training.reader_examples import ReaderExamples
from visrag_integrations.training.reader_recipe import RlRecipe
from visrag_integrations.training.reward_calls import Pages, completion_text, reward_call
from visrag_integrations.training.rewards import RewardSpec
from visrag_integrations.training.rollouts import Rollout, prompt_text
from visrag_integrations.training.run_trainer import RunTrainer
from visrag_integrations.training.scoped_trainer import ScopedGRPOTrainer
from visrag_integrations.training.trl_names import GENERATED


class EvidenceTrainer(RunTrainer, ScopedGRPOTrainer):
    """Reinforcement learning by EVisRAG's rewards.

    Args:
        reader: What is trained.
        args: TRL's settings.
        examples: Prompts with their ground truths.
        rewards: What is rewarded.
        published: Rewards, scopes and loss exactly as published.
        pages: The pages of a row, for the reward that looks at them.
    """

    def __init__(
        self,
        reader: ReaderNetwork,
        args: Any,
        examples: ReaderExamples,
        rewards: Sequence[RewardSpec],
        *,
        published: bool,
        pages: Pages,
    ) -> None:
        self.reader, self.examples = reader, examples
        recipe = reader.recipe
        assert isinstance(recipe, RlRecipe)
        calls = []
        for spec in rewards:
            calls.append(reward_call(spec, longest=recipe.max_response, published=published, pages=pages))
        args.reward_weights = [spec.weight for spec in rewards]
        super().__init__(
            reader.model,
            calls,
            args,
            _light_rows(reader, examples),
            processing_class=reader.processor,
            scopes=[spec.scope for spec in rewards],
            keep_groups=(recipe.keep_above, recipe.keep_below),
            rounds=recipe.rounds,
            published=published,
        )

    def open_rows(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """With the pictures; those of a row are opened once for all of its responses."""
        opened: dict[int, list[Any]] = {}
        rows = []
        for row in inputs:
            number = int(row["row"])
            if number not in opened:
                opened[number] = self.reader.open_pictures(self.examples.rows[number])
            rows.append({**row, "images": opened[number]} if opened[number] else row)
        return rows

    def _scoped(self, rollout: Rollout, dropped: Sequence[int], training: bool) -> dict[str, Tensor]:
        if training:
            self._note_first(rollout)
        return super()._scoped(rollout, dropped, training)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self.pages += sum(inputs.get("num_images") or ())
        return super()._compute_loss(model, inputs)

    def _note_first(self, rollout: Rollout) -> None:
        """The first response of the step, as text, with its rewards: what a run is mended by."""
        first = rollout.rewards[0].tolist()
        self.note_sample(
            {
                "prompt": prompt_text(rollout.inputs[0]["prompt"]),
                "truth": rollout.inputs[0]["answer"],
                "response": completion_text(rollout.written[GENERATED.index("completions")][0]),
                "rewards": dict(zip(self.reward_func_names, first, strict=True)),
            }
        )


def _light_rows(reader: ReaderNetwork, examples: ReaderExamples) -> Any:
    """Rows without pictures: TRL asks for every one of them once a micro-batch, and uses the first."""
    rows = Dataset.from_dict({"row": list(range(len(examples)))})
    return rows.with_transform(partial(_as_prompts, reader, examples))


def _as_prompts(reader: ReaderNetwork, examples: ReaderExamples, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
    numbers = batch["row"]
    return {
        "row": numbers,
        "prompt": [reader.messages(examples.rows[number]) for number in numbers],
        "answer": [examples.rows[number].truth for number in numbers],
    }
