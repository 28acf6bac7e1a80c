"""A LoRA adapter (PEFT's layout) added to the weights of its base: no PEFT is needed to use one.

For each matrix W of the base that it changes, an adapter holds two small ones, A (r, in) and B (out, r):
W becomes W + B A * alpha / r.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visrag_integrations.errors import CheckpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT writes it before every name
A, B = ".lora_A.weight", ".lora_B.weight"


def adapter_base(name: str) -> str | None:
    """The name of an adapter folder's base; None for anything that is no such folder.

    Raises:
        CheckpointError: The adapter does not say its base.
    """
    path = Path(name).expanduser() / CONFIG
    if not path.is_file():
        return None
    base = _config(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{path} does not name its base (base_model_name_or_path).")
    return base


def add_adapter(network: Any, name: str) -> None:
    """Add an adapter to a network's weights, in place.

    Raises:
        CheckpointError: It is no plain LoRA adapter, or does not fit the network.
    """
    import torch
    from safetensors.torch import load_file

    folder = Path(name).expanduser()
    config = _config(folder / CONFIG)
    for setting in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out"):
        if config.get(setting):
            raise CheckpointError(f"{folder / CONFIG} has {setting}, which is not read here. Merge it with PEFT first.")
    if config.get("bias", "none") != "none" or config.get("peft_type") != "LORA":
        raise CheckpointError(f"{folder / CONFIG} is no LoRA adapter without biases. Merge it with PEFT first.")
    tensors = load_file(folder / WEIGHTS)
    scale = float(config["lora_alpha"]) / float(config["r"])
    modules = dict(network.named_modules())
    left = set(tensors)
    with torch.no_grad():
        for key in sorted(tensors):
            if not key.endswith(A):
                continue
            module = modules.get(key.removeprefix(PREFIX).removesuffix(A))
            up = tensors.get(key.removesuffix(A) + B)
            if module is None or up is None or (up.shape[0], tensors[key].shape[1]) != tuple(module.weight.shape):
                raise CheckpointError(f"{folder / WEIGHTS} does not fit its base: {key}.")
            change = (up.float() @ tensors[key].float()) * scale
            module.weight.copy_((module.weight.float() + change.to(module.weight.device)).to(module.weight.dtype))
            left -= {key, key.removesuffix(A) + B}
    if left:
        raise CheckpointError(f"{folder / WEIGHTS} holds what is no part of a LoRA adapter: {min(left)}.")


def _config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return config
    except (OSError, ValueError) as err:
        raise CheckpointError(f"{path} cannot be read: {err}.") from err
