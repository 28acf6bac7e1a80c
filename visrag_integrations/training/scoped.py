"""RS-GRPO's loss: each reward moves only the tokens it judges.

Source: EVisRAG (https://arxiv.org/abs/2510.09733), `verl/trainer/core_algos.py` and `dp_actor.py` of its repository.

Letters: B responses, T tokens of a response, K rewards. The functions need torch alone; `ScopedGRPOTrainer`, which
trains with them, is loaded when it is asked for (`scoped_trainer.py`), because it needs TRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visrag_integrations.errors import SettingError

NO_DIVISION_BY_ZERO = 1e-6
"""Added to the deviation of a group, as published."""
FARTHEST = 20.0
"""Log-probabilities further apart than this are taken as this far apart: e^20 is far beyond every clip, and e^89 is
infinite in float32."""
LARGEST_KL = 10.0
"""Of one token, as published (low_var_kl): e^distance has no limit of its own."""


def group_advantages(rewards: Tensor, groups: Tensor | Sequence[int]) -> Tensor:
    """How much better each response is than the others to the same prompt, for each reward by itself.

    `(reward - mean of the group) / (deviation of the group + 1e-6)`, with the deviation of a sample (n - 1). A group
    without variance has the advantage 0, and so has a group of one, where the published code stops with an error.

    Args:
        rewards: `(B, K)`; NaN where a reward says nothing of a response: its advantage is 0, and the others of the
            group are compared with each other.
        groups: `(B,)`: which prompt each response belongs to, in any order.

    Returns:
        `(B, K)`.

    >>> group_advantages(torch.tensor([[1.0], [3.0], [7.0]]), [0, 0, 5]).tolist()
    [[-0.7071...], [0.7071...], [0.0]]
    """
    numbers = torch.as_tensor(groups, device=rewards.device)
    if rewards.ndim != 2 or numbers.shape != rewards.shape[:1]:
        raise SettingError(
            f"rewards have the shape {tuple(rewards.shape)} and groups {tuple(numbers.shape)}; "
            "they must be (B, K) and (B,)."
        )
    advantages = torch.zeros_like(rewards)
    for number in torch.unique(numbers):
        rows = (numbers == number).nonzero()[:, 0]
        for reward in range(rewards.shape[1]):
            said = rows[~rewards[rows, reward].isnan()]
            group = rewards[said, reward]
            # Equal rewards by comparison, not by their deviation: the mean of eight times 0.1 is not quite 0.1, and
            # that little divided by 1e-6 would be an advantage.
            if len(group) < 2 or bool((group == group[0]).all()):
                continue
            advantages[said, reward] = (group - group.mean()) / (group.std() + NO_DIVISION_BY_ZERO)
    return advantages


def scoped_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    reward_masks: Tensor,
    *,
    totals: Tensor | None = None,
    speaking: Tensor | int | None = None,
    low: float = 0.2,
    high: float = 0.28,
    dual: float = 3.0,
) -> Tensor:
    """The clipped policy loss of every reward over its own tokens, averaged over the rewards that say anything.

    Clipping depends on the sign of the advantage, so each reward is clipped by itself; one summed advantage would give
    another gradient as soon as the policy has moved.

    Args:
        log_probs: `(B, T)` of the tokens, by the model that is trained.
        old_log_probs: `(B, T)`, by the model that wrote them.
        advantages: `(B, K)`.
        reward_masks: `(B, K, T)`, bool or float, 0 at padding: which tokens each reward reaches.
        totals: `(K,)`: the tokens each reward reaches in the whole batch, over all devices, where this is a part of it;
            the losses of the parts then add up to the loss of the whole. None: this is the whole batch.
        speaking: How many rewards of the whole batch say anything. None: those whose loss is not 0 in this part, as
            published; then the length of a step depends on how the batch is cut into parts.
        low: The ratio is clipped at 1 - low,
        high: and at 1 + high.
        dual: Where the advantage is below 0, the loss of a token is at most `dual` times its size.

    Returns:
        A scalar; 0, with a gradient of 0, where no response is better than another.
    """
    _check_shapes(log_probs, old_log_probs, advantages, reward_masks)
    masks = reward_masks.to(log_probs.dtype)
    if totals is None:
        totals = masks.sum(dim=(0, 2))  # (K,)
    distance = (log_probs - old_log_probs).clamp(-FARTHEST, FARTHEST)
    ratio = distance.exp()[:, None]  # (B, 1, T)
    clipped_ratio = ratio.clamp(1 - low, 1 + high)

    gain = advantages[:, :, None]  # (B, K, 1)
    losses = torch.maximum(-gain * ratio, -gain * clipped_ratio)  # (B, K, T)
    losses = torch.where(gain < 0, torch.minimum(losses, -gain * dual), losses)

    sums = (losses * masks).sum(dim=(0, 2))  # (K,)
    count = (sums != 0).sum() if speaking is None else torch.as_tensor(speaking, device=sums.device)
    # clamp: a reward that reaches no token, or a batch in which none speaks, adds 0 and not 0 / 0
    return (sums / totals.clamp(min=1)).sum() / count.clamp(min=1)


def __getattr__(name: str) -> Any:
    if name == "ScopedGRPOTrainer":
        from visrag_integrations.training.lazily import trl_name

        return trl_name("visrag_integrations.training.scoped_trainer", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")


def _check_shapes(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, reward_masks: Tensor) -> None:
    fits = log_probs.ndim == 2 and old_log_probs.shape == log_probs.shape and advantages.ndim == 2
    if fits:
        responses, tokens = log_probs.shape
        fits = reward_masks.shape == (responses, advantages.shape[1], tokens) and len(advantages) == responses
    if not fits:
        raise SettingError(
            f"log_probs {tuple(log_probs.shape)}, old_log_probs {tuple(old_log_probs.shape)}, advantages "
            f"{tuple(advantages.shape)} and reward_masks {tuple(reward_masks.shape)} do not fit; they must be (B, T), "
            "(B, T), (B, K) and (B, K, T)."
        )
