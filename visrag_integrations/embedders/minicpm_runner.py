"""The network's side of an embedder: batches of items through the device, one batch at a time."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from visrag_integrations.embedders.device_batches import alike
from visrag_integrations.embedders.device_runner import DeviceRunner, send
from visrag_integrations.embedders.minicpm_inputs import Item, Pixels
from visrag_integrations.models.visrag_ret import Pictures, VisRAGRetModel

GPU_BUDGET, CPU_BUDGET = 1 << 18, 1 << 13  # patches and tokens at once
GPU_PASS, CPU_PASS = 1 << 16, 1 << 10  # patches in one pass of the tower: enough to fill a GPU; few, for a cache
GPU_FLOOR, CPU_FLOOR = 4096, 64  # tokens under which a run of the decoder costs about the same however few they are


class Runner(DeviceRunner[VisRAGRetModel, Item]):
    """Batches of items through MiniCPM-V's tower, resampler and decoder."""

    def __init__(self, model: VisRAGRetModel, batch_size: int | None, token_budget: int | None) -> None:
        super().__init__(model, batch_size, token_budget or (CPU_BUDGET if model.device.type == "cpu" else GPU_BUDGET))
        self._patch_pixels: int = model.config.tower.patch_size**2

    def _length(self, item: Item) -> int:
        return len(item.ids)

    def _cost(self, item: Item) -> int:
        pixels = sum(picture.shape[0] * picture.shape[1] for picture in item.pixels)
        return len(item.ids) + int(pixels // self._patch_pixels)

    def _launch(self, batch: list[Item]) -> list[Tensor]:
        """One vector an item, still on the device; nothing here waits for it."""
        model = self._open_model()
        groups, first_slices = self._stack_pictures(batch)
        limit, floor = (CPU_PASS, CPU_FLOOR) if model.device.type == "cpu" else (GPU_PASS, GPU_FLOOR)
        vectors = model.look(groups, limit) if groups else None
        rows: dict[int, Tensor] = {}
        for indices in alike([len(item.ids) for item in batch], self.token_budget, floor):
            chosen = [batch[index] for index in indices]
            ids, lengths = self._pad(chosen)
            places = self._places(chosen, [first_slices[index] for index in indices], ids.shape[1])
            rows.update(zip(indices, model(ids, lengths, vectors, places).unbind(), strict=True))
        return [rows[index] for index in range(len(batch))]

    def _stack_pictures(self, batch: list[Item]) -> tuple[list[Pictures], list[list[int]]]:
        """Pictures of one shape together, and, for every item, which slice each of its spans shows."""
        shapes: dict[tuple[int, ...], list[tuple[int, int, Pixels]]] = defaultdict(list)
        for index, item in enumerate(batch):
            for part, pixels in enumerate(item.pixels):
                columns, rows = item.grid if part else (1, 1)
                shape = (*pixels.shape[:2], columns, rows)
                shapes[shape].append((index, part, pixels))
        by_patches = sorted(shapes.items(), key=lambda entry: entry[0][0] * entry[0][1] // (entry[0][2] * entry[0][3]))
        groups, first, start = [], [[0, 0] for _ in batch], 0
        for (_, _, columns, rows), members in by_patches:
            groups.append(Pictures(self._send(np.stack([pixels for _, _, pixels in members])), columns, rows))
            for index, part, _ in members:
                first[index][part] = start
                start += columns * rows
        return groups, [
            [overview, *range(refined, refined + item.grid[0] * item.grid[1])] if len(item.pixels) > 1 else [overview]
            for item, (overview, refined) in zip(batch, first, strict=True)
        ]

    def _pad(self, items: list[Item]) -> tuple[Tensor, Tensor]:
        lengths = np.array([len(item.ids) for item in items])
        ids = np.zeros((len(items), lengths.max()), dtype=np.int64)
        for row, item in zip(ids, items, strict=True):
            row[: len(item.ids)] = item.ids
        return self._send(ids), self._send(lengths)

    def _places(self, items: list[Item], slices: list[list[int]], padded: int) -> tuple[Tensor, Tensor] | None:
        """Which picture vectors go where in a padded batch; see `models.visrag_ret.Places`."""
        queries = self._open_model().config.query_num
        sources, targets = [], []
        for row, (item, numbers) in enumerate(zip(items, slices, strict=True)):
            for (start, end), number in zip(item.spans, numbers, strict=False):  # fewer spans where ids are cut off
                sources.append(np.arange(number * queries, number * queries + end - start))
                targets.append(np.arange(start, end) + row * padded)
        if not sources:
            return None
        return self._send(np.concatenate(sources)), self._send(np.concatenate(targets))

    def _send(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        """An array to the device, without waiting for it."""
        return send(torch.from_numpy(array), self._open_model().device)
