"""DSE on Qwen2-VL: pages and queries to one vector each. See https://huggingface.co/MrLight/dse-qwen2-2b-mrl-v1."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from visrag_integrations.embedders.colqwen2 import grid_positions
from visrag_integrations.embedders.device_runner import send
from visrag_integrations.embedders.devices import at_least_one
from visrag_integrations.embedders.page_pixels import CheckedPages, ShortWay, qwen2_patches
from visrag_integrations.embedders.transformers_embedder import PATCH_NUMBERS, Inputs, TransformersEmbedder, pad
from visrag_integrations.errors import SettingError

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import Embedding

TOKEN_PIXELS = 28 * 28  # of a page, that become one token: 2 x 2 patches of 14 x 14
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
HEAD = SYSTEM + "<|im_start|>user\n<|vision_start|>{patches}<|vision_end|>"
PICTURE = "<|image_pad|>"
OF_PAGE = "What is shown in this image?"


class DSEQwen2Embedder(TransformersEmbedder):
    """One unit vector a page or query, from `MrLight/dse-qwen2-2b-mrl-v1`: the last token's state.

    A text is read beside a small black picture, as the model was trained. A query of a picture alone is embedded as a
    page is.
    """

    kind: Literal["single"] = "single"
    architectures: ClassVar[frozenset[str]] = frozenset({"Qwen2VLForConditionalGeneration"})
    network: ClassVar[str] = "Qwen2VLForConditionalGeneration"
    # The same pictures and tokens as Qwen2VLProcessor's, which reads films too and does not load without torchvision.
    processor_class: ClassVar[str] = "ColQwen2Processor"
    tail: ClassVar[str] = "<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    black_side: ClassVar[int] = 28
    page_tokens: ClassVar[int] = 2560

    def __init__(
        self,
        model_name_or_path: str | Path = "MrLight/dse-qwen2-2b-mrl-v1",
        *,
        max_pixels: int | None = None,
        dimension: int | None = None,
        **settings: Any,
    ) -> None:
        """Load a checkpoint.

        Args:
            model_name_or_path: A folder, or a name on the hub.
            max_pixels: Larger pages are made smaller; as the authors of the checkpoint did by default.
            dimension: Only so many numbers of a vector, the first ones; all of them by default. The published models
                were trained so that the first ones say most.
            **settings: See `TransformersEmbedder`. `max_tokens` does not count those of a picture.

        Raises:
            SettingError: The dimension is larger than the network's.
        """
        at_least_one(max_pixels=max_pixels, dimension=dimension)
        self.max_pixels = max_pixels or self.page_tokens * TOKEN_PIXELS
        self._wanted = dimension
        super().__init__(model_name_or_path, **settings)

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """One float32 unit vector a text that is itself a document, in order."""
        self._runner.check_open()
        return self._runner.embed_sorted([self._inputs(f"Document: {self._plain(text)}", None) for text in texts])

    def _set_up(self, model: Any) -> Any:
        made = int(model.config.text_config.hidden_size)
        if self._wanted is not None and self._wanted > made:
            raise SettingError(f"dimension is {self._wanted}; the vectors of {self.name} have {made} numbers.")
        self.dimension = self._wanted or made
        self._image_id = int(model.config.image_token_id)
        self._merge = int(self._processor.image_processor.merge_size)
        self._tail_length = len(self._tokens(self.tail))
        self._pages = CheckedPages(self._short_way, self._whole_way)
        return model.model  # without the head that writes text

    def _prepare_page(self, image: Image) -> Inputs:
        return self._inputs(OF_PAGE, image)

    def _prepare_query(self, text: str, image: Image | None) -> list[Inputs]:
        if image is not None and not text.strip():
            return [self._inputs(OF_PAGE, image)]
        return [self._inputs(f"Query: {text}", image)]

    def _inputs(self, text: str, image: Image | None) -> Inputs:
        from PIL import Image as Pillow

        if image is None:
            image = Pillow.new("RGB", (self.black_side, self.black_side))
        made = self._pages.made(image)
        pixels, grid = made["pixel_values"], made["image_grid_thw"][0]
        _, rows, columns = (grid // torch.tensor([1, self._merge, self._merge])).tolist()
        head = self._tokens(HEAD.format(patches=PICTURE * (rows * columns)))
        ids = head + self._tokens(text)[: self._room(len(head) - rows * columns)] + self._tokens(self.tail)
        positions = grid_positions(len(ids), ids.index(self._image_id), rows, columns)
        tensors = {"pixel_values": pixels, "image_grid_thw": grid, "position_ids": torch.from_numpy(positions)}
        return Inputs(ids, tensors, len(ids) + pixels.numel() // PATCH_NUMBERS)

    def _short_way(self, image: Image) -> ShortWay | None:
        short = qwen2_patches(self._processor.image_processor, image, self._size)
        if short is None:
            return None
        # This processor puts the patches of all pictures one below the other, without an axis of pictures.
        return ShortWay(short.shape, {**short.tensors, "pixel_values": short.tensors["pixel_values"][0]})

    def _whole_way(self, image: Image) -> Any:
        return self._processor.image_processor(images=[image], size=self._size, return_tensors="pt")

    @property
    def _size(self) -> dict[str, int]:
        return {"shortest_edge": TOKEN_PIXELS, "longest_edge": self.max_pixels}  # pixels, in spite of their names

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _room(self, head_length: int) -> int:
        """Tokens that a text may have: a longer one is cut, and what comes after it in the prompt stays."""
        return max(1, self.max_tokens - head_length - self._tail_length)

    def _forward(self, model: Any, batch: list[Inputs]) -> list[Tensor]:
        ids, mask = pad([item.ids for item in batch], 0, model.device)  # (B, L) each
        pixels = torch.cat([item.tensors["pixel_values"] for item in batch])
        positions = torch.zeros(3, *ids.shape, dtype=torch.long)
        for row, item in enumerate(batch):
            positions[:, row, : item.length] = item.tensors["position_ids"].T
        states = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=send(positions, model.device),
            pixel_values=send(pixels, model.device).to(model.dtype),
            image_grid_thw=send(torch.stack([item.tensors["image_grid_thw"] for item in batch]), model.device),
            use_cache=False,
        ).last_hidden_state
        # Padding stands on the right, so that each sequence's last token has another place.
        last = torch.tensor([item.length - 1 for item in batch], device=states.device)
        vectors = states[torch.arange(len(batch), device=states.device), last, : self.dimension]
        return list(normalize(vectors.float(), dim=-1))


class VDREmbedder(DSEQwen2Embedder):
    """The same from `llamaindex/vdr-2b-multi-v1` and `-v1`, trained without the head of an answer."""

    tail: ClassVar[str] = "<|im_end|>\n<|endoftext|>"
    black_side: ClassVar[int] = 56
    page_tokens: ClassVar[int] = 768


class MCDSEEmbedder(VDREmbedder):
    """The same from `marco/mcdse-2b-v1`, for larger pages."""

    page_tokens: ClassVar[int] = 960
