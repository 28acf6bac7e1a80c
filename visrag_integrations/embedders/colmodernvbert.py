"""ColModernVBERT: a small encoder, pages and queries to many vectors each. See https://huggingface.co/ModernVBERT/colmodernvbert."""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from visrag_integrations.embedders.device_runner import send
from visrag_integrations.embedders.late_interaction import LateInteractionEmbedder, PatchGrid
from visrag_integrations.embedders.page_pixels import ShortWay, idefics3_tiles
from visrag_integrations.embedders.transformers_embedder import Inputs

if TYPE_CHECKING:
    from PIL.Image import Image


class ColModernVBertEmbedder(LateInteractionEmbedder):
    """128 numbers a patch and a token; a page is cut into tiles, and an overview comes after them."""

    architectures: ClassVar[frozenset[str]] = frozenset({"ColModernVBertForRetrieval"})
    network: ClassVar[str] = "ColModernVBertForRetrieval"
    processor_class: ClassVar[str] = "ColModernVBertProcessor"

    def __init__(self, model_name_or_path: str | Path = "ModernVBERT/colmodernvbert-merged", **settings: Any) -> None:
        """Load a checkpoint; `**settings` are those of `TransformersEmbedder`."""
        super().__init__(model_name_or_path, **settings)

    def _short_way(self, image: Image) -> ShortWay | None:
        return idefics3_tiles(self._processor.image_processor, image)

    def _tensors(self, made: Any, ids: list[int]) -> dict[str, Tensor]:
        # The processor writes its mask in 8 bytes a pixel, which would be as much to copy as the colours are.
        mask = made["pixel_attention_mask"][0].to(torch.bool)
        return {"pixel_values": made["pixel_values"][0], "pixel_attention_mask": mask}

    def _stack(self, batch: list[Inputs], model: Any) -> dict[str, Tensor]:
        """Tiles of all pages in one row: the network goes through them in order, whichever page they are of."""
        pixels: list[Tensor] = []
        masks: list[Tensor] = []
        for item in batch:
            pixels += item.tensors["pixel_values"]
            masks += item.tensors["pixel_attention_mask"]
        return {  # (1, tiles, ...): a batch of one, as it were
            "pixel_values": send(filled(pixels), model.device).to(model.dtype)[None],
            "pixel_attention_mask": send(filled(masks), model.device)[None],
        }

    def _grid(self, inputs: Inputs) -> PatchGrid:
        """The tiles' patches, put together; the overview's where there are no tiles."""
        side = isqrt(int(self._processor.image_seq_len))
        tiles = self._places(inputs).reshape(-1, side, side)
        if len(tiles) == 1:
            return PatchGrid(tiles[0])
        columns = self._tile_columns(inputs)
        by_place = tiles[:-1].reshape(-1, columns, side, side)  # without the overview, which comes last
        # Tiles side by side become rows of patches: (rows, columns, side, side) -> (rows * side, columns * side).
        return PatchGrid(by_place.transpose(0, 2, 1, 3).reshape(-1, columns * side))

    def _tile_columns(self, inputs: Inputs) -> int:
        """How many tiles stand side by side: as many as come before the first that starts a second row."""
        second = self._processor.tokenizer.convert_tokens_to_ids("<row_2_col_1>")
        tiles = len(inputs.tensors["pixel_values"]) - 1
        if second not in inputs.ids:
            return tiles
        return int((self._places(inputs) < inputs.ids.index(second)).sum()) // int(self._processor.image_seq_len)


def filled(tensors: list[Tensor]) -> Tensor:
    """Tensors of different heights and widths in one, filled up with zeros to the right and below."""
    height = max(tensor.shape[-2] for tensor in tensors)
    width = max(tensor.shape[-1] for tensor in tensors)
    same_size = []
    for tensor in tensors:
        beside, below = width - tensor.shape[-1], height - tensor.shape[-2]
        if beside or below:  # padding by nothing would copy all of it
            tensor = torch.nn.functional.pad(tensor, (0, beside, 0, below))
        same_size.append(tensor)
    return torch.stack(same_size)
