"""The recipe as transformers' TrainingArguments."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from visrag_integrations.errors import SettingError
from visrag_integrations.training.held_out import BEST_BY
from visrag_integrations.training.recipe import OWN, RetrieverRecipe

# Done by us on our own network, and by neither name understood by all versions of transformers.
_OURS = ("gradient_checkpointing", "activation_checkpointing")


def training_arguments(
    output: Path, recipe: RetrieverRecipe, steps: int, asked: Mapping[str, Any], world: int, *, evaluates: bool
) -> TrainingArguments:
    """What the Trainer is told.

    Args:
        output: The run's folder.
        recipe: The values.
        steps: Of the run.
        asked: What the user said of TrainingArguments; the last word on all but the recipe, which has it already.
        world: How many devices train together.
        evaluates: Whether there is an evaluation set.

    Raises:
        SettingError: The batch cannot be shared by so many devices, or a value is not allowed.
    """
    if recipe.batch_size % world:
        raise SettingError(f"batch_size is {recipe.batch_size} and there are {world} devices; it must be a multiple.")
    values: dict[str, Any] = {
        "per_device_train_batch_size": recipe.batch_size // world,
        "lr_scheduler_type": recipe.scheduler,
        "warmup_steps": int(recipe.warmup * steps),  # rounded down: the first step of a warm-up has the rate 0
        "optim": "adamw_torch",
        "adam_beta1": recipe.beta1,
        "adam_beta2": recipe.beta2,
        "adam_epsilon": recipe.epsilon,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "steps",
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": recipe.save_steps,
        "disable_tqdm": not sys.stderr.isatty(),
        "remove_unused_columns": False,
        # Rows with a text in place of a page leave the tower out, and DDP would wait for its gradients.
        "ddp_find_unused_parameters": True,
        **precision(),
    }
    if evaluates:
        values |= {"metric_for_best_model": BEST_BY, "greater_is_better": True}
    for name, value in asked.items():
        if name not in OWN and name not in _OURS:
            values[name] = value
    own = {"output_dir": str(output), "max_steps": steps, "learning_rate": recipe.lr, "seed": recipe.seed}
    try:
        args = TrainingArguments(**values, **own, save_steps=recipe.save_steps)
        if args.world_size != world:
            raise SettingError(f"WORLD_SIZE says {world} processes, and {args.world_size} are there. Use torchrun.")
    except (ValueError, TypeError, ImportError) as err:
        raise SettingError(f"transformers refuses the arguments: {err}") from err
    args._n_gpu = min(1, args.n_gpu)  # several GPUs in one process would split a micro-batch; use torchrun
    return args


def precision() -> dict[str, bool]:
    """Half precision for the products, on a GPU that has it; the weights stay in float32."""
    if not torch.cuda.is_available():
        return {"use_cpu": True}
    return {"bf16": torch.cuda.is_bf16_supported()}
