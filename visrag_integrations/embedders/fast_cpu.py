"""A network made fast on a processor: int8 weights in its linear layers, bfloat16 in the attention of its vision tower.

What was tried, on what, and what it gave stands in benchmarks/RESULTS.md ("Pages as pictures on a processor").
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from visrag_integrations.embedders.int8_linear import has_int8, int8_linear
from visrag_integrations.errors import SettingError

Precision = Literal["int8", "bfloat16", "float32"]
PRECISIONS = ("int8", "bfloat16", "float32")


def make_fast(model: Any, precision: Precision) -> Any:
    """The network in that precision, changed in place; its vision tower is `model.vlm.vision_model`.

    Raises:
        SettingError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise SettingError(f"precision is {precision!r}; it is one of: {', '.join(PRECISIONS)}.")
    if precision == "float32":
        return model.float()
    tower = model.vlm.vision_model
    tower.use_head = False  # its pooled vector is not used here
    if precision == "bfloat16":
        return model.to(torch.bfloat16)
    _hurry_tower(tower)
    # The network's last layer stays: it is small, and the network asks for its type.
    _replace_linear(model.vlm)
    # What is left still looks into the file that was read, and would keep all of it in memory.
    for parameter in model.parameters():
        parameter.data = parameter.detach().clone()
    return model


def best_precision() -> Precision:
    """int8 where this torch has the kernels, else bfloat16 where the processor has it, else float32."""
    if has_int8():
        return "int8"
    if has_bfloat16():
        return "bfloat16"
    return "float32"


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return known is not None and bool(known())


def _hurry_tower(tower: Any) -> None:
    """Its layers in the fast form; a tower that is not SigLIP's keeps its own, with int8 in the linear ones."""
    from transformers.models.siglip.modeling_siglip import SiglipEncoder

    from visrag_integrations.embedders.fast_vision import FastEncoder

    if isinstance(getattr(tower, "encoder", None), SiglipEncoder):
        tower.encoder = FastEncoder(tower.encoder, bfloat16=has_bfloat16())


def _replace_linear(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, int8_linear(child))
        else:
            _replace_linear(child)
