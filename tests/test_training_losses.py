"""The contrastive loss and GradCache against VisRAG's own code, on one process and on two (`tests/data/training`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from visrag_integrations.errors import SettingError
from visrag_integrations.training.gradcache import Vectors, backward_cached
from visrag_integrations.training.losses import contrastive

GOLDEN = np.load(Path(__file__).parent / "data" / "training" / "contrastive.npz")
WORKER = Path(__file__).parent / "training_worker.py"
LOSS_CASES = ["pairs", "negatives3", "warm", "wide"]
CACHE_CASES = ["gc_pairs", "gc_negatives3"]


def golden(name: str) -> Any:
    return GOLDEN[name]


def tensor(name: str) -> Tensor:
    return torch.from_numpy(np.array(golden(name)))


def close(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1e-12)


class TwoTowers(nn.Module):
    """The network that the golden GradCache numbers were made with."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.p1, self.p2 = nn.Linear(6, 8), nn.Linear(5, 8), nn.Linear(8, 8)
        self.load_state_dict({name: tensor(f"net.{name}") for name in self.state_dict()})

    def embed(self, x: Tensor, y: Tensor) -> Vectors:
        return F.normalize(self.q(x), dim=-1), F.normalize(self.p2(torch.tanh(self.p1(y))), dim=-1)


def whole_loss(parts: list[Vectors]) -> Tensor:
    return contrastive(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))


def micro_batches(x: Tensor, y: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    per_query = len(y) // len(x)
    return list(zip(x.split(size), y.split(size * per_query), strict=True))


@pytest.mark.parametrize("case", LOSS_CASES)
def test_the_loss_and_its_gradients_are_the_published_ones(case: str) -> None:
    queries, pages = tensor(f"w1.{case}.queries").requires_grad_(), tensor(f"w1.{case}.pages").requires_grad_()
    loss = contrastive(queries, pages, float(golden(f"w1.{case}.temperature")))
    loss.backward()
    close(loss.item(), golden(f"w1.{case}.loss_per_rank")[0])
    close(queries.grad, golden(f"w1.{case}.grad_queries"))
    close(pages.grad, golden(f"w1.{case}.grad_pages"))


@pytest.mark.parametrize("case", CACHE_CASES)
@pytest.mark.parametrize("mode", ["plain", "cache2", "cache1"])
def test_gradcache_gives_the_gradients_of_the_whole_batch(case: str, mode: str) -> None:
    net, x, y = TwoTowers(), tensor(f"w1.{case}.X"), tensor(f"w1.{case}.Y")
    if mode == "plain":
        loss = whole_loss([net.embed(x, y)])
        loss.backward()
    else:
        parts = micro_batches(x, y, int(mode[-1]))
        loss = backward_cached(parts, lambda part: net.embed(*part), whole_loss)
    close(loss.item(), golden(f"w1.{case}.{mode}.loss_times_world")[0])
    for name, weight in net.named_parameters():
        close(weight.grad, golden(f"w1.{case}.{mode}.grad.{name}"))


@pytest.mark.slow
def test_two_processes_give_the_published_numbers_and_one_big_batch(tmp_path: Path) -> None:
    """Real `torch.distributed` with gloo: each process has its half, and DDP averages the gradients."""
    init = f"file://{tmp_path / 'rendezvous'}"
    workers = [
        subprocess.Popen([sys.executable, str(WORKER), init, str(rank), str(tmp_path)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate()
        assert worker.returncode == 0, errors.decode()[-2000:]
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for case in LOSS_CASES:
        close([each[f"{case}.loss"] for each in found], golden(f"w2.{case}.loss_per_rank"))
        close(torch.cat([each[f"{case}.grad_queries"] for each in found]), golden(f"w2.{case}.grad_queries"))
        close(torch.cat([each[f"{case}.grad_pages"] for each in found]), golden(f"w2.{case}.grad_pages"))
        # DDP halves these: exactly the gradient of one process with the whole batch.
        queries, pages = tensor(f"w2.{case}.queries").requires_grad_(), tensor(f"w2.{case}.pages").requires_grad_()
        contrastive(queries, pages, float(golden(f"w2.{case}.temperature"))).backward()
        close(torch.cat([each[f"{case}.grad_queries"] for each in found]) / 2, queries.grad)
    for case in CACHE_CASES:
        for mode in ("plain", "cache2", "cache1"):
            close([each[f"{case}.{mode}.loss"] for each in found], golden(f"w2.{case}.{mode}.loss_times_world"))
        for name in TwoTowers().state_dict():
            for rank in range(2):
                close(found[rank][f"{case}.cache2.grad.{name}"], golden(f"w2.{case}.cache2.grad.{name}"))
    # Ids are gathered too: a page that another process holds is no negative either.
    assert [each["same_ids"] for each in found] == [0.0, 0.0]
    for each in found:
        assert "same size on all" in each["unequal"]


def test_the_same_page_is_never_its_own_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(3, 4, generator=generator), dim=-1)
    pages = F.normalize(torch.randn(3, 4, generator=generator), dim=-1)
    pages[2] = pages[0]
    # By hand: query 0 is compared with pages 0 and 1, query 1 with all, query 2 with pages 2 and 1.
    scores = queries @ pages.T / 0.5
    by_hand = -torch.stack(
        [
            scores[0, 0] - torch.logsumexp(scores[0, [0, 1]], 0),
            scores[1, 1] - torch.logsumexp(scores[1], 0),
            scores[2, 2] - torch.logsumexp(scores[2, [1, 2]], 0),
        ]
    ).mean()
    close(contrastive(queries, pages, 0.5, page_ids=["a", "b", "a"]), by_hand)
    close(contrastive(queries, pages, 0.5, page_ids=torch.tensor([7, 8, 7])), by_hand)


def test_all_pages_equal_gives_no_loss_and_no_gradient() -> None:
    queries = F.normalize(torch.ones(2, 4), dim=-1).requires_grad_()
    loss = contrastive(queries, queries.detach(), page_ids=["a", "a"])
    loss.backward()
    assert loss.item() == 0
    assert queries.grad is not None
    assert not queries.grad.any()


@pytest.mark.parametrize(
    ("queries", "pages"), [((2, 4), (3, 4)), ((2, 4), (2, 5)), ((4,), (4,)), ((0, 4), (0, 4)), ((2, 4), (1, 4))]
)
def test_shapes_that_do_not_fit_are_named(queries: tuple[int, ...], pages: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match=r"\(B \* n, D\)"):
        contrastive(torch.ones(queries), torch.ones(pages))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_above_zero(temperature: float) -> None:
    with pytest.raises(SettingError, match="must be above 0"):
        contrastive(torch.eye(2), torch.eye(2), temperature)


def test_page_ids_are_one_a_page() -> None:
    with pytest.raises(SettingError, match="1 page_ids for 2 pages"):
        contrastive(torch.eye(2), torch.eye(2), page_ids=["a"])


def test_dropout_draws_the_same_in_both_passes() -> None:
    """Otherwise the gradients belong to other vectors than those the loss was made of."""
    torch.manual_seed(0)
    layer, drop = nn.Linear(6, 8, bias=False), nn.Dropout(0.5)
    x = torch.randn(4, 6)
    seen: list[Tensor] = []

    def embed(part: Tensor) -> Vectors:
        vectors = F.normalize(drop(layer(part)), dim=-1)
        seen.append(vectors.detach())
        return vectors, vectors

    state = torch.get_rng_state()
    backward_cached(x.split(2), embed, whole_loss)
    assert torch.equal(torch.cat(seen[:2]), torch.cat(seen[2:]))
    left = torch.rand(1)
    # What is drawn after the step is what one forward pass would have left.
    torch.set_rng_state(state)
    for part in x.split(2):
        drop(layer(part))
    assert torch.equal(left, torch.rand(1))
