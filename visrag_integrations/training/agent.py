"""Training the agent by VRAG-RL's recipe: which tokens are trained, the loss of whole runs, and the trainer.

`AgentGRPOTrainer` needs TRL and is loaded when it is asked for; the rest needs torch alone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from visrag_integrations.training.agent_tokens import TokenTurn, own_token_mask, split_turns
from visrag_integrations.training.scoped import LARGEST_KL

__all__ = ["TokenTurn", "kl_to_start", "own_token_mask", "split_turns", "trajectory_loss"]


def trajectory_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    low: float = 0.2,
    high: float = 0.2,
    weights: Tensor | None = None,
) -> Tensor:
    """The clipped policy loss of every run, averaged over the tokens the model wrote in it.

    A run counts as much as any other, however long it is: as published, whose micro-batches are of one run each.

    Args:
        log_probs: `(B, T)` of the tokens, by the model that is trained.
        old_log_probs: `(B, T)`, by the model that wrote them.
        advantages: `(B,)` of the runs.
        mask: `(B, T)`: 1 at tokens that are trained.
        low: The ratio is clipped at 1 - low,
        high: and at 1 + high.
        weights: `(B, T)` or `(B, 1)`: how much likelier the network finds a token, or a run, than the engine that drew
            it; None where they are one.

    Returns:
        `(B,)`; 0 for a run without a trained token.
    """
    ratio = (log_probs - old_log_probs).exp()
    gain = advantages[:, None]
    losses = (-gain * ratio).maximum(-gain * ratio.clamp(1 - low, 1 + high))
    if weights is not None:
        losses = losses * weights
    return _mean_of_own(losses, mask)


def kl_to_start(log_probs: Tensor, start_log_probs: Tensor, mask: Tensor) -> Tensor:
    """How far each run's tokens have moved from the network that training began with (low_var_kl).

    Args:
        log_probs: `(B, T)`.
        start_log_probs: `(B, T)`, by the network that training began with.
        mask: `(B, T)`: 1 at tokens that are trained.

    Returns:
        `(B,)`.
    """
    difference = start_log_probs - log_probs
    each = (difference.exp() - difference - 1).clamp(-LARGEST_KL, LARGEST_KL)
    return _mean_of_own(each, mask)


def _mean_of_own(values: Tensor, mask: Tensor) -> Tensor:
    own = mask.to(values.dtype)
    return (values * own).sum(dim=1) / own.sum(dim=1).clamp(min=1)


def __getattr__(name: str) -> Any:
    if name == "AgentGRPOTrainer":
        from visrag_integrations.training.lazily import trl_name

        return trl_name("visrag_integrations.training.agent_trainer", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")
