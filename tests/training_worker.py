"""One of two processes of `test_training_losses.py`: its half of each golden case, over gloo."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from test_training_losses import CACHE_CASES, LOSS_CASES, TwoTowers, golden, micro_batches, tensor, whole_loss
from torch.nn.parallel import DistributedDataParallel

from visrag_integrations.errors import SettingError
from visrag_integrations.training.gradcache import Vectors, backward_cached
from visrag_integrations.training.losses import contrastive


class Embeds(torch.nn.Module):
    def __init__(self, net: TwoTowers) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Vectors:
        return self.net.embed(x, y)


def main(init: str, rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    found: dict[str, object] = {}
    for case in LOSS_CASES:
        queries = tensor(f"w2.{case}.queries").chunk(2)[rank].clone().requires_grad_()
        pages = tensor(f"w2.{case}.pages").chunk(2)[rank].clone().requires_grad_()
        loss = contrastive(queries, pages, float(golden(f"w2.{case}.temperature")))
        loss.backward()
        found |= {f"{case}.loss": loss.item(), f"{case}.grad_queries": queries.grad, f"{case}.grad_pages": pages.grad}
    for case in CACHE_CASES:
        x, y = (tensor(f"w2.{case}.{name}").chunk(2)[rank] for name in "XY")
        for mode in ("plain", "cache2", "cache1"):
            net = TwoTowers()
            both = DistributedDataParallel(Embeds(net))
            if mode == "plain":
                loss = whole_loss([both(x, y)])
                loss.backward()
            else:
                parts = micro_batches(x, y, int(mode[-1]))
                loss = backward_cached(parts, lambda part, both=both: both(*part), whole_loss, no_sync=both.no_sync)
            found[f"{case}.{mode}.loss"] = loss.item()
            for name, weight in net.named_parameters():
                found[f"{case}.{mode}.grad.{name}"] = weight.grad
    found["same_ids"] = contrastive(torch.eye(2), torch.eye(2), page_ids=["a", "a"]).item()
    try:
        contrastive(torch.eye(2 + rank), torch.eye(2 + rank))
    except SettingError as error:
        found["unequal"] = str(error)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
