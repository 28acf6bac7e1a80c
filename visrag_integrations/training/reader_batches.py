"""Conversations as tensors, and several of them as a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOT_LEARNED = -100  # what torch's cross-entropy leaves out


@dataclass(frozen=True)
class EncodedExample:
    """One conversation as tensors.

    Attributes:
        tokens: `(T,)`.
        labels: `(T,)`: the tokens that are learned, `NOT_LEARNED` at the others.
        pictures: What the network takes of the pictures, by name, each along its first axis.
    """

    tokens: Tensor
    labels: Tensor
    pictures: Mapping[str, Tensor]
    token_types: Tensor | None


def join_examples(examples: Sequence[EncodedExample], pad: int) -> dict[str, Tensor]:
    """A batch, padded on the right."""
    longest = max(len(example.tokens) for example in examples)
    batch: dict[str, Tensor] = {}
    shape = (len(examples), longest)
    tokens = torch.full(shape, pad)
    labels = torch.full(shape, NOT_LEARNED)
    mask = torch.zeros(shape, dtype=torch.long)
    types = torch.zeros(shape, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens[row, :length] = example.tokens
        labels[row, :length] = example.labels
        mask[row, :length] = 1
        if example.token_types is not None:
            types[row, :length] = example.token_types
    batch |= {"input_ids": tokens, "labels": labels, "attention_mask": mask, "mm_token_type_ids": types}
    shown: dict[str, list[Tensor]] = {}
    for example in examples:
        for name, values in example.pictures.items():
            shown.setdefault(name, []).append(values)
    for name, parts in sorted(shown.items()):
        batch[name] = torch.cat(parts)
    return batch
