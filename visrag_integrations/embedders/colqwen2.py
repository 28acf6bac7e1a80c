"""ColQwen2: pages and queries to many vectors each. See https://huggingface.co/vidore/colqwen2-v1.0-hf."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from visrag_integrations.embedders.devices import lookup
from visrag_integrations.embedders.late_interaction import LateInteractionEmbedder, PatchGrid
from visrag_integrations.embedders.page_pixels import ShortWay, qwen2_patches
from visrag_integrations.embedders.transformers_embedder import Inputs

if TYPE_CHECKING:
    from PIL.Image import Image

POSITIONS = {"grid": True, "flat": False}  # whether patches are told their row and column


class ColQwen2Embedder(LateInteractionEmbedder):
    """128 numbers a patch and a token, from `vidore/colqwen2-v1.0-hf` and its like."""

    architectures: ClassVar[frozenset[str]] = frozenset({"ColQwen2ForRetrieval"})
    network: ClassVar[str] = "ColQwen2ForRetrieval"
    processor_class: ClassVar[str] = "ColQwen2Processor"

    def __init__(
        self,
        model_name_or_path: str | Path = "vidore/colqwen2-v1.0-hf",
        *,
        positions: Literal["grid", "flat"] = "grid",
        **settings: Any,
    ) -> None:
        """Load a checkpoint; `**settings` are those of `TransformersEmbedder`.

        Args:
            model_name_or_path: A folder, or a name on the hub.
            positions: "grid": patches are told their row and column, as the published model was trained. "flat": they
                are numbered through, as transformers 5 does when it is not told positions. Texts are the same in both.
            **settings: See `TransformersEmbedder`.
        """
        self._on_grid = lookup("positions", positions, POSITIONS)
        super().__init__(model_name_or_path, **settings)

    def _set_up(self, model: Any) -> Any:
        self._merge = int(self._processor.image_processor.merge_size)
        return super()._set_up(model)

    def _short_way(self, image: Image) -> ShortWay | None:
        pictures = self._processor.image_processor
        return qwen2_patches(pictures, image, pictures.size)

    def _tensors(self, made: Any, ids: list[int]) -> dict[str, Tensor]:
        tensors = {"pixel_values": made["pixel_values"][0], "image_grid_thw": made["image_grid_thw"][0]}
        if self._on_grid:
            rows, columns = self._rows_and_columns(tensors)
            places = np.flatnonzero(np.asarray(ids) == self._image_id)
            tensors["position_ids"] = torch.from_numpy(grid_positions(len(ids), int(places[0]), rows, columns))
        return tensors

    def _stack(self, batch: list[Inputs], model: Any) -> dict[str, Tensor]:
        stacked = super()._stack(batch, model)
        if "position_ids" in stacked:
            stacked["position_ids"] = stacked["position_ids"].permute(2, 0, 1)  # (3, batch, tokens)
        return stacked

    def _grid(self, inputs: Inputs) -> PatchGrid:
        return PatchGrid(self._places(inputs).reshape(self._rows_and_columns(inputs.tensors)))

    def _rows_and_columns(self, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
        """Of the patches that the language model sees: 2 x 2 of the tower's are merged into one."""
        _, rows, columns = tensors["image_grid_thw"].tolist()
        return rows // self._merge, columns // self._merge


def grid_positions(length: int, start: int, rows: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Positions of a sequence with one picture, as (length, 3): time, row and column of every token.

    Args:
        length: Tokens of the sequence.
        start: The place of the first patch.
        rows: Patches from top to bottom.
        columns: Patches from left to right.

    >>> grid_positions(6, 1, 1, 3).tolist()
    [[0, 0, 0], [1, 1, 1], [1, 1, 2], [1, 1, 3], [4, 4, 4], [5, 5, 5]]
    """
    patches = rows * columns
    before = np.arange(start)
    after = np.arange(length - start - patches) + start + max(rows, columns)  # a picture is as long as its longer side
    row, column = np.divmod(np.arange(patches), columns)
    time = np.zeros(patches, np.int64)  # one moment: a picture is no film
    middle = np.stack([time, row, column], axis=1) + start  # (patches, 3)
    # Outside the picture all three are the same.
    return np.concatenate([np.tile(before[:, None], 3), middle, np.tile(after[:, None], 3)])
