"""The resampler of MiniCPM-V 2.0: 64 learned queries look once at all patches of a picture.

Oddities: the keys get positions, the values do not; positions are the 2-d sin-cos of the picture's actual patch grid,
width in the first half; the saved `pos_embed` belongs to the queries; LayerNorm eps 1e-6.

Letters: T patches of all pictures together, V the tower's width, D the decoder's width, Q queries, S pictures, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from visrag_integrations.models.attention import Runs, find_attention
from visrag_integrations.models.tables import TableModule

EPS = 1e-6
HEAD_SIZE = 128


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """2-d sin-cos positions, float32: (rows * columns, width); columns in the first half, rows in the second.

    >>> sincos_positions(2, 3, 8).shape
    torch.Size([6, 8])
    """
    frequencies = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float32) / (width / 4))
    column = torch.arange(columns, dtype=torch.float32).repeat(rows)  # (rows * columns,)
    row = torch.arange(rows, dtype=torch.float32).repeat_interleave(columns)
    angles = [torch.outer(place, frequencies) for place in (column, row)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


class Resampler(TableModule):
    """All patches of each picture to Q vectors of the decoder's width: (T, V) -> (S, Q, D)."""

    def __init__(self, queries: int, width: int, vision_width: int, attn_implementation: str = "sdpa") -> None:
        super().__init__()
        self.width = width
        self.heads = width // HEAD_SIZE
        self.attention = find_attention(attn_implementation)
        self.query = nn.Parameter(torch.empty(queries, width))
        self.pos_embed = nn.Parameter(torch.empty(queries, width))
        self.kv_proj = nn.Linear(vision_width, width, bias=False)
        self.attn = nn.MultiheadAttention(width, self.heads)
        self.ln_q = nn.LayerNorm(width, eps=EPS)
        self.ln_kv = nn.LayerNorm(width, eps=EPS)
        self.ln_post = nn.LayerNorm(width, eps=EPS)
        self.proj = nn.Parameter(torch.empty(width, width))

    def positions(self, rows: int, columns: int) -> Tensor:
        """What the positions of a grid add to the projected keys: (rows * columns, D)."""
        return self.table((rows, columns), lambda: self._project_positions(rows, columns))

    def _project_positions(self, rows: int, columns: int) -> Tensor:
        weight = self.attn.in_proj_weight[self.width : 2 * self.width]
        table = sincos_positions(rows, columns, self.width).to(weight.device)
        return (table @ weight.float().T).to(weight.dtype)

    def _queries(self) -> Tensor:
        """The queries, projected; the same for every picture: (1, H, Q, E)."""
        weight, bias = self.attn.in_proj_weight[: self.width], self.attn.in_proj_bias[: self.width]
        query = F.linear(self.ln_q(self.query) + self.pos_embed, weight, bias)  # (Q, D)
        return query.view(-1, self.heads, HEAD_SIZE).transpose(0, 1)[None]

    def forward(self, x: Tensor, grids: Sequence[tuple[int, int]], runs: Runs) -> Tensor:
        """The tower's output (T, V) to (S, Q, D); `grids` and `runs` as for the tower."""
        x = self.ln_kv(self.kv_proj(x))  # (T, D)
        key_value = F.linear(x, self.attn.in_proj_weight[self.width :], self.attn.in_proj_bias[self.width :])
        key, value = key_value.view(-1, 2, self.heads, HEAD_SIZE).unbind(1)  # each (T, H, E)
        key = key + torch.cat([self.positions(*grid) for grid in grids]).view(key.shape)
        query, outputs, start = self._queries(), [], 0
        for count, length in runs:
            end = start + count * length
            shape = (count, length, self.heads, HEAD_SIZE)
            k, v = (part[start:end].view(shape).transpose(1, 2) for part in (key, value))  # (S, H, N, E)
            outputs.append(self.attention(query.expand(count, -1, -1, -1), k, v, False).transpose(1, 2).flatten(2))
            start = end
        seen = self.attn.out_proj(torch.cat(outputs))  # (S, Q, D)
        vectors: Tensor = self.ln_post(seen) @ self.proj
        return vectors
