"""A network made fast on a processor: int8 weights in its linear layers, bfloat16 in the attention of its vision tower.

What was tried, on what, and what it gave stands in benchmarks/RESULTS.md ("Pages as pictures on a processor").
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from visrag_integrations.errors import SettingError

Precision = Literal["int8", "bfloat16", "float32"]
PRECISIONS = ("int8", "bfloat16", "float32")
ATTENTION = "visrag_bfloat16"
"""The name of `bfloat16_attention` among transformers' kinds of attention."""


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, one scale an output; what comes in is made int8 as it comes.

    Args:
        linear: The layer whose numbers it takes.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).double()  # 1e-12: a row of zeros stays one
        zeros = torch.zeros(len(scales), dtype=torch.long)
        bias = None if linear.bias is None else linear.bias.detach().float()
        with warnings.catch_warnings():
            # torch means to take these tensors out one day; `has_int8` then says so, and another precision is taken.
            warnings.simplefilter("ignore", UserWarning)
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self._packed: Any = torch.ops.quantized.linear_prepack(quantized, bias)
        # Without VNNI two products of 8 bits overflow 16; one bit less of what comes in avoids that.
        self._reduce_range = not has_vnni()

    def forward(self, inputs: Tensor) -> Tensor:
        """What the layer makes of (..., in), as float32 (..., out)."""
        made: Tensor = torch.ops.quantized.linear_dynamic(inputs.float(), self._packed, self._reduce_range)
        return made


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
    # The last layer stays: it is small, and the network asks for its type.
    _replace_linear(model.vlm)
    if has_bfloat16():
        _register_attention()
        tower.config._attn_implementation = ATTENTION
    return model


def best_precision() -> Precision:
    """int8 where this torch has the kernels, else bfloat16 where the processor has it, else float32."""
    if has_int8():
        return "int8"
    if has_bfloat16():
        return "bfloat16"
    return "float32"


def has_int8() -> bool:
    """Whether this torch multiplies int8 weights with what comes in."""
    return hasattr(torch, "quantize_per_channel") and torch.backends.quantized.engine != "none"


def has_vnni() -> bool:
    """Whether the processor adds up four products of int8 at once."""
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    return known is not None and bool(known())


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return known is not None and bool(known())


def bfloat16_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float = 1.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention without a mask: (batch, heads, tokens, size) in, (batch, tokens, heads, size) out, in float32.

    torch's own takes as long in bfloat16 as in float32; head by head, two products and a softmax take two thirds of it.
    """
    assert attention_mask is None, "a vision tower looks at every patch"
    rows = []
    for queries, keys, values in zip(query, key, value, strict=True):
        scaled = (queries * scaling).bfloat16()
        turned, seen = keys.bfloat16().transpose(1, 2), values.bfloat16()
        heads = []
        # One head at a time: the scores of all (25 MB a tile) would not stay in the processor's cache, and then this
        # is slower than torch's own.
        for head in range(len(scaled)):
            weights = torch.mm(scaled[head], turned[head]).softmax(dim=-1)
            heads.append(torch.mm(weights, seen[head]))
        rows.append(torch.stack(heads, dim=1))
    return torch.stack(rows).float(), None


def _replace_linear(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Int8Linear(child))
        else:
            _replace_linear(child)


def _register_attention() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, bfloat16_attention)
