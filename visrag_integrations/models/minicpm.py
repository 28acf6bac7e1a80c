"""The MiniCPM decoder without its language-model head: token vectors in, hidden states out.

Differences from Llama: token embeddings are multiplied by `scale_emb`, and what each half of a layer adds is
multiplied by `scale_depth / sqrt(num_hidden_layers)`. Always causal, so padding on the right changes nothing before it.

Letters: B sequences, L tokens, D width, H heads, K key/value heads, E = D / H.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from visrag_integrations.models.attention import Attention, find_attention
from visrag_integrations.models.recompute import run_block
from visrag_integrations.models.tables import TableModule


@dataclass(frozen=True)
class MiniCPMConfig:
    """Sizes of the decoder; the defaults are the released checkpoints'."""

    hidden_size: int = 2304
    num_hidden_layers: int = 40
    num_attention_heads: int = 36
    num_key_value_heads: int = 36  # fewer: groups of heads share their keys and values
    intermediate_size: int = 5760
    vocab_size: int = 122753
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    scale_emb: float = 12.0
    scale_depth: float = 1.4
    attention_bias: bool = False

    @property
    def head_size(self) -> int:
        """Numbers of one head."""
        return self.hidden_size // self.num_attention_heads


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, in float32: x (B, L, H, E), cos and sin (L, 1, E / 2); number i turns with number i + E / 2."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return normed


class DecoderAttention(nn.Module):
    """The four projections around attention."""

    def __init__(self, config: MiniCPMConfig) -> None:
        super().__init__()
        shared = config.num_key_value_heads * config.head_size
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=config.attention_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)


class GatedMLP(nn.Module):
    """Gated by SiLU: (B, L, D) -> (B, L, D)."""

    def __init__(self, config: MiniCPMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return hidden


class Layer(nn.Module):
    """Pre-norm attention and MLP, each half scaled before it is added."""

    def __init__(self, config: MiniCPMConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.groups = config.num_attention_heads // config.num_key_value_heads
        self.scale = config.scale_depth / math.sqrt(config.num_hidden_layers)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = DecoderAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GatedMLP(config)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, D) -> rotated queries and keys, and values, each (B, H, L, E)."""
        normed = self.input_layernorm(x)
        attn = self.self_attn
        heads = (*x.shape[:2], -1, self.head_size)  # the number of heads is what is left over: H or K
        query = rotate(attn.q_proj(normed).view(heads), cos, sin)
        key = rotate(attn.k_proj(normed).view(heads), cos, sin)  # (B, L, K, E)
        value = attn.v_proj(normed).view(heads)
        if self.groups > 1:  # each group of query heads gets a copy of its shared head: K -> H
            key = key.repeat_interleave(self.groups, dim=2)
            value = value.repeat_interleave(self.groups, dim=2)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    def forward(self, x: Tensor, attention: Attention, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D); a token sees itself and what comes before it."""
        return self.finish(x, attention(*self.project(x, cos, sin), True))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """(B, L, D), (B, H, L, E) -> (B, L, D)."""
        merged = attended.transpose(1, 2).flatten(2)  # (B, L, D)
        x = x + self.self_attn.o_proj(merged) * self.scale
        finished: Tensor = x + self.mlp(self.post_attention_layernorm(x)) * self.scale
        return finished


class MiniCPMDecoder(TableModule):
    """Token vectors to hidden states after the final norm: (B, L, D) -> (B, L, D)."""

    def __init__(self, config: MiniCPMConfig, attn_implementation: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.attention = find_attention(attn_implementation)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._recompute = False

    def checkpoint_activations(self, on: bool) -> None:
        """Whether training computes each layer again in the backward pass instead of keeping its inner values."""
        self._recompute = on

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids to scaled token vectors: (B, L) -> (B, L, D)."""
        vectors: Tensor = self.embed_tokens(ids) * self.config.scale_emb
        return vectors

    def _rotations(self, length: int) -> tuple[Tensor, Tensor]:
        # Rounded up, so that there are few tables, however many lengths: 2048 tokens, the limit, need 8 of them.
        size = 256 * math.ceil(length / 256)
        table = self.table((size,), lambda: self._make_rotations(size))
        return table[0, :length], table[1, :length]

    def _make_rotations(self, length: int) -> Tensor:
        """Cosines and sines of every position, float32: (2, length, 1, E / 2)."""
        size = self.config.head_size
        device = self.norm.weight.device
        steps = torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
        places = torch.arange(length, dtype=torch.float32, device=device)
        angles = torch.outer(places, 1.0 / self.config.rope_theta**steps)  # (length, E / 2)
        return torch.stack([angles.cos(), angles.sin()])[:, :, None]  # (2, length, 1, E / 2)

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self._rotations(x.shape[1])
        for layer in cast("Iterable[Layer]", self.layers):
            x = run_block(layer, x, self.attention, cos, sin, recompute=self._recompute)
        normed: Tensor = self.norm(x)
        return normed
