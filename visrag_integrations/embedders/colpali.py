"""ColPali: pages and queries to many vectors each. See https://huggingface.co/vidore/colpali-v1.3-hf."""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from visrag_integrations.embedders.late_interaction import LateInteractionEmbedder, PatchGrid
from visrag_integrations.embedders.page_pixels import ShortWay, siglip_square
from visrag_integrations.embedders.transformers_embedder import Inputs

if TYPE_CHECKING:
    from PIL.Image import Image


class ColPaliEmbedder(LateInteractionEmbedder):
    """128 numbers a patch and a token, from `vidore/colpali-v1.3-hf` and its like; every page has the same grid."""

    architectures: ClassVar[frozenset[str]] = frozenset({"ColPaliForRetrieval"})
    network: ClassVar[str] = "ColPaliForRetrieval"
    processor_class: ClassVar[str] = "ColPaliProcessor"

    def __init__(self, model_name_or_path: str | Path = "vidore/colpali-v1.3-hf", **settings: Any) -> None:
        """Load a checkpoint; `**settings` are those of `TransformersEmbedder`."""
        super().__init__(model_name_or_path, **settings)

    def _short_way(self, image: Image) -> ShortWay | None:
        return siglip_square(self._processor.image_processor, image)

    def _settings(self, ids: Tensor) -> dict[str, Any]:
        return {"token_type_ids": torch.zeros_like(ids)}  # all is prefix: every token sees every other

    def _grid(self, inputs: Inputs) -> PatchGrid:
        places = self._places(inputs)
        return PatchGrid(places.reshape(isqrt(len(places)), -1))
