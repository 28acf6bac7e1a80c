"""The resampler of MiniCPM-V 2.0: 64 learned queries look once at all patches of a picture.

Differences from plain cross-attention:
- the keys get positions, the values do not;
- positions are the 2-d sin-cos of the picture's actual patch grid, width in the first half;
- the saved `pos_embed` belongs to the queries.

Letters: T patches of all pictures together, V the tower's width, D the decoder's width, Q queries, S pictures, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from visrag_integrations.models.attention import Runs, find_attention
from visrag_integrations.models.tables import Grid, TableModule, positions_of_grids

EPS = 1e-6  # as published; torch's own default is 1e-5
HEAD_SIZE = 128  # published as "width // 128 heads"


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """2-d sin-cos positions, float32: (rows * columns, width); columns in the first half, rows in the second.

    >>> sincos_positions(2, 3, 8).shape
    torch.Size([6, 8])
    """
    frequencies = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float32) / (width / 4))
    column = torch.arange(columns, dtype=torch.float32).repeat(rows)  # (rows * columns,)
    row = torch.arange(rows, dtype=torch.float32).repeat_interleave(columns)
    across = torch.outer(column, frequencies)  # (rows * columns, width / 4), as all four parts
    down = torch.outer(row, frequencies)
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1)


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
        """What the positions of a grid add to the projected keys: (rows * columns, D).

        The sines are kept; their projection is not, because training changes its weights.
        """
        weight = self.attn.in_proj_weight[self.width : 2 * self.width]  # the keys' third: (D, D)
        sines = self.table((rows, columns), lambda: sincos_positions(rows, columns, self.width).to(weight.device))
        return (sines @ weight.float().T).to(weight.dtype)

    def _queries(self) -> Tensor:
        """The queries, projected; the same for every picture: (1, H, Q, E)."""
        weight = self.attn.in_proj_weight[: self.width]  # the queries' third: (D, D)
        bias = self.attn.in_proj_bias[: self.width]
        query = F.linear(self.ln_q(self.query) + self.pos_embed, weight, bias)  # (Q, D)
        return query.view(-1, self.heads, HEAD_SIZE).transpose(0, 1)[None]

    def forward(self, x: Tensor, grids: Sequence[Grid], runs: Runs, tables: dict[Grid, Tensor] | None = None) -> Tensor:
        """The tower's output (T, V) to (S, Q, D); arguments as for the tower, with other `tables`."""
        tables = {} if tables is None else tables
        x = self.ln_kv(self.kv_proj(x))  # (T, D)
        key_value = F.linear(x, self.attn.in_proj_weight[self.width :], self.attn.in_proj_bias[self.width :])
        key, value = key_value.view(-1, 2, self.heads, HEAD_SIZE).unbind(1)  # each (T, H, E)
        # Cast, because under autocast the keys are in half precision and the positions are not.
        positions = positions_of_grids(grids, self.positions, tables)  # (T, D)
        key = key + positions.view(key.shape).to(key.dtype)
        query = self._queries()
        outputs = []
        start = 0
        for count, length in runs:
            end = start + count * length
            shape = (count, length, self.heads, HEAD_SIZE)
            k = key[start:end].view(shape).transpose(1, 2)  # (S, H, N, E)
            v = value[start:end].view(shape).transpose(1, 2)
            attended = self.attention(query.expand(count, -1, -1, -1), k, v, False)  # (S, H, Q, E)
            outputs.append(attended.transpose(1, 2).flatten(2))
            start = end
        seen = self.attn.out_proj(torch.cat(outputs))  # (S, Q, D)
        vectors: Tensor = self.ln_post(seen) @ self.proj
        return vectors
