"""The layers of a SigLIP vision tower on a processor: int8 products, attention in bfloat16, one tile at a time.

What was tried, on what, and what it gave stands in benchmarks/RESULTS.md ("Pages as pictures on a processor").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from visrag_integrations.embedders.int8_linear import GELUS, int8_linear, joined


class FastEncoder(nn.Module):
    """Stands where a `SiglipEncoder` stood.

    Args:
        encoder: Whose layers it takes.
        bfloat16: Whether attention is computed in bfloat16.
    """

    def __init__(self, encoder: Any, bfloat16: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FastLayer(layer, bfloat16) for layer in encoder.layers)

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """What the tower makes of (tiles, patches, size)."""
        assert attention_mask is None, "a vision tower looks at every patch"
        tiles = []
        # One tile at a time: what a layer writes stays in the processor's cache, and each tile has int8 scales of its
        # own, whatever stands beside it on the page.
        for embeds in inputs_embeds:
            # Patches come from a convolution, one number of all patches beside another; every sum and norm of such a
            # layout is slow, seven hundredths of a page in all.
            tile = embeds.contiguous()
            for layer in self.layers:
                tile = layer(tile)
            tiles.append(tile)
        return BaseModelOutput(last_hidden_state=torch.stack(tiles))


class FastLayer(nn.Module):
    """One layer of the tower, for one tile: (patches, size) to (patches, size).

    Args:
        layer: The `SiglipEncoderLayer` whose numbers it takes.
        bfloat16: Whether attention is computed in bfloat16.
    """

    def __init__(self, layer: Any, bfloat16: bool) -> None:
        super().__init__()
        attention = layer.self_attn
        self.attention_norm, self.mlp_norm = layer.layer_norm1, layer.layer_norm2
        self.heads = attention.num_heads
        # The three read the same: together it is made int8 once.
        self.queries_keys_values = int8_linear(
            joined(_scaled(attention.q_proj, attention.scale), attention.k_proj, attention.v_proj),
            dtype=torch.bfloat16 if bfloat16 else torch.float32,
        )
        self.attention = bfloat16_attention if bfloat16 else float32_attention
        self.mixed = int8_linear(attention.out_proj)
        self.widened = _with_activation(layer.mlp)
        self.narrowed = int8_linear(layer.mlp.fc2)

    def forward(self, patches: Tensor) -> Tensor:
        """The patches after attention and the two linear layers, each added to what came in."""
        projected = self.queries_keys_values(self.attention_norm(patches))
        seen = self.attention(projected.unflatten(-1, (3, self.heads, -1)))
        mixed: Tensor = self.mixed(seen)
        patches = patches + mixed
        narrowed: Tensor = self.narrowed(self.widened(self.mlp_norm(patches)))
        return patches + narrowed


def bfloat16_attention(projected: Tensor) -> Tensor:
    """Attention of scaled queries, keys and values (tokens, 3, heads, size), as float32 (tokens, heads * size).

    torch's own takes as long in bfloat16 as in float32; two products and a softmax take two thirds of it.
    """
    by_head = projected.bfloat16().permute(1, 2, 0, 3).contiguous()  # (3, heads, tokens, size)
    queries, keys, values = by_head
    # As many heads at a time as there are threads: each has one head's scores (2 MB a tile) in its own cache. With all
    # twelve at once, 25 MB, this is slower than torch's own; with one at a time threads wait for each other.
    at_once = torch.get_num_threads()
    seen = []
    for first in range(0, len(queries), at_once):
        some = slice(first, first + at_once)
        weights = torch.bmm(queries[some], keys[some].transpose(1, 2)).softmax(dim=-1)
        seen.append(torch.bmm(weights, values[some]))
    by_token = torch.cat(seen).transpose(0, 1)
    return by_token.flatten(1).float()


def float32_attention(projected: Tensor) -> Tensor:
    """The same in float32, by torch's own."""
    queries, keys, values = projected.float().permute(1, 2, 0, 3)[:, None]
    seen = nn.functional.scaled_dot_product_attention(queries, keys, values, scale=1.0)
    return seen[0].transpose(0, 1).flatten(1)


def _with_activation(mlp: Any) -> nn.Module:
    """The first layer and what follows it: in one, where that is a kind of GELU."""
    name = mlp.config.hidden_act
    if name in GELUS:
        return int8_linear(mlp.fc1, gelu=name)
    return nn.Sequential(int8_linear(mlp.fc1), mlp.activation_fn)


def _scaled(linear: nn.Linear, factor: float) -> nn.Linear:
    """The layer with its output times `factor`; its int8 weights are the same, the scales are not."""
    scaled = joined(linear)
    with torch.no_grad():
        scaled.weight.mul_(factor)
        scaled.bias.mul_(factor)
    return scaled
