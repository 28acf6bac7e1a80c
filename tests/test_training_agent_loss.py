"""The loss of whole runs against the published numbers (`tests/data/training/vrag_rl_arrays.npz`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from visrag_integrations.training.agent import kl_to_start, trajectory_loss
from visrag_integrations.training.scoped import group_advantages

GOLDEN = np.load(Path(__file__).parent / "data" / "training" / "vrag_rl_arrays.npz")


def tensor(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def test_the_published_loss_and_gradient() -> None:
    """The file's batch is averaged over its tokens: the runs' means, weighted by their tokens."""
    mask = tensor("loss.mask")
    log_probs = tensor("loss.log_probs").clone().requires_grad_(True)
    each = trajectory_loss(log_probs, tensor("loss.old_log_probs"), tensor("loss.advantages")[:, 0], mask)
    share = mask.sum(dim=1) / mask.sum()
    loss = (each * share).sum()
    assert loss.item() == pytest.approx(float(GOLDEN["loss.loss"]), rel=1e-5)
    loss.backward()
    assert log_probs.grad is not None
    torch.testing.assert_close(log_probs.grad, tensor("loss.grad"), rtol=1e-5, atol=1e-6)


def test_the_published_distance() -> None:
    mask = tensor("loss.mask")
    log_probs = tensor("loss.log_probs")
    each = kl_to_start(log_probs, tensor("kl.ref"), mask)
    by_token = tensor("kl.low_var_kl")
    torch.testing.assert_close(each, (by_token * mask).sum(dim=1) / mask.sum(dim=1), rtol=1e-5, atol=1e-6)
    far = kl_to_start(log_probs, log_probs + 50, mask)
    torch.testing.assert_close(far, torch.full((4,), 10.0))


def test_the_published_advantages() -> None:
    """But for a group of one, which keeps its reward there and has nothing to be compared with here."""
    rewards = tensor("grpo.token_rewards").sum(dim=1, keepdim=True)
    groups = tensor("grpo.group")
    ours = group_advantages(rewards, groups)[:, 0]
    theirs = tensor("grpo.expected")[:, 0]
    alone = 0
    for place in range(len(groups)):
        if int((groups == groups[place]).sum()) == 1:
            assert ours[place] == 0
            alone += 1
        else:
            assert ours[place].item() == pytest.approx(theirs[place].item(), rel=1e-4, abs=1e-5)
    assert alone == 1


def test_a_run_without_a_token_of_its_own_moves_nothing() -> None:
    log_probs = torch.zeros(2, 3, requires_grad=True)
    mask = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    loss = trajectory_loss(log_probs, torch.zeros(2, 3), torch.tensor([1.0, 5.0]), mask)
    assert loss.tolist() == [-1.0, 0.0]
    loss.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.nonzero().tolist() == [[0, 0]]


def test_a_run_that_the_engine_found_likelier_counts_less() -> None:
    """By run, and by token; as a share of the run's tokens, not of their weights, which would undo it."""
    log_probs = torch.zeros(2, 2, requires_grad=True)
    mask = torch.ones(2, 2)
    by_run = trajectory_loss(
        log_probs, torch.zeros(2, 2), torch.tensor([1.0, 1.0]), mask, weights=torch.tensor([[0.5], [2.0]])
    )
    assert by_run.tolist() == [-0.5, -2.0]
    by_token = trajectory_loss(
        log_probs, torch.zeros(2, 2), torch.tensor([1.0, 1.0]), mask, weights=torch.tensor([[0.5, 1.5], [0.0, 1.0]])
    )
    assert by_token.tolist() == [-1.0, -0.5]
