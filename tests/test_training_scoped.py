"""RS-GRPO's advantages and loss, against the published code (`tests/data/training/rs_grpo_arrays.npz`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from visrag_integrations.errors import SettingError
from visrag_integrations.training.scoped import group_advantages, scoped_loss

GOLDEN = np.load(Path(__file__).parent / "data" / "training" / "rs_grpo_arrays.npz")
ADVANTAGES = sorted({name.split(".")[1] for name in GOLDEN.files if name.startswith("adv.")})
LOSSES = sorted({name.split(".")[1] for name in GOLDEN.files if name.startswith("loss.")} - {"all_zero_is_nan"})


def tensor(name: str) -> Tensor:
    return torch.from_numpy(np.array(GOLDEN[name]))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ADVANTAGES)
def test_published_advantages(case: str) -> None:
    close(group_advantages(tensor(f"adv.{case}.rewards"), tensor(f"adv.{case}.index")), tensor(f"adv.{case}.expected"))


def test_a_group_of_one_has_no_advantage() -> None:
    assert group_advantages(torch.tensor([[5.0, 1.0]]), [3]).tolist() == [[0.0, 0.0]]


def arguments(case: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    names = ("log_probs", "old_log_probs", "advantages", "reward_masks")
    log_probs, old, advantages, masks = (tensor(f"loss.{case}.{name}") for name in names)
    return log_probs.requires_grad_(), old, advantages, masks


@pytest.mark.parametrize("case", LOSSES)
def test_published_loss_and_gradient(case: str) -> None:
    log_probs, old, advantages, masks = arguments(case)
    expected = tensor(f"loss.{case}.micro_losses")
    size = len(log_probs) // len(expected)
    totals = masks.float().sum(dim=(0, 2))
    found = []
    for start in range(0, len(log_probs), size):
        rows = slice(start, start + size)
        loss = scoped_loss(log_probs[rows], old[rows], advantages[rows], masks[rows], totals=totals)
        loss.backward()
        found.append(loss.detach())
    close(torch.stack(found), expected.to(torch.float32))
    assert log_probs.grad is not None
    close(log_probs.grad, tensor(f"loss.{case}.grad_log_probs"))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks_may_be_bool_or_float(dtype: torch.dtype) -> None:
    log_probs, old, advantages, masks = arguments("off_policy")
    loss = scoped_loss(log_probs, old, advantages, masks.to(dtype))
    close(loss, torch.tensor(float(GOLDEN["loss.off_policy.loss"])))


def test_no_advantage_at_all_is_a_zero_step() -> None:
    """The published code divides 0 by 0 there."""
    log_probs, old, advantages, masks = arguments("all_zero_is_nan")
    loss = scoped_loss(log_probs, old, advantages, masks)
    loss.backward()
    assert loss.item() == 0
    assert log_probs.grad is not None
    assert not log_probs.grad.any()


def test_log_probs_far_apart_stay_finite() -> None:
    log_probs = torch.tensor([[0.0, 0.0]], requires_grad=True)
    loss = scoped_loss(log_probs, torch.tensor([[-500.0, -500.0]]), torch.tensor([[-1.0]]), torch.ones(1, 1, 2))
    loss.backward()
    assert loss.item() == pytest.approx(3.0)  # held by `dual`
    assert log_probs.grad is not None
    assert log_probs.grad.isfinite().all()


def test_a_reward_reaches_its_own_tokens_only() -> None:
    log_probs = torch.zeros(2, 4, requires_grad=True)
    masks = torch.zeros(2, 2, 4)
    masks[:, 0, :2] = 1
    masks[:, 1, 2:] = 1
    advantages = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    scoped_loss(log_probs, torch.zeros(2, 4), advantages, masks).backward()
    assert log_probs.grad is not None
    assert not log_probs.grad[:, 2:].any()
    assert (log_probs.grad[0, :2] < 0).all()
    assert (log_probs.grad[1, :2] > 0).all()


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(SettingError, match=r"\(B, K, T\)"):
        scoped_loss(torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2, 4, 3))
    with pytest.raises(SettingError, match=r"\(B, K\) and \(B,\)"):
        group_advantages(torch.zeros(2, 3), [0])
