"""`train_evidence`: a reader that records evidence before it answers, by EVisRAG's two stages."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.evaluation import EvaluationSet
from visrag_integrations.training.card import reader_card
from visrag_integrations.training.lazily import check_trl
from visrag_integrations.training.reader import ReaderNetwork, find_reader
from visrag_integrations.training.reader_arguments import merge_asked
from visrag_integrations.training.reader_checks import with_ground_truths
from visrag_integrations.training.reader_evaluation import BEST_BY, answer_held_out, check_questions
from visrag_integrations.training.reader_examples import ReaderExamples, open_examples
from visrag_integrations.training.reader_recipe import ReaderStage, recipe_of
from visrag_integrations.training.recipe import LoraRecipe
from visrag_integrations.training.report import TrainingReport
from visrag_integrations.training.rewards import EVISRAG_REWARDS, RewardSpec
from visrag_integrations.training.runs import RunFolder
from visrag_integrations.training.stage_run import StagePlan, begin_stage, lora_of, run_stage, said_values

if TYPE_CHECKING:
    from visrag_integrations.types import Page


@dataclass(frozen=True, kw_only=True)
class ReaderPlan(StagePlan):
    """Everything a run is: what `train_evidence` was asked, checked."""

    data: ReaderExamples
    rewards: tuple[RewardSpec, ...]

    @property
    def data_fingerprint(self) -> str:
        return self.data.fingerprint

    def own_numbers(self) -> dict[str, Any]:
        return {"rewards": self._rewards(), "published": self.published}

    def own_settings(self) -> dict[str, Any]:
        if self.stage != "rl":
            return {}
        return {"rewards": self._rewards(), "published": self.published}

    def _rewards(self) -> list[str]:
        if self.stage != "rl":
            return []
        return [f"{spec.name} x {spec.weight} on {spec.scope}" for spec in self.rewards]


def train_evidence(
    base: str | Path,
    examples: Any,
    output: str | Path,
    *,
    stage: ReaderStage = "sft",
    epochs: float | None = None,
    max_steps: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    save_steps: int | None = None,
    seed: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    rewards: Sequence[RewardSpec] = EVISRAG_REWARDS,
    published: bool = False,
    lora: bool | Mapping[str, Any] | LoraRecipe | None = None,
    evaluate: EvaluationSet | None = None,
    resume: str | bool | None = "auto",
    arguments: Any = None,
) -> TrainingReport:
    """Train a reader by EVisRAG's recipe: first on written answers (`sft`), then by rewards (`rl`).

    The defaults are the published values of the stage; None leaves a value at that. Under `torchrun` or `accelerate
    launch` all devices train together.

    Args:
        base: A Qwen2.5-VL checkpoint or one that was trained from it: a name or folder. For `rl`, the folder that
            `sft` gave.
        examples: A .jsonl or .json file, a folder of them, a list of these, or what `build_examples` gives; see
            docs/training.md for the layouts. Rows that are no good are left out and named in the report.
        output: The run's folder; its checkpoints are `output/checkpoint-STEP`.
        stage: "sft" or "rl".
        epochs: How often every example is seen.
        max_steps: So many steps instead.
        lr: The learning rate, at its highest.
        batch_size: Examples a step, over all devices; of `rl` prompts, each with `samples` responses.
        micro_batch: Sequences a device has in memory at once; changes memory and speed.
        save_steps: A checkpoint every so many steps, and an evaluation; the last step always.
        seed: Of the order of the examples, and of what is drawn.
        recipe: Other values of the stage's recipe by name, for example `{"samples": 4, "max_response": 512}`; see
            `SftRecipe` and `RlRecipe`.
        rewards: What `rl` rewards. `(*EVISRAG_REWARDS, SUPPORT_REWARD)` rewards evidence that stands on the page too.
        published: Rewards, scopes and loss exactly as in the published code, with its faults.
        lora: True trains small matrices beside the language model's weights (PEFT); a dict changes `r`, `alpha`,
            `dropout` or `target_modules`.
        evaluate: Held-out questions with pages and answers, asked at every checkpoint; the best one is kept.
        resume: "auto" goes on where this run was stopped, and gives the report of a finished one. None refuses a
            folder that holds a run.
        arguments: Anything else of transformers.TrainingArguments, for `rl` of trl.GRPOConfig: a dict or an object.

    Returns:
        The report; its `checkpoint` is the folder to load.

    Raises:
        SettingError: A value is not allowed, or `output` holds another run.
        CheckpointError: The base is no checkpoint.
        DatasetError: No example is any good.
        TrainingError: The loss is no number, a reward failed, memory does not suffice, or the disk is full.
        MissingExtraError: `rl` needs TRL, and TRL Python 3.11.
    """
    said = said_values(
        recipe,
        epochs=epochs,
        max_steps=max_steps,
        lr=lr,
        batch_size=batch_size,
        micro_batch=micro_batch,
        save_steps=save_steps,
        seed=seed,
    )
    chosen = recipe_of(stage, said)
    if stage == "rl":
        check_trl()
    chosen, asked = merge_asked(stage, chosen, arguments)
    held_out = None if evaluate is None else check_questions(evaluate)
    start = find_reader(base)
    opened = open_examples(examples)
    if stage == "rl":
        opened = with_ground_truths(opened, rewards)
    plan = ReaderPlan(
        base=start,
        data=opened,
        stage=stage,
        recipe=chosen,
        steps=chosen.steps(len(opened)),
        rewards=tuple(rewards),
        published=published,
        lora=lora_of(lora),
        evaluate=held_out,
        asked=asked,
    )
    return run_stage(plan, RunFolder(output), resume, make_trainer, begin)


def make_trainer(plan: ReaderPlan, reader: ReaderNetwork, examples: ReaderExamples, args: Any) -> Any:
    """The stage's trainer."""
    if plan.stage == "sft":
        from visrag_integrations.training.sft_trainer import SftTrainer

        return SftTrainer(reader, args, examples)
    from visrag_integrations.training.evidence_trainer import EvidenceTrainer

    @functools.lru_cache(maxsize=1024)
    def pages(number: int) -> list[Page]:
        from visrag_integrations.training.support import pages_with_words

        return pages_with_words(examples.rows[number])

    return EvidenceTrainer(reader, args, examples, plan.rewards, published=plan.published, pages=pages)


def begin(plan: ReaderPlan, run: RunFolder, reader: ReaderNetwork, trainer: Any, newest: Path | None) -> None:
    """Give the trainer its run: where it saves, what it evaluates with."""
    evaluate = None
    if plan.evaluate is not None:
        evaluate = functools.partial(answer_held_out, plan.evaluate, reader, plan.recipe.max_response)

    def card_of(scores: Mapping[str, float]) -> str:
        about = f"{plan.data.name}: {len(plan.data)} examples."
        return reader_card(plan.base, plan.stage, about, plan.settings(), scores, adapter=plan.lora is not None)

    begin_stage(plan, run, trainer, newest, best_by=BEST_BY, evaluate=evaluate, card_of=card_of)
