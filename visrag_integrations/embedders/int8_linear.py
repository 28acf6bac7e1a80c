"""Linear layers with int8 weights, one scale an output; what comes in is made int8 as it comes, with one scale.

Two kinds, by what this torch has: `FusedInt8Linear` on oneDNN, `PlainInt8Linear` elsewhere.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

GELUS = {"gelu": "none", "gelu_pytorch_tanh": "tanh"}
"""transformers' names of GELU, and oneDNN's: exact, and by a hyperbolic tangent."""
LARGEST = 127
"""Of a signed 8-bit number, either way."""


class FusedInt8Linear(nn.Module):
    """A linear layer, and the GELU after it, in one pass of oneDNN; it can write bfloat16.

    Args:
        linear: The layer whose numbers it takes.
        gelu: A name of `GELUS`: what is done with the products before they are written.
        dtype: What is written: float32 or bfloat16.
    """

    def __init__(self, linear: nn.Linear, gelu: str | None = None, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        weight, self._scales = _rounded(linear)
        self._packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = _float_bias(linear)
        self._dtype = dtype
        # oneDNN's name of what comes after, its numbers (none), and which kind.
        self._after: tuple[str, list[float], str] = ("none", [], "") if gelu is None else ("gelu", [], GELUS[gelu])

    def forward(self, inputs: Tensor) -> Tensor:
        """What the layer makes of (..., in), as (..., out)."""
        made: Tensor = torch.ops.onednn.qlinear_pointwise(
            *as_bytes(inputs), self._packed, self._scales, self._zeros, self._bias, 1.0, 0, self._dtype, *self._after
        )
        return made


class PlainInt8Linear(nn.Module):
    """A linear layer by the operation every torch has that knows int8; it writes float32.

    Args:
        linear: The layer whose numbers it takes.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scales = _rounded(linear)
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            # torch means to take these tensors out one day; `has_int8` then says so, and another precision is taken.
            warnings.simplefilter("ignore", UserWarning)
            exact = weight.float() * scales[:, None]
            quantized = torch.quantize_per_channel(exact, scales.double(), zeros, 0, torch.qint8)
            self._packed: Any = torch.ops.quantized.linear_prepack(quantized, _float_bias(linear))
        self._reduce_range = not has_vnni()

    def forward(self, inputs: Tensor) -> Tensor:
        """What the layer makes of (..., in), as float32 (..., out)."""
        made: Tensor = torch.ops.quantized.linear_dynamic(inputs.float(), self._packed, self._reduce_range)
        return made


def int8_linear(linear: nn.Linear, gelu: str | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The layer in int8, with GELU after it when named, in the quickest way there is here."""
    if has_fused_int8():
        return FusedInt8Linear(linear, gelu, dtype)
    plain = PlainInt8Linear(linear)
    if gelu is None:
        return plain
    return nn.Sequential(plain, nn.GELU(approximate=GELUS[gelu]))


def joined(*linears: nn.Linear) -> nn.Linear:
    """Layers that read the same as one that writes their outputs one after another."""
    one = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears))
    with torch.no_grad():
        one.weight.copy_(torch.cat([linear.weight for linear in linears]))
        one.bias.copy_(torch.cat([_bias_or_zeros(linear) for linear in linears]))
    return one


def as_bytes(inputs: Tensor) -> tuple[Tensor, float, int]:
    """Numbers as bytes, with the scale of a step and the byte that stands for 0.

    Example:
        >>> given, scale, zero = as_bytes(torch.tensor([-1.0, 0.0, 1.0]))
        >>> [round((byte - zero) * scale, 1) for byte in given.tolist()]
        [-1.0, 0.0, 1.0]
    """
    inputs = inputs.float().contiguous()
    lowest, highest = torch.aminmax(inputs)
    bottom, top = min(lowest.item(), 0.0), max(highest.item(), 0.0)
    # One step fewer than a byte has: where both ends are rounded outwards they are still bytes.
    steps = 254 if has_vnni() else 126
    scale = max((top - bottom) / steps, 1e-12)  # 1e-12: zeros alone stay zeros
    # Halves go up, and what is a thousandth less: where 218.5 became 218, the lowest number of all came to -128.5, in
    # float32 now and then to a little less, and so to -129, which as a byte is the highest one.
    zero = math.floor(-bottom / scale + 0.501)
    # torch turns numbers into signed bytes ten times as fast as into unsigned ones. The two differ by the first bit:
    # -128 is 1000_0000, which is to be 0000_0000.
    shift = torch.tensor(float(zero - 128))
    signed = torch.empty(inputs.shape, dtype=torch.int8)
    for target, some in zip(_in_parts(signed), _in_parts(inputs), strict=True):
        target.copy_(torch.add(shift, some, alpha=1 / scale).round_())
    return signed.view(torch.uint8).bitwise_xor_(128), scale, zero


def has_int8() -> bool:
    """Whether this torch multiplies int8 weights with what comes in."""
    return hasattr(torch, "quantize_per_channel") and torch.backends.quantized.engine != "none"


@functools.cache
def has_fused_int8() -> bool:
    """Whether oneDNN's int8 products work here: a small layer is tried.

    Torch uses the operation itself, and does not promise to keep it; without it there is `PlainInt8Linear`.
    """
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(64, 32)
    inputs = torch.randn(4, 64, generator=generator)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(32, 64, generator=generator))
        linear.bias.copy_(torch.randn(32, generator=generator))
        expected = nn.functional.gelu(linear(inputs))
        try:
            found = FusedInt8Linear(linear, "gelu", torch.bfloat16)(inputs).float()
        except (RuntimeError, AttributeError, TypeError):
            return False
    # Int8 and bfloat16 are wrong by some hundredths of numbers of about 8; a wrong operation by as much as they are.
    return bool((found - expected).abs().max() < 0.5)


@functools.cache
def has_vnni() -> bool:
    """Whether the processor adds up four products of int8 at once.

    Without it two products of 8 bits overflow 16, and what comes in is rounded to one bit less.
    """
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    return known is not None and bool(known())


def _in_parts(numbers: Tensor) -> list[Tensor]:
    """Its rows, 256 at a time: 1024 x 3072 numbers at once leave the cache at each step, and take 3.5 ms, not 1.5."""
    rows = numbers.reshape(-1, numbers.shape[-1])
    return [rows[first : first + 256] for first in range(0, len(rows), 256)]


def _rounded(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Its weights as int8 (out, in), and the scale of each output."""
    weight = linear.weight.detach().float()
    scales = (weight.abs().amax(dim=1) / LARGEST).clamp(min=1e-12)  # 1e-12: a row of zeros stays one
    return (weight / scales[:, None]).round().to(torch.int8), scales


def _float_bias(linear: nn.Linear) -> Tensor | None:
    return None if linear.bias is None else linear.bias.detach().float().clone()


def _bias_or_zeros(linear: nn.Linear) -> Tensor:
    bias = _float_bias(linear)
    return torch.zeros(linear.out_features) if bias is None else bias
