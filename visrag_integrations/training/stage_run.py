"""A run of one of two stages: what the readers' and the agent's have in common, from what was asked to the report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import set_seed

from visrag_integrations.evaluation import EvaluationSet
from visrag_integrations.files import write_whole
from visrag_integrations.training.bases import Base
from visrag_integrations.training.losses import world_size
from visrag_integrations.training.reader import ReaderNetwork, load_reader
from visrag_integrations.training.reader_arguments import OWN, reader_arguments
from visrag_integrations.training.reader_checks import fitting
from visrag_integrations.training.reader_examples import ReaderExamples
from visrag_integrations.training.reader_recipe import ReaderStage
from visrag_integrations.training.reader_saving import load_reader_state, save_reader
from visrag_integrations.training.recipe import HARMLESS, LoraRecipe
from visrag_integrations.training.report import SKIPPED_SHOWN, TrainingReport
from visrag_integrations.training.run_trainer import open_run
from visrag_integrations.training.runs import RunFolder, read_complete

_NO_NUMBERS = ("micro_batch", "save_steps", "keep_checkpoints", "epochs", "max_steps")
"""Values of a recipe that a run may be continued with in another value."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """Everything a run is: what was asked, checked. Its methods that give nothing are for the plans made of it.

    `data` are examples to learn from, or the questions of an agent.
    """

    base: Base
    data: ReaderExamples | EvaluationSet
    stage: ReaderStage
    recipe: Any
    steps: int
    published: bool
    lora: LoraRecipe | None
    evaluate: EvaluationSet | None
    asked: Mapping[str, Any]

    @property
    def data_fingerprint(self) -> str:
        """Tells what is trained on from other data."""
        raise NotImplementedError

    def own_numbers(self) -> dict[str, Any]:
        """What else must be the same for a run to go on."""
        return {}

    def own_settings(self) -> dict[str, Any]:
        """What else the report and the model card say."""
        return {}

    def started_with(self) -> dict[str, Any]:
        """What must be the same for a run to go on. Not what changes no number: memory, logging, how often it saves."""
        numbers = dataclasses.asdict(self.recipe)
        for name in _NO_NUMBERS:
            numbers.pop(name)
        others: dict[str, str] = {}
        for name, value in sorted(self.asked.items()):
            if name not in HARMLESS and name not in OWN:
                others[name] = str(value)
        return {
            "stage": self.stage,
            "base": self.base.fingerprint,
            "data": self.data_fingerprint,
            "steps": self.steps,
            **numbers,
            **self.own_numbers(),
            "lora": None if self.lora is None else dataclasses.asdict(self.lora),
            "arguments": others,
        }

    def settings(self) -> dict[str, Any]:
        """For the report and the model card."""
        settings = {"stage": self.stage, **dataclasses.asdict(self.recipe), "steps": self.steps, **self.own_settings()}
        if self.lora is not None:
            settings["lora"] = {**dataclasses.asdict(self.lora), "target_modules": list(self.lora.target_modules)}
        return settings


def said_values(recipe: Mapping[str, Any] | None, **named: Any) -> dict[str, Any]:
    """Values of a recipe as they were asked for: by name, or as an argument, which counts where it is not None.

    >>> said_values({"lr": 1e-6, "samples": 4}, lr=None, seed=3)
    {'lr': 1e-06, 'samples': 4, 'seed': 3}
    """
    given = {name: value for name, value in named.items() if value is not None}
    return {**(recipe or {}), **given}


def lora_of(lora: Any) -> LoraRecipe | None:
    """What was asked for as LoRA, or None."""
    # Without dropout: responses are written without, and would be learned from by another network.
    if lora is True:
        return LoraRecipe(dropout=0.0)
    if isinstance(lora, Mapping):
        lora = {"dropout": 0.0, **lora}
    return LoraRecipe.of(lora)


def run_stage(
    plan: Any,
    run: RunFolder,
    resume: str | bool | None,
    make_trainer: Callable[[Any, ReaderNetwork, Any, Any], Any],
    begin: Callable[[Any, RunFolder, ReaderNetwork, Any, Path | None], None],
) -> TrainingReport:
    """Train as planned, or go on; a run that was finished gives its report.

    Args:
        plan: A `StagePlan`.
        run: Its folder.
        resume: As `train_evidence` takes it.
        make_trainer: Gives the stage's trainer of plan, network, data and the Trainer's arguments.
        begin: Gives the trainer its run; see `begin_stage`.
    """
    args = reader_arguments(run.path, plan.recipe, plan.steps, plan.asked, int(os.environ.get("WORLD_SIZE", "1")))
    if open_run(run, args, plan.started_with(), resume):
        return TrainingReport.read(run.report)
    # The weights come from the checkpoint, read strictly; the Trainer then adds optimizer, schedule and random state.
    newest = run.newest()
    set_seed(plan.recipe.seed)  # of LoRA's first values
    reader = load_reader(plan.base, plan.recipe, plan.lora, newest, str(args.device))
    if newest is not None:
        load_reader_state(reader.model, newest, plan.lora)
    data = plan.data
    if isinstance(data, ReaderExamples):
        data = fitting(data, reader, answered=plan.stage == "sft")
    trainer = make_trainer(plan, reader, data, args)
    begin(plan, run, reader, trainer, newest)
    trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    report = _report(plan, run, trainer, data)
    if args.process_index == 0:
        write_whole(run.report, report.to_json().encode("utf-8"))
    return report


def begin_stage(
    plan: StagePlan,
    run: RunFolder,
    trainer: Any,
    newest: Path | None,
    *,
    best_by: str,
    evaluate: Callable[[], dict[str, float]] | None,
    card_of: Callable[[Mapping[str, float]], str],
    save_more: Callable[[Path], None] = lambda _: None,
) -> None:
    """Give the trainer its run: where it saves, what it evaluates with.

    Args:
        plan: The plan.
        run: The run's folder.
        trainer: A `RunTrainer`.
        newest: The checkpoint that the run goes on from.
        best_by: The metric that tells which checkpoint is the best.
        evaluate: Gives metric -> value; None where there is nothing to evaluate with.
        card_of: The model card, given the last scores.
        save_more: Writes what else belongs into a checkpoint.
    """

    def save(folder: Path, state: Mapping[str, Tensor]) -> None:
        save_reader(plan.base, folder, trainer.accelerator.unwrap_model(trainer.model), state, plan.lora)
        save_more(folder)
        # Evaluated just before: the Trainer saves after it has looked.
        scores = trainer.scores()
        last = scores[-1][1] if scores else {}
        (folder / "README.md").write_text(card_of(last), encoding="utf-8")

    trainer.begin_run(
        run,
        save,
        best_by=best_by,
        evaluate=evaluate,
        evaluate_every=plan.recipe.save_steps,
        before=None if newest is None else read_complete(newest),
    )


def _report(plan: StagePlan, run: RunFolder, trainer: Any, data: ReaderExamples | EvaluationSet) -> TrainingReport:
    best = trainer.best_saved() or run.steps()[-1]
    broken: Mapping[str, str] = {}
    if isinstance(data, ReaderExamples):
        broken = data.broken
    return TrainingReport(
        base=plan.base.name,
        data=plan.data.name,
        checkpoint=str(run.checkpoint(best)),
        steps=plan.steps,
        best_step=best,
        losses=tuple(trainer.losses()),
        scores=tuple(trainer.scores()),
        pages=trainer.pages * world_size(),  # each device counts its own, and all have equally many rows
        skipped=dict(list(broken.items())[:SKIPPED_SHOWN]),
        skipped_pages=len(broken),
        seconds=trainer.seconds,
        resumed=trainer.resumed,
        settings=plan.settings(),
        history=tuple(trainer.state.log_history) if plan.stage == "rl" else (),
    )
