"""Attention in two spellings, over sequences that are packed end to end instead of padded.

Letters: T tokens of all sequences together, H heads, K key/value heads, E head size, B sequences, N or M tokens of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812  (the field's spelling)
from torch import Tensor

from visrag_integrations.errors import UnknownNameError

Attention = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
"""(queries (B, H, N, E), keys (B, H, M, E), values (B, H, M, E), causal) -> (B, H, N, E)."""

Runs = Sequence[tuple[int, int]]
"""How a packed tensor is made up: `(2, 9), (1, 4)` is two sequences of 9 tokens, then one of 4."""


def sdpa_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """Torch's fused attention; a causal mask costs nothing, since none is ever written out."""
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


def eager_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """The textbook formula, softmax in float32: slow, to compare with."""
    scores = (query @ key.transpose(-2, -1)).float() * query.shape[-1] ** -0.5  # (B, H, N, M)
    if causal:
        # A token sees itself and what comes before it; above the diagonal is what comes after.
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    attended: Tensor = scores.softmax(dim=-1).to(value.dtype) @ value
    return attended


ATTENTIONS: dict[str, Attention] = {"sdpa": sdpa_attention, "eager": eager_attention}


def find_attention(name: str) -> Attention:
    """The attention of that name.

    Raises:
        UnknownNameError: There is none; the message lists the names.
    """
    if name not in ATTENTIONS:
        raise UnknownNameError(f"Unknown attn_implementation {name!r}. Choose one of: {', '.join(sorted(ATTENTIONS))}.")
    return ATTENTIONS[name]


def attend_packed(attention: Attention, query: Tensor, key: Tensor, value: Tensor, runs: Runs) -> Tensor:
    """Each sequence attends to itself only: (T, H, E) three times -> (T, H, E).

    Runs of equally long sequences go through the kernel together, so nothing is padded and nothing is masked.
    """
    outputs = []
    start = 0
    for count, length in runs:
        end = start + count * length
        shape = (count, length, *query.shape[1:])
        q = query[start:end].view(shape).transpose(1, 2)  # (B, H, N, E)
        k = key[start:end].view(shape).transpose(1, 2)
        v = value[start:end].view(shape).transpose(1, 2)
        attended = attention(q, k, v, False).transpose(1, 2)  # (B, N, H, E)
        outputs.append(attended.reshape(end - start, *query.shape[1:]))
        start = end
    if len(outputs) == 1:  # no copy
        return outputs[0]
    return torch.cat(outputs)
