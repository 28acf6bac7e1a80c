"""A LoRA adapter (PEFT's layout) added to the weights of its base: no PEFT is needed to use one.

For each matrix W of the base that it changes, an adapter holds two small ones, A (r, in) and B (out, r):
W becomes W + B A * alpha / r.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visrag_integrations.embedders.checkpoint_embedder import CheckpointEmbedder
from visrag_integrations.embedders.checkpoints import ADAPTER, ADAPTER_WEIGHTS, adapter_base
from visrag_integrations.errors import CheckpointError
from visrag_integrations.models.visrag_ret import PREFIXES, VisRAGRetModel
from visrag_integrations.models.weights import first_names, read_json

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

CONFIG = ADAPTER
WEIGHTS = ADAPTER_WEIGHTS
PREFIX = "base_model.model."  # PEFT writes it before every name
A, B = ".lora_A.weight", ".lora_B.weight"


def load_with_adapter(folder: Path, load: Callable[[str], PageEmbedder]) -> PageEmbedder:
    """The adapter's base, loaded by `load`, with the adapter in its weights.

    Raises:
        CheckpointError: The adapter does not say its base, is of another kind, or does not fit it.
    """
    base = adapter_base(folder)
    embedder = load(base)
    if not isinstance(embedder, CheckpointEmbedder):
        raise CheckpointError(f"{str(folder)!r} is an adapter of {base!r}, whose weights are not loaded here.")
    add_adapter(embedder.module, folder)
    embedder.name = str(folder.resolve())
    # The base alone, or another adapter of it, gives other vectors.
    digest = hashlib.sha256(f"{embedder.fingerprint}".encode() + (folder / WEIGHTS).read_bytes())
    embedder.__dict__["fingerprint"] = digest.hexdigest()[:16]
    return embedder


def add_adapter(network: torch.nn.Module, folder: Path) -> None:
    """Add an adapter to a network's weights, in place.

    Raises:
        CheckpointError: It is no LoRA adapter, or does not fit the network.
    """
    deltas = read_deltas(folder)
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for name, delta in deltas.items():
            own = own_name(network, name)
            if own not in weights or weights[own].shape != delta.shape:
                raise CheckpointError(
                    f"The adapter in {str(folder)!r} changes {name} {list(delta.shape)}, which its base does not have. "
                    "Is it an adapter of another checkpoint?"
                )
            weight = weights[own]
            # Added in float32: in half precision a small change would be lost in rounding twice.
            weight.copy_((weight.float() + delta.to(weight.device)).to(weight.dtype))


def read_deltas(folder: Path) -> dict[str, Tensor]:
    """What an adapter adds, by the published names of the weights: float32 matrices."""
    from safetensors.torch import load_file

    config = read_json(folder / CONFIG)
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("modules_to_save"):
        raise CheckpointError(f"{str(folder)!r} is no plain LoRA adapter: {json.dumps(_kind(config))}.")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    tensors: Mapping[str, Tensor] = load_file(folder / WEIGHTS)
    deltas: dict[str, Tensor] = {}
    for name, down in tensors.items():
        if not name.endswith(A):
            continue
        up = tensors.get(name.removesuffix(A) + B)
        if up is None:
            raise CheckpointError(f"{folder / WEIGHTS} has {name} without its other half.")
        published = name.removeprefix(PREFIX).removesuffix(A) + ".weight"
        deltas[published] = up.float() @ down.float() * scale
    if 2 * len(deltas) != len(tensors):
        raise CheckpointError(f"{folder / WEIGHTS} holds more than pairs of matrices: {first_names(tensors)}.")
    return deltas


def own_name(network: torch.nn.Module, published: str) -> str:
    """The network's own name of a weight, by its published one."""
    if isinstance(network, VisRAGRetModel):
        for prefix, own in PREFIXES.items():
            if published.startswith(prefix):
                return own + published[len(prefix) :]
    return published


def published_name(network: torch.nn.Module, own: str) -> str:
    """The published name of a weight, by the network's own one."""
    if isinstance(network, VisRAGRetModel):
        for prefix, ours in PREFIXES.items():
            if own.startswith(ours):
                return prefix + own[len(ours) :]
    return own


def _kind(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config.get(name) for name in ("peft_type", "use_dora", "modules_to_save")}
