"""`train_evidence`: a reader that records evidence before it answers, by EVisRAG's two stages."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import Tensor
from transformers import set_seed

from visrag_integrations.evaluation import EvaluationSet
from visrag_integrations.files import write_whole
from visrag_integrations.training.bases import Base
from visrag_integrations.training.card import reader_card
from visrag_integrations.training.lazily import check_trl
from visrag_integrations.training.losses import world_size
from visrag_integrations.training.reader import ReaderNetwork, find_reader, load_reader
from visrag_integrations.training.reader_arguments import OWN, merge_asked, reader_arguments
from visrag_integrations.training.reader_checks import fitting, with_ground_truths
from visrag_integrations.training.reader_evaluation import BEST_BY, answer_held_out, check_questions
from visrag_integrations.training.reader_examples import ReaderExamples, open_examples
from visrag_integrations.training.reader_recipe import ReaderStage, Recipe, recipe_of
from visrag_integrations.training.reader_saving import load_reader_state, save_reader
from visrag_integrations.training.recipe import HARMLESS, LoraRecipe
from visrag_integrations.training.report import TrainingReport
from visrag_integrations.training.rewards import EVISRAG_REWARDS, RewardSpec
from visrag_integrations.training.runs import RunFolder, read_complete

if TYPE_CHECKING:
    from visrag_integrations.types import Page

SKIPPED_SHOWN = 100  # rows that were left out, in the report; all are counted
NO_NUMBERS = ("micro_batch", "save_steps", "keep_checkpoints", "epochs", "max_steps")
"""Values of a recipe that a run may be continued with in another value."""


@dataclass(frozen=True)
class ReaderPlan:
    """Everything a run is: what `train_evidence` was asked, checked."""

    base: Base
    examples: ReaderExamples
    stage: ReaderStage
    recipe: Recipe
    steps: int
    rewards: tuple[RewardSpec, ...]
    published: bool
    lora: LoraRecipe | None
    evaluate: EvaluationSet | None
    asked: Mapping[str, Any]

    def started_with(self) -> dict[str, Any]:
        """What must be the same for a run to go on. Not what changes no number: memory, logging, how often it saves."""
        numbers = dataclasses.asdict(self.recipe)
        for name in NO_NUMBERS:
            numbers.pop(name)
        others: dict[str, str] = {}
        for name, value in sorted(self.asked.items()):
            if name not in HARMLESS and name not in OWN:
                others[name] = str(value)
        return {
            "stage": self.stage,
            "base": self.base.fingerprint,
            "data": self.examples.fingerprint,
            "steps": self.steps,
            **numbers,
            "rewards": self._rewards(),
            "published": self.published,
            "lora": None if self.lora is None else dataclasses.asdict(self.lora),
            "arguments": others,
        }

    def settings(self) -> dict[str, Any]:
        """For the report and the model card."""
        settings = {"stage": self.stage, **dataclasses.asdict(self.recipe), "steps": self.steps}
        if self.stage == "rl":
            settings |= {"rewards": self._rewards(), "published": self.published}
        if self.lora is not None:
            settings["lora"] = {**dataclasses.asdict(self.lora), "target_modules": list(self.lora.target_modules)}
        return settings

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
    named = {"epochs": epochs, "max_steps": max_steps, "lr": lr, "batch_size": batch_size, "micro_batch": micro_batch}
    said = {**(recipe or {}), **{name: value for name, value in named.items() if value is not None}}
    said |= {name: value for name, value in (("save_steps", save_steps), ("seed", seed)) if value is not None}
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
        start,
        opened,
        stage,
        chosen,
        chosen.steps(len(opened)),
        tuple(rewards),
        published,
        _lora_of(lora),
        held_out,
        asked,
    )
    return _run(plan, RunFolder(output), resume)


def _lora_of(lora: Any) -> LoraRecipe | None:
    # Without dropout: responses are written without, and would be learned from by another network.
    if lora is True:
        return LoraRecipe(dropout=0.0)
    if isinstance(lora, Mapping):
        lora = {"dropout": 0.0, **lora}
    return LoraRecipe.of(lora)


def _run(plan: ReaderPlan, run: RunFolder, resume: str | bool | None) -> TrainingReport:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    args = reader_arguments(run.path, plan.recipe, plan.steps, plan.asked, world)
    # The process group exists from here on, where there are several devices.
    if args.process_index == 0:
        run.prepare(plan.started_with(), resume)
    if world_size() > 1:
        dist.barrier()
    # Finished: nothing heavy has been loaded yet.
    if run.report.is_file():
        return TrainingReport.read(run.report)
    # The weights come from the checkpoint, read strictly; the Trainer then adds optimizer, schedule and random state.
    newest = run.newest()
    set_seed(plan.recipe.seed)  # of LoRA's first values
    reader = load_reader(plan.base, plan.recipe, plan.lora, newest, str(args.device))
    if newest is not None:
        load_reader_state(reader.model, newest, plan.lora)
    examples = fitting(plan.examples, reader, answered=plan.stage == "sft")
    trainer = make_trainer(plan, reader, examples, args)
    begin(plan, run, reader, trainer, newest)
    trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    report = _report(plan, run, trainer, examples)
    if args.process_index == 0:
        write_whole(run.report, report.to_json().encode("utf-8"))
    return report


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

    def save(folder: Path, state: Mapping[str, Tensor]) -> None:
        save_reader(plan.base, folder, trainer.accelerator.unwrap_model(trainer.model), state, plan.lora)
        # Evaluated just before: the Trainer saves after it has looked.
        scores = trainer.scores()
        last = scores[-1][1] if scores else {}
        data = f"{plan.examples.name}: {len(plan.examples)} examples."
        card = reader_card(plan.base, plan.stage, data, plan.settings(), last, adapter=plan.lora is not None)
        (folder / "README.md").write_text(card, encoding="utf-8")

    trainer.begin_run(
        run,
        save,
        best_by=BEST_BY,
        evaluate=evaluate,
        evaluate_every=plan.recipe.save_steps,
        before=None if newest is None else read_complete(newest),
    )


def _report(plan: ReaderPlan, run: RunFolder, trainer: Any, examples: ReaderExamples) -> TrainingReport:
    best = trainer.best_saved() or run.steps()[-1]
    return TrainingReport(
        base=plan.base.name,
        data=plan.examples.name,
        checkpoint=str(run.checkpoint(best)),
        steps=plan.steps,
        best_step=best,
        losses=tuple(trainer.losses()),
        scores=tuple(trainer.scores()),
        pages=trainer.pages * world_size(),  # each device counts its own, and all have equally many rows
        skipped=dict(list(examples.broken.items())[:SKIPPED_SHOWN]),
        skipped_pages=len(examples.broken),
        seconds=trainer.seconds,
        resumed=trainer.resumed,
        settings=plan.settings(),
        history=tuple(trainer.state.log_history) if plan.stage == "rl" else (),
    )
