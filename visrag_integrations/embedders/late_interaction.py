"""What the ColPali family shares: a page is the vectors of its patches and prompt, a query those of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from visrag_integrations.embedders.device_runner import send
from visrag_integrations.embedders.minicpm_inputs import to_rgb
from visrag_integrations.embedders.page_pixels import CheckedPages, ShortWay
from visrag_integrations.embedders.transformers_embedder import PATCH_NUMBERS, Inputs, TransformersEmbedder, pad
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

TAIL = 11  # the ten augmentation tokens and the newline that end a query, as the processors write it


class PatchGrid(NamedTuple):
    """Where a page's patches are among its vectors: `indices[row, column]`, from the page's top left corner."""

    indices: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return int(self.indices.shape[0])

    @property
    def columns(self) -> int:
        return int(self.indices.shape[1])


class LateInteractionEmbedder(TransformersEmbedder):
    """Many unit vectors a page and a query, compared by MaxSim.

    A page's vectors are those of every token but padding, as the published models were trained: patches, and the few
    tokens of the prompt around them. A query with a picture and a text has the vectors of both.
    """

    kind: Literal["multi"] = "multi"
    pad_id: ClassVar[int] = 0

    def _set_up(self, model: Any) -> Any:
        self.dimension = int(model.config.embedding_dim)
        self._image_id = int(self._processor.image_token_id)
        self._pages = CheckedPages(self._short_way, self._whole_way)
        return model

    def patch_grid(self, page: Page) -> PatchGrid:
        """Which of the page's vectors shows which part of it, for similarity maps."""
        return self._grid(self._picture(to_rgb(page.open_image())))

    def _grid(self, inputs: Inputs) -> PatchGrid:
        raise NotImplementedError

    def _places(self, inputs: Inputs) -> NDArray[np.int64]:
        """The places of the patches' tokens in a sequence."""
        return np.flatnonzero(np.asarray(inputs.ids) == self._image_id)

    def _prepare_page(self, image: Image) -> Inputs:
        made = self._pages.made(image)
        ids = made["input_ids"][0].tolist()
        pixels = made["pixel_values"]
        return Inputs(ids, self._tensors(made, ids), len(ids) + pixels.numel() // PATCH_NUMBERS)

    def _short_way(self, image: Image) -> ShortWay | None:
        """What the processor makes of a page, made faster; None where that is not known."""
        return None

    def _whole_way(self, image: Image) -> Any:
        return self._processor.process_images(images=[image])

    def _tensors(self, made: Any, ids: list[int]) -> dict[str, Tensor]:
        """What the network takes beside the ids, without the batch axis."""
        return {"pixel_values": made["pixel_values"][0]}

    def _prepare_query(self, text: str, image: Image | None) -> list[Inputs]:
        parts = []
        if text.strip() or image is None:
            ids = self._processor.process_queries(text=[text])["input_ids"][0].tolist()
            if len(ids) > self.max_tokens:  # cut from the middle: the tail belongs to every query
                ids = ids[: max(0, self.max_tokens - TAIL)] + ids[-min(TAIL, self.max_tokens) :]
            parts.append(Inputs(ids, {}, len(ids)))
        if image is not None:
            parts.append(self._picture(image))
        return parts

    def _forward(self, model: Any, batch: list[Inputs]) -> list[Tensor]:
        ids, mask = pad([item.ids for item in batch], self.pad_id, model.device)
        extras = self._stack(batch, model) if batch[0].tensors else {}
        vectors: Tensor = model(input_ids=ids, attention_mask=mask, **extras, **self._settings(ids)).embeddings
        exact = normalize(vectors.float(), dim=-1)  # half precision leaves lengths that are off by a few thousandths
        # Without the vectors of what was filled up.
        return [row[: item.length] for row, item in zip(exact, batch, strict=True)]

    def _stack(self, batch: list[Inputs], model: Any) -> dict[str, Tensor]:
        """The batch's tensors as the network takes them; shorter ones are filled up with zeros."""
        stacked = {}
        for name in batch[0].tensors:
            tensor = pad_sequence([item.tensors[name] for item in batch], batch_first=True)
            stacked[name] = send(tensor, model.device)
            if tensor.is_floating_point():  # pixels; grids and positions stay whole numbers
                stacked[name] = stacked[name].to(model.dtype)
        return stacked

    def _settings(self, ids: Tensor) -> dict[str, Any]:
        """What else the network is told."""
        return {}
