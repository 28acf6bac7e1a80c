"""`train_retriever`: a checkpoint and pairs in, a better retriever out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments, set_seed

from visrag_integrations.evaluation import EvaluationSet
from visrag_integrations.files import write_whole
from visrag_integrations.training.arguments import training_arguments
from visrag_integrations.training.bases import Base, find_base
from visrag_integrations.training.card import model_card
from visrag_integrations.training.examples import Pairs
from visrag_integrations.training.held_out import check_held_out, search_held_out
from visrag_integrations.training.pairs import open_pairs
from visrag_integrations.training.recipe import HARMLESS, LoraRecipe, RetrieverRecipe, merge_arguments, read_arguments
from visrag_integrations.training.report import SKIPPED_SHOWN, TrainingReport
from visrag_integrations.training.run_trainer import open_run
from visrag_integrations.training.runs import RunFolder, read_complete
from visrag_integrations.training.saving import load_adapter_state, load_master, save_adapter, save_whole
from visrag_integrations.training.stream import PairStream
from visrag_integrations.training.trainable import TrainableRetriever
from visrag_integrations.training.trainer import RetrieverTrainer


@dataclass(frozen=True)
class RunPlan:
    """Everything a run is: what `train_retriever` was asked, checked."""

    base: Base
    pairs: Pairs
    recipe: RetrieverRecipe
    steps: int
    lora: LoraRecipe | None
    evaluate: EvaluationSet | None
    asked: Mapping[str, Any]

    def started_with(self) -> dict[str, Any]:
        """What must be the same for a run to go on. Not what changes no number: memory, logging, how often it saves."""
        numbers = dataclasses.asdict(self.recipe)
        for name in ("micro_batch", "save_steps", "epochs", "max_steps"):
            numbers.pop(name)
        others: dict[str, str] = {}
        for name, value in sorted(self.asked.items()):
            if name not in HARMLESS:
                others[name] = str(value)
        return {
            "base": self.base.fingerprint,
            "data": self.pairs.fingerprint,
            "steps": self.steps,
            **numbers,
            "lora": None if self.lora is None else dataclasses.asdict(self.lora),
            "arguments": others,
        }

    def settings(self) -> dict[str, Any]:
        """For the report and the model card."""
        settings = dataclasses.asdict(self.recipe) | {"steps": self.steps}
        if self.lora is not None:
            settings["lora"] = dataclasses.asdict(self.lora)
        return settings


def train_retriever(
    base: str | Path,
    pairs: Any,
    output: str | Path,
    *,
    epochs: float = 1.0,
    max_steps: int | None = None,
    lr: float = 1e-5,
    batch_size: int = 128,
    micro_batch: int = 2,
    temperature: float = 0.02,
    seed: int = 0,
    save_steps: int = 500,
    lora: bool | Mapping[str, Any] | LoraRecipe | None = None,
    evaluate: EvaluationSet | None = None,
    resume: str | bool | None = "auto",
    arguments: Any = None,
) -> TrainingReport:
    """Train a page retriever by VisRAG-Ret's recipe: every query against all pages of a large batch.

    The defaults are the published values. Under `torchrun` or `accelerate launch` all devices train together.

    Args:
        base: A checkpoint: a name or folder of VisRAG-Ret, MiniCPM-Visual-Embedding, MiniCPM-V 2.0 (saved as
            VisRAG-Ret), ColQwen2, ColPali, ColModernVBERT or BGE-VL on CLIP.
        pairs: A file or folder of rows (`query`, `image` or `text`, maybe `negatives`), a data set's name on the hub,
            an evaluation set with pages, what `build_pairs` gives, a list of these, or a dict of these with weights.
        output: The run's folder; its checkpoints are `output/checkpoint-STEP`.
        epochs: How often every pair is seen.
        max_steps: So many steps instead.
        lr: The highest learning rate.
        batch_size: Pairs a step, over all devices: each query is compared with so many pages.
        micro_batch: Pairs a device has in memory at once; changes memory and speed, no number.
        temperature: What scores are divided by.
        seed: Of the order of the pairs.
        save_steps: A checkpoint every so many steps; the last step is always saved.
        lora: True trains small matrices beside the published ones of the weights (PEFT); a dict changes `r`, `alpha`,
            `dropout` or `target_modules`.
        evaluate: Held-out questions with their pages, searched at every checkpoint; the best one is kept.
        resume: "auto" goes on where this run was stopped, and gives the report of a finished one. None refuses a
            folder that holds a run.
        arguments: Anything else that transformers.TrainingArguments takes, as a dict or an object of it; for example
            `{"gradient_checkpointing": True, "report_to": "tensorboard"}`.

    Returns:
        The report; its `checkpoint` is the folder to load.

    Raises:
        SettingError: A value is not allowed, or `output` holds another run.
        CheckpointError: The base is no checkpoint.
        DatasetError: The pairs cannot be read.
        TrainingError: The loss is no number, memory does not suffice, or the disk is full.
    """
    asked = read_arguments(arguments)
    said = RetrieverRecipe(
        epochs=epochs,
        max_steps=max_steps,
        lr=lr,
        batch_size=batch_size,
        micro_batch=micro_batch,
        temperature=temperature,
        seed=seed,
        save_steps=save_steps,
    )
    recipe = merge_arguments(said, asked)
    held_out = None
    if evaluate is not None:
        held_out = check_held_out(evaluate)
    opened = open_pairs(pairs)
    start = find_base(base)
    plan = RunPlan(start, opened, recipe, recipe.steps(len(opened)), LoraRecipe.of(lora), held_out, asked)
    return _run(plan, RunFolder(output), resume)


def _run(plan: RunPlan, run: RunFolder, resume: str | bool | None) -> TrainingReport:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    args = training_arguments(run.path, plan.recipe, plan.steps, plan.asked, world, evaluates=plan.evaluate is not None)
    if open_run(run, args, plan.started_with(), resume):
        return TrainingReport.read(run.report)
    # The weights come from the checkpoint, read strictly; the Trainer then adds optimizer, schedule and random state.
    newest = run.newest()
    with contextlib.ExitStack() as opened:
        retriever = load_retriever(plan, newest, args.device)
        opened.callback(retriever.embedder.close)
        stream = open_stream(plan, retriever, args)
        opened.callback(stream.close)
        trainer = _trainer(plan, run, retriever, stream, args, newest)
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
        report = _report(plan, run, trainer)
        if args.process_index == 0:
            write_whole(run.report, report.to_json().encode("utf-8"))
        return report


def load_retriever(plan: RunPlan, checkpoint: Path | None, device: torch.device) -> TrainableRetriever:
    """The base, or the weights of the run's last checkpoint, in float32 and ready to change."""
    set_seed(plan.recipe.seed)  # of LoRA's first values
    whole = checkpoint if plan.lora is None else None
    # Float32 even where half precision computes: in bfloat16 a step of 1e-5 of a weight rounds to no step at all.
    embedder = plan.base.load(whole, device=device, dtype="float32", max_tokens=plan.recipe.max_tokens)
    retriever = TrainableRetriever(embedder)
    retriever.open_weights(plan.lora)
    if checkpoint is not None and plan.lora is not None:
        load_adapter_state(retriever.network, checkpoint)
    elif checkpoint is not None:
        load_master(retriever.network, checkpoint)
    if plan.asked.get("gradient_checkpointing") or plan.asked.get("activation_checkpointing"):
        retriever.recompute_activations()
    return retriever


def open_stream(plan: RunPlan, retriever: TrainableRetriever, args: TrainingArguments) -> PairStream:
    """The pairs of this device."""
    return PairStream(
        plan.pairs,
        retriever.preparer(),
        batch_size=plan.recipe.batch_size,
        micro_batch=plan.recipe.micro_batch,
        seed=plan.recipe.seed,
        rank=args.process_index,
        world=args.world_size,
        workers=retriever.embedder.workers,
    )


def _trainer(
    plan: RunPlan,
    run: RunFolder,
    retriever: TrainableRetriever,
    stream: PairStream,
    args: TrainingArguments,
    newest: Path | None,
) -> RetrieverTrainer:
    # What the parts of the run before this one knew and the Trainer's own state does not hold.
    spent = (0.0, 0)
    if newest is not None:
        complete = read_complete(newest)
        spent = (float(complete["seconds"]), int(complete["resumed"]) + 1)
        stream.broken.update(complete["skipped"])
    evaluate = None
    if plan.evaluate is not None:
        evaluate = functools.partial(search_held_out, plan.evaluate, retriever.embedder)

    def save(folder: Path, state: Mapping[str, Tensor]) -> None:
        if plan.lora is None:
            save_whole(plan.base, folder, retriever.network, state)
        else:
            save_adapter(plan.base, folder, retriever.network, state, plan.lora)
        # Evaluated just before: the Trainer saves after it has looked.
        scores = trainer.scores()
        last = scores[-1][1] if scores else {}
        card = model_card(plan.base, f"{plan.pairs.name}: {len(plan.pairs)} pairs.", plan.settings(), last)
        (folder / "README.md").write_text(card, encoding="utf-8")

    trainer = RetrieverTrainer(
        retriever, args, stream, run, save, temperature=plan.recipe.temperature, evaluate=evaluate, spent=spent
    )
    return trainer


def _report(plan: RunPlan, run: RunFolder, trainer: RetrieverTrainer) -> TrainingReport:
    skipped = trainer.all_skipped()
    best = trainer.best_saved() or run.steps()[-1]
    pages = plan.steps * plan.recipe.batch_size * (1 + plan.pairs.negatives)
    return TrainingReport(
        base=plan.base.name,
        data=plan.pairs.name,
        checkpoint=str(run.checkpoint(best)),
        steps=plan.steps,
        best_step=best,
        losses=tuple(trainer.losses()),
        scores=tuple(trainer.scores()),
        pages=pages,
        skipped=dict(list(skipped.items())[:SKIPPED_SHOWN]),
        skipped_pages=len(skipped),
        seconds=trainer.seconds,
        resumed=trainer.resumed,
        settings=plan.settings(),
    )
