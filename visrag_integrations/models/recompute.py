"""One layer after the other; in training, where it is asked for, without keeping what is inside of each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, x: Tensor, *others: Any, recompute: bool) -> Tensor:
    """`block(x, *others)`.

    Args:
        block: A layer of a network.
        x: What goes through all layers.
        others: What else the layer takes.
        recompute: Whether the backward pass computes the layer again, so that its inner values need not be kept.
    """
    if recompute and torch.is_grad_enabled():
        # The reentrant kind finds no gradient where only an adapter inside is trained.
        again: Tensor = checkpoint(block, x, *others, use_reentrant=False)
        return again
    result: Tensor = block(x, *others)
    return result
