"""Which tokens of a run the model wrote itself: only those are trained.

A run of the agent is one long sequence: what the model wrote, and between it what it was shown and told. Training on
the latter would teach the model to write observations itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from visrag_integrations.errors import SettingError
from visrag_integrations.training.spelling import spell

TurnRole = Literal["assistant", "user", "padding"]
"""Who wrote a turn: the model, its surroundings, or nobody: the picture put behind a run that was shown none."""
ROLES = ("assistant", "user", "padding")

# Where the published code finds what it masks. They belong to the observation between them, but for the end-of-turn
# sign before the first.
BEGIN = "\n<|im_start|>user\n"
END = "<|im_end|>\n<|im_start|>assistant\n"


class TokenTurn(NamedTuple):
    """A part of a run.

    Attributes:
        role: Who wrote it.
        tokens: Its token ids.
    """

    role: TurnRole
    tokens: Sequence[int]


def own_token_mask(turns: Iterable[tuple[str, Sequence[int]]], *, published: bool = False) -> Tensor:
    """The tokens that are trained: those the model wrote.

    Args:
        turns: `TokenTurn`s or pairs of a role and token ids, in order.
        published: The padding picture is trained too, as in the published code, whose search for it fails.

    Returns:
        `(T,)`, bool, T the tokens of all turns together.

    >>> own_token_mask([("assistant", [5, 6]), ("user", [7, 8, 9]), ("assistant", [5])]).tolist()
    [True, True, False, False, False, True]
    """
    mask: list[bool] = []
    for role, tokens in turns:
        if role not in ROLES:
            raise SettingError(f"a turn has the role {role!r}; it is one of {', '.join(ROLES)}.")
        own = role == "assistant" or (published and role == "padding")
        mask += [own] * len(tokens)
    return torch.tensor(mask, dtype=torch.bool)


def split_turns(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[TokenTurn]:
    """A run whose tokens alone are known, as turns: by the marks that Qwen's chat template puts around them.

    Rollouts of this library know who wrote what and need no search; this is for runs from elsewhere.

    Args:
        tokens: From the first that the model wrote.
        decode: Token ids to text, with the special tokens.
    """
    text, offsets = spell(tokens, decode)
    turns: list[TokenTurn] = []
    start = 0  # characters before it are in a turn
    while True:
        begin = text.find(BEGIN, start)
        if begin < 0:
            turns.append(TokenTurn("assistant", _between(tokens, offsets, start, len(text))))
            break
        turns.append(TokenTurn("assistant", _between(tokens, offsets, start, begin)))
        end = text.find(END, begin)
        if end < 0:
            # Nobody was to write after it, so it is no observation.
            turns.append(TokenTurn("padding", _between(tokens, offsets, begin, len(text))))
            break
        start = end + len(END)
        turns.append(TokenTurn("user", _between(tokens, offsets, begin, start)))
    return [turn for turn in turns if turn.tokens]


def _between(tokens: Sequence[int], offsets: Sequence[tuple[int, int]], first: int, last: int) -> list[int]:
    """The tokens that begin at these characters."""
    found: list[int] = []
    for token, (start, _) in zip(tokens, offsets, strict=True):
        if first <= start < last:
            found.append(token)
    return found
