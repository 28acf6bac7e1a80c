"""Rows and batches of GRPO as TRL lays them out: prompts with their pictures, and who wrote which token. Needs TRL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from trl.data_utils import is_conversational, prepare_multimodal_messages


def own_tokens(inputs: dict[str, Any]) -> Tensor:
    """`(B, T)`: 1 at tokens the network wrote, 0 at padding and at what others put in between."""
    mask: Tensor = inputs["completion_mask"]
    tools = inputs.get("tool_mask")
    if tools is not None:
        mask = mask * tools
    return mask


def conversations_of(inputs: Sequence[dict[str, Any]]) -> list[Any]:
    """The prompts with their pictures inside, as TRL hands them to `_generate`."""
    prompts = []
    for row in inputs:
        pictures = row.get("images")
        if pictures is None and row.get("image") is not None:
            pictures = [row["image"]]
        if pictures and is_conversational({"prompt": row["prompt"]}):
            prompts.append(prepare_multimodal_messages(row["prompt"], images=pictures))
        else:
            prompts.append(row["prompt"])
    return prompts
