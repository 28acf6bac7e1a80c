"""The SigLIP vision tower of MiniCPM-V 2.0, over pictures of any shape, packed.

Differences from a plain vision transformer:
- no class token and no pooling head: every patch comes out, after the final norm;
- the last block is dropped: of 27 blocks 26 exist;
- learned positions belong to a 27 x 27 grid and are resampled to each picture's grid (bicubic, antialiased, float32);
- GELU is the exact one (erf); LayerNorm eps is 1e-6.

Letters: T patches of all pictures together, D width, H heads, E = D / H, P = 3 * patch * patch numbers of one patch.
The patch projection is published as a convolution; its weight is read as the matrix (D, P) that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from visrag_integrations.models.attention import Attention, Runs, attend_packed, find_attention
from visrag_integrations.models.recompute import run_block
from visrag_integrations.models.tables import Grid, positions_of_grids

EPS = 1e-6  # as published; torch's own default is 1e-5


@dataclass(frozen=True)
class SiglipConfig:
    """Sizes of the tower; the defaults are so400m/14 at 384 px, which the released checkpoints use."""

    embed_dim: int = 1152
    depth: int = 27  # blocks, before the last one is dropped
    num_heads: int = 16
    intermediate_size: int = 4304
    image_size: int = 384  # pixels a side the learned positions were trained for
    patch_size: int = 14
    drop_last: bool = True

    @property
    def blocks(self) -> int:
        """How many blocks there are in the file."""
        return self.depth - self.drop_last


class PatchEmbedding(nn.Module):
    """Patches to vectors: (T, P) -> (T, D)."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, stride=config.patch_size)

    def forward(self, patches: Tensor) -> Tensor:
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class TowerAttention(nn.Module):
    """The two projections around attention."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)


class TowerMLP(nn.Module):
    """Two layers with an exact GELU between: (T, D) -> (T, D)."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return hidden


class Block(nn.Module):
    """Pre-norm attention and MLP; `project` and `finish` know nothing of where one picture ends and the next begins."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=EPS)
        self.attn = TowerAttention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=EPS)
        self.mlp = TowerMLP(config)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(T, D) -> queries, keys, values, each (T, H, E)."""
        qkv = self.attn.qkv(self.norm1(x)).view(x.shape[0], 3, self.heads, -1)  # (T, 3, H, E)
        query, key, value = qkv.unbind(1)
        return query, key, value

    def forward(self, x: Tensor, attention: Attention, runs: Runs) -> Tensor:
        """(T, D) -> (T, D); each picture attends to itself only."""
        return self.finish(x, attend_packed(attention, *self.project(x), runs))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """(T, D), (T, H, E) -> (T, D)."""
        x = x + self.attn.proj(attended.flatten(1))
        finished: Tensor = x + self.mlp(self.norm2(x))
        return finished


class SiglipTower(nn.Module):
    """Patches of any number of pictures, packed, to one vector each: (T, P) -> (T, D)."""

    def __init__(self, config: SiglipConfig, attn_implementation: str = "sdpa") -> None:
        super().__init__()
        self.side = config.image_size // config.patch_size
        self.attention = find_attention(attn_implementation)
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = nn.Parameter(torch.empty(1, self.side**2, config.embed_dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.embed_dim, eps=EPS)
        self._recompute = False

    def positions(self, rows: int, columns: int) -> Tensor:
        """The learned positions, resampled to that many rows and columns of patches: (rows * columns, D).

        They are not kept, because training changes the weights they come from.
        """
        if (rows, columns) == (self.side, self.side):
            return self.pos_embed[0]
        square = self.pos_embed.float().view(1, self.side, self.side, -1)
        square = square.permute(0, 3, 1, 2)  # (1, D, side, side), as `interpolate` takes pictures
        resampled = F.interpolate(square, size=(rows, columns), mode="bicubic", antialias=True)
        return resampled.flatten(2).transpose(1, 2)[0].to(self.pos_embed.dtype).contiguous()

    def checkpoint_activations(self, on: bool) -> None:
        """Whether training computes each block again in the backward pass instead of keeping its inner values."""
        self._recompute = on

    def forward(
        self, patches: Tensor, grids: Sequence[Grid], runs: Runs, tables: dict[Grid, Tensor] | None = None
    ) -> Tensor:
        """Every patch of every picture, after the final norm.

        Args:
            patches: (T, P), each patch as channel, row, column; pictures one after the other, patches row by row.
            grids: Rows and columns of patches of each picture, in order.
            runs: How many pictures of how many patches follow each other.
            tables: Positions of grids, shared by passes between which the weights stay; see `positions_of_grids`.
        """
        tables = {} if tables is None else tables
        x = self.patch_embed(patches) + positions_of_grids(grids, self.positions, tables)  # (T, D)
        for block in cast("Iterable[Block]", self.blocks):
            x = run_block(block, x, self.attention, runs, recompute=self._recompute)
        normed: Tensor = self.norm(x)
        return normed
