"""Trained weights as a checkpoint folder like their base's: same files, names, shapes and types.

What was not trained (a language-model head) is copied from the base as it is, and so are the tokenizer and config.json.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from visrag_integrations.embedders import adapters
from visrag_integrations.embedders.adapters import published_name
from visrag_integrations.embedders.pretrained import silent
from visrag_integrations.errors import CheckpointError
from visrag_integrations.models.visrag_ret import VisRAGRetModel
from visrag_integrations.models.weights import INDEX, find_weight_files, first_names, read_json
from visrag_integrations.training.bases import Base
from visrag_integrations.training.recipe import LoraRecipe

METADATA = {"format": "pt"}  # transformers refuses files without it
MASTER = "float32_weights.safetensors"
"""The weights as they are trained, where the checkpoint's own type is coarser: to go on from, not to load."""
# What belongs to a checkpoint beside its weights; never another run's optimizer, adapter, report or model card.
_COPIED = (".json", ".model", ".txt", ".jinja", ".py")
_NOT_COPIED = frozenset(
    {INDEX, "config.json", "trainer_state.json", "complete.json", adapters.CONFIG, "run.json", "report.json"}
)
_LARGEST = 100 << 20  # no tokenizer is larger


def save_whole(base: Base, folder: Path, network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Write a whole checkpoint.

    Args:
        base: What the training started from.
        folder: Where to write, an empty folder.
        network: The network, for the names of its weights.
        state: Its weights, by its own names.

    Raises:
        CheckpointError: The base has no place for one of the weights.
        OSError: The folder cannot be written to.
    """
    copy_companions(base, folder)
    if isinstance(network, VisRAGRetModel):
        published = {published_name(network, name): weight for name, weight in state.items()}
        write_like(base.folder, folder, published)
    else:
        _save_transformers(base, folder, network, state)
    if _base_types(base) != {"F32"}:
        _save_master(folder, state)


def save_adapter(base: Base, folder: Path, network: nn.Module, state: Mapping[str, Tensor], lora: LoraRecipe) -> None:
    """Write a LoRA adapter in PEFT's layout, by the published names of the weights."""
    tensors: dict[str, Tensor] = {}
    targets: set[str] = set()
    for name, weight in state.items():
        if "lora_" not in name:
            continue
        published = published_name(network, name).replace(".default.", ".")
        tensors[adapters.PREFIX + published] = plain(weight, torch.float32)
        targets.add(published.partition(".lora_")[0])
    save_file(tensors, folder / adapters.WEIGHTS, metadata=METADATA)
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": lasting_name(base),
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted(targets),
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / adapters.CONFIG, config)


def load_adapter_state(network: nn.Module, folder: Path) -> None:
    """A saved adapter into a network that has one of the same shape, strictly."""
    saved = load_file(folder / adapters.WEIGHTS)
    own = dict(network.named_parameters())
    wanted: dict[str, str] = {}
    for name in own:
        if "lora_" in name:
            wanted[adapters.PREFIX + published_name(network, name).replace(".default.", ".")] = name
    if wanted.keys() != saved.keys():
        raise CheckpointError(
            f"{folder / adapters.WEIGHTS} does not fit: {first_names(wanted.keys() ^ saved.keys())} differ."
        )
    with torch.no_grad():
        for published, name in wanted.items():
            own[name].copy_(saved[published])


def load_master(network: nn.Module, folder: Path) -> None:
    """The weights as they were trained, where the checkpoint itself holds them in a coarser type."""
    if (folder / MASTER).is_file():
        network.load_state_dict(load_file(folder / MASTER), strict=True)


def write_like(base: Path, folder: Path, published: Mapping[str, Tensor]) -> None:
    """Weight files with the base's names and types; what is not among `published` is copied from the base."""
    # File by file, so that at most one of them is in memory beside the network.
    left = set(published)
    for path in find_weight_files(base):
        tensors: dict[str, Tensor] = {}
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  (no mapping)
                old: Tensor = file.get_tensor(key)
                tensors[key] = old
                if key in published:
                    tensors[key] = plain(published[key], old.dtype)
                    left.discard(key)
                    if tensors[key].shape != old.shape:
                        raise CheckpointError(f"{key} has the shape {list(tensors[key].shape)}, the base's {path} not.")
        save_file(tensors, folder / path.name, metadata=METADATA)
    if left:
        raise CheckpointError(f"{base} has no place for {first_names(left)}.")
    if (base / INDEX).is_file():
        shutil.copyfile(base / INDEX, folder / INDEX)


def copy_companions(base: Base, folder: Path) -> None:
    """Config, tokenizer and the like; the config with what training changed."""
    for path in sorted(base.folder.iterdir()):
        wanted = path.suffix in _COPIED and path.name not in _NOT_COPIED
        if wanted and path.is_file() and path.stat().st_size <= _LARGEST:
            shutil.copyfile(path, folder / path.name)
    # Not the copy: a base of MiniCPM-V becomes a VisRAG-Ret here.
    config = read_json(base.folder / "config.json") | dict(base.config_changes)
    write_json(folder / "config.json", config)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Indented, one key a line, in the order given."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _save_transformers(base: Base, folder: Path, network: Any, state: Mapping[str, Tensor]) -> None:
    """By transformers, which knows what each weight is called in a file; then in the base's files and types."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with silent():
            network.save_pretrained(scratch, state_dict=dict(state))
        published: dict[str, Tensor] = {}
        for path in find_weight_files(Path(scratch)):
            published |= load_file(path)
        write_like(base.folder, folder, published)


def _save_master(folder: Path, state: Mapping[str, Tensor]) -> None:
    """All weights in float32; a weight with two names is written twice, because a file cannot say that they are one."""
    trained: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, weight in state.items():
        trained[name] = plain(weight, torch.float32)
        if trained[name].data_ptr() in seen:
            trained[name] = trained[name].clone()
        seen.add(trained[name].data_ptr())
    save_file(trained, folder / MASTER, metadata=METADATA)


def _base_types(base: Base) -> set[str]:
    """As safetensors names them: {"BF16"}."""
    types: set[str] = set()
    for path in find_weight_files(base.folder):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  (no mapping)
                types.add(file.get_slice(key).get_dtype())
    return types


def lasting_name(base: Base) -> str:
    """A hub name as it is; a folder by its whole path, which works from anywhere."""
    system, colon, after = base.name.rpartition(":")
    if Path(after).expanduser().is_dir():
        after = str(Path(after).expanduser().resolve())
    return f"{system}{colon}{after}"


def plain(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """On the processor, in one piece, with memory of its own: what safetensors takes."""
    return weight.detach().to(device="cpu", dtype=dtype).contiguous()
