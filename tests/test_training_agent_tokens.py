"""Which tokens of a run are trained: the published masks, and what is better about ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from visrag_integrations.errors import SettingError
from visrag_integrations.training.agent import TokenTurn, own_token_mask, split_turns

CASES = json.loads((Path(__file__).parent / "data" / "training" / "vrag_rl.json").read_text())["loss_masks"]
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
PIECES = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *SPECIAL]


def decode(ids: Sequence[int]) -> str:
    """One byte a token; the byte-level alphabet writes a blank and a line break as these two letters."""
    return "".join(PIECES[number] for number in ids).replace("Ġ", " ").replace("Ċ", "\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_published_masks(case: dict[str, Any]) -> None:
    ids = case["response_ids"]
    assert decode(ids) == case["response"]
    turns = split_turns(ids, decode)
    mask = own_token_mask(turns, published=True)
    assert mask.shape == (len(ids),)
    trained = [place for start, end in case["trained_spans"] for place in range(start, end)]
    assert mask.nonzero()[:, 0].tolist() == trained


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_padding_picture_is_not_trained(case: dict[str, Any]) -> None:
    turns = split_turns(case["response_ids"], decode)
    mask = own_token_mask(turns)
    published = own_token_mask(turns, published=True)
    assert not bool((mask & ~published).any())
    trained = decode([token for token, own in zip(case["response_ids"], mask.tolist(), strict=True) if own])
    assert "<|image_pad|>" not in trained
    assert bool((mask == published).all()) == ("noise" not in case["id"] and case["id"] != "invalid_twice")


def test_turns_are_who_wrote_them_whatever_they_say() -> None:
    """A model that writes the marks of an observation itself is trained on that."""
    faked = [PIECES.index("<|im_start|>"), 84, 82, 68, 81]
    assert own_token_mask([TokenTurn("assistant", faked), ("user", [1, 2])]).tolist() == [True] * 5 + [False] * 2
    assert own_token_mask([]).tolist() == []
    with pytest.raises(SettingError, match="role 'tool'"):
        own_token_mask([("tool", [1])])
