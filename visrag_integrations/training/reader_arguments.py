"""A reader's recipe as the settings of its trainer: transformers' TrainingArguments, or TRL's GRPOConfig."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from visrag_integrations.errors import SettingError
from visrag_integrations.training.arguments import precision
from visrag_integrations.training.reader_recipe import Recipe, RlRecipe, recipe_of
from visrag_integrations.training.recipe import REFUSED, read_arguments

OWN = {
    "output_dir": "",
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "seed": "seed",
    "save_steps": "save_steps",
    "save_total_limit": "keep_checkpoints",
    "warmup_steps": "warmup_steps",
    "lr_scheduler_type": "scheduler",
    "weight_decay": "weight_decay",
    "adam_beta1": "beta1",
    "adam_beta2": "beta2",
    "adam_epsilon": "epsilon",
    "max_grad_norm": "max_grad_norm",
    "num_generations": "samples",
    "max_completion_length": "max_response",
    "temperature": "temperature",
    "top_p": "top_p",
    "epsilon": "low",
    "epsilon_high": "high",
    "delta": "dual",
    "beta": "kl",
}
"""Fields of the trainer's settings that the recipe has too; said in `arguments`, they win."""
REFUSED_HERE = {
    **REFUSED,
    "gradient_accumulation_steps": "batch_size and micro_batch",
    "generation_batch_size": "batch_size",
    "steps_per_generation": "batch_size: one update for each round of writing",
    "reward_weights": "rewards, which have weights",
}
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")
"""The newer and the older name of one field."""


def config_kind(recipe: Recipe) -> Any:
    """The class of the settings."""
    if isinstance(recipe, RlRecipe):
        from trl import GRPOConfig

        return GRPOConfig
    return TrainingArguments


def merge_asked(stage: str, recipe: Recipe, arguments: Any) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with what `arguments` says of its values, and all that it says."""
    asked = read_arguments(arguments, config_kind(recipe), REFUSED_HERE)
    changes = dataclasses.asdict(recipe)
    for name, value in asked.items():
        if OWN.get(name) in changes:
            changes[OWN[name]] = value
    if changes["max_steps"] is not None and changes["max_steps"] < 1:
        changes["max_steps"] = None  # -1 is how TrainingArguments says: by epochs
    return recipe_of(stage, changes), asked


def reader_arguments(output: Path, recipe: Recipe, steps: int, asked: Mapping[str, Any], world: int) -> Any:
    """What the trainer is told.

    Args:
        output: The run's folder.
        recipe: The values.
        steps: Of the run.
        asked: What the user said; the last word on all but the recipe, which has it already.
        world: How many devices train together.

    Raises:
        SettingError: The batch cannot be shared by so many devices, or a value is not allowed.
    """
    rows = recipe.rows
    share = world * recipe.micro_batch
    if rows % share:
        raise SettingError(
            f"A step has {rows} sequences, for {world} devices with micro-batches of {recipe.micro_batch}; it must be "
            f"a multiple of {share}. Change batch_size or micro_batch."
        )
    kind = config_kind(recipe)
    values = _shared_values(recipe, steps) | {"gradient_accumulation_steps": rows // share}
    if isinstance(recipe, RlRecipe):
        values |= _writing_values(recipe)
    fields = {field.name for field in dataclasses.fields(kind)}
    # By the name that this version of transformers has; the other one is not there, or warned of.
    checkpointing = CHECKPOINTING[0] if CHECKPOINTING[0] in fields else CHECKPOINTING[1]
    values[checkpointing] = torch.cuda.is_available()
    for name, value in asked.items():
        if name in CHECKPOINTING:
            values[checkpointing] = value
        elif name not in OWN:
            values[name] = value
    try:
        args = kind(output_dir=str(output), **values)
    except (ValueError, TypeError, ImportError) as err:
        raise SettingError(f"{kind.__name__} refuses the arguments: {err}") from err
    if args.world_size != world:
        raise SettingError(f"WORLD_SIZE says {world} processes, and {args.world_size} are there. Use torchrun.")
    args._n_gpu = min(1, args.n_gpu)  # several GPUs in one process would split a micro-batch; use torchrun
    return args


def _shared_values(recipe: Recipe, steps: int) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": recipe.micro_batch,
        "max_steps": steps,
        "learning_rate": recipe.lr,
        "lr_scheduler_type": recipe.scheduler,
        "warmup_steps": recipe.warmup(steps),
        "optim": "adamw_torch",
        "adam_beta1": recipe.beta1,
        "adam_beta2": recipe.beta2,
        "adam_epsilon": recipe.epsilon,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "seed": recipe.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": recipe.save_steps,
        "save_total_limit": recipe.keep_checkpoints,
        "eval_strategy": "no",  # asked for by a callback: there is no data set to iterate
        "disable_tqdm": not sys.stderr.isatty(),
        "remove_unused_columns": False,
        **precision(),
    }


def _writing_values(recipe: RlRecipe) -> dict[str, Any]:
    """Those of GRPOConfig alone."""
    return {
        "num_generations": recipe.samples,
        "max_completion_length": recipe.max_response,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "top_k": 0,  # none; transformers' own default would keep the 50 likeliest
        "epsilon": recipe.low,
        "epsilon_high": recipe.high,
        "delta": recipe.dual,
        "beta": recipe.kl,
        "use_bias_correction_kl": False,  # as published
        "disable_dropout": True,
    }
