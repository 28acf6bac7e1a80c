"""A trained reader as a checkpoint folder like its base's, or as an adapter in PEFT's layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from visrag_integrations.embedders import adapters
from visrag_integrations.embedders.pretrained import silent
from visrag_integrations.errors import CheckpointError
from visrag_integrations.generation.checkpoint import load_checkpoint
from visrag_integrations.models.weights import first_names
from visrag_integrations.training.bases import Base
from visrag_integrations.training.reader import find_reader
from visrag_integrations.training.recipe import LoraRecipe
from visrag_integrations.training.saving import (
    METADATA,
    copy_companions,
    lasting_name,
    load_master,
    plain,
    save_whole,
    write_json,
)


def save_reader(base: Base, folder: Path, model: Any, state: Mapping[str, Tensor], lora: LoraRecipe | None) -> None:
    """Write a checkpoint's own files.

    Args:
        base: What the training started from.
        folder: Where to write, an empty folder.
        model: The network, for the names of its weights.
        state: Its weights, by its own names.
        lora: With LoRA only the adapter is written.
    """
    if lora is None:
        save_whole(base, folder, model, state)
        return
    from peft import get_peft_model_state_dict

    copy_companions(base, folder)
    tensors = get_peft_model_state_dict(model, state_dict=dict(state))
    save_file({name: plain(each, torch.float32) for name, each in tensors.items()}, folder / adapters.WEIGHTS, METADATA)
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": lasting_name(base), "inference_mode": True}
    write_json(folder / adapters.CONFIG, {name: as_json(value) for name, value in sorted(config.items())})


def load_reader_state(model: nn.Module, checkpoint: Path, lora: LoraRecipe | None) -> None:
    """What a run goes on from, beside the weights that a checkpoint is loaded by: strictly.

    Raises:
        CheckpointError: The adapter does not fit.
    """
    if lora is None:
        load_master(model, checkpoint)
        return
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    saved = load_file(checkpoint / adapters.WEIGHTS)
    own = get_peft_model_state_dict(model)
    if own.keys() != saved.keys():
        raise CheckpointError(
            f"{checkpoint / adapters.WEIGHTS} does not fit: {first_names(own.keys() ^ saved.keys())} differ."
        )
    set_peft_model_state_dict(model, saved)


def merged_reader(name: str, adapter: Path) -> tuple[Base, Any]:
    """The adapter's base, and its network with the adapter in its weights.

    Raises:
        CheckpointError: The base cannot be found, or the adapter does not fit it.
    """
    base = find_reader(name)
    with silent():
        loaded = load_checkpoint(str(adapter), device="cpu", dtype="float32", trust_remote_code=False)
    return base, loaded.model


def as_json(value: Any) -> Any:
    """A value of PEFT's config as JSON has it."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    if value is None or isinstance(value, (str, int, float, bool, list)):
        return value
    return str(getattr(value, "value", value))
