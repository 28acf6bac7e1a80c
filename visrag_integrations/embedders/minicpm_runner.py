"""The network's side of an embedder: batches of items through the device, one batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from visrag_integrations.embedders.device_batches import group_by_length
from visrag_integrations.embedders.device_runner import DeviceRunner
from visrag_integrations.embedders.minicpm_batches import make_sequences, stack_pictures
from visrag_integrations.embedders.minicpm_inputs import Item
from visrag_integrations.models.visrag_ret import VisRAGRetModel

# Patches and tokens of a batch. More would fill the memory, fewer would leave the device waiting between batches.
GPU_BUDGET, CPU_BUDGET = 1 << 18, 1 << 13
# Patches in one pass of the tower: enough to fill a GPU; few on a CPU, so that what is computed stays in its cache.
GPU_PASS, CPU_PASS = 1 << 16, 1 << 10
# Tokens under which a run of the decoder costs about the same however few they are.
GPU_FLOOR, CPU_FLOOR = 4096, 64


class Runner(DeviceRunner[VisRAGRetModel, Item]):
    """Batches of items through MiniCPM-V's tower, resampler and decoder."""

    def __init__(self, model: VisRAGRetModel, batch_size: int | None, token_budget: int | None) -> None:
        super().__init__(model, batch_size, token_budget)
        self._patch_pixels: int = model.config.tower.patch_size**2

    def _usual_budget(self, device: torch.device) -> int:
        return CPU_BUDGET if device.type == "cpu" else GPU_BUDGET

    def _length(self, item: Item) -> int:
        return len(item.ids)

    def _cost(self, item: Item) -> int:
        pixels = sum(picture.shape[0] * picture.shape[1] for picture in item.pixels)
        return len(item.ids) + int(pixels // self._patch_pixels)

    def launch(self, batch: list[Item]) -> list[Tensor]:
        """One vector an item, still on the device; nothing here waits for it."""
        model = self.open_model()
        limit, floor = GPU_PASS, GPU_FLOOR
        if model.device.type == "cpu":
            limit, floor = CPU_PASS, CPU_FLOOR
        pictures, slices = stack_pictures(batch, model.device)
        vectors = model.look(pictures, limit) if pictures else None
        rows: dict[int, Tensor] = {}
        # The tower took all pictures together; the decoder, whose sequences are padded, takes equally long ones.
        for indices in group_by_length([len(item.ids) for item in batch], self.token_budget, floor):
            chosen = [batch[index] for index in indices]
            shown = [slices[index] for index in indices]
            ids, lengths, places = make_sequences(chosen, shown, model.config.query_num, model.device)
            rows.update(zip(indices, model(ids, lengths, vectors, places).unbind(), strict=True))
        return [rows[index] for index in range(len(batch))]
