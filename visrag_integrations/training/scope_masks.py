"""Which tokens of a batch of responses each reward reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from visrag_integrations.training.rewards import RewardScope
from visrag_integrations.training.scopes import Span, published_scope, tags_of, token_scope
from visrag_integrations.training.spelling import spell

TokenScope = Callable[[str, Sequence[Span]], "Span | None"]
"""A scope of your own: a response and its tokens' characters -> the first token and the one after the last, or None."""
AnyScope = RewardScope | TokenScope


def scope_masks(
    responses: Sequence[Sequence[int]],
    scopes: Sequence[AnyScope],
    tokenizer: Any,
    *,
    own: Sequence[Sequence[int]] | None = None,
    multiple: int | None = None,
    published: bool = False,
) -> tuple[Tensor, float]:
    """The masks, and the share of responses in which a scope's tag is missing.

    Args:
        responses: The tokens of each, of any length.
        scopes: Of each reward.
        tokenizer: What the tokens are of.
        own: Of each response, 1 at tokens that the network wrote itself; None where it wrote all.
        multiple: The length is padded to a multiple of this.
        published: By the published search for the tokens of a tag.

    Returns:
        `(B, K, T)`, bool, T the length of the longest response.
    """
    longest = max(len(ids) for ids in responses)
    if multiple is not None:
        longest += -longest % multiple
    masks = torch.zeros(len(responses), len(scopes), longest, dtype=torch.bool)
    incomplete = 0

    def decode(ids: Sequence[int]) -> str:
        # As TRL decodes the responses that rewards see.
        text: str = tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def tokens_of(tag: str) -> list[int]:
        ids: list[int] = tokenizer.encode(tag, add_special_tokens=False)
        return ids

    for place, ids in enumerate(responses):
        text, offsets = spell(ids, decode)
        missing = False
        for number, scope in enumerate(scopes):
            if not isinstance(scope, str):
                span = scope(text, offsets)
            elif published:
                span = published_scope(ids, len(ids), scope, tokens_of)
            else:
                span = token_scope(text, offsets, scope)
            if span is not None:
                masks[place, number, span[0] : span[1]] = True
            missing = missing or any(tag not in text for tag in tags_of(scope))
        incomplete += missing
        if own is not None:
            masks[place, :, : len(ids)] &= torch.tensor(own[place], dtype=torch.bool)
    return masks, incomplete / len(responses)
