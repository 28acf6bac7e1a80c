"""BGE-VL on CLIP: pages, texts, and pictures with texts, to one vector each. See https://huggingface.co/BAAI/BGE-VL-base."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from visrag_integrations.embedders.device_runner import send
from visrag_integrations.embedders.transformers_embedder import PATCH_NUMBERS, Inputs, TransformersEmbedder, pad

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import Embedding


class BGEVLCLIPEmbedder(TransformersEmbedder):
    """One unit vector a page or query, from `BAAI/BGE-VL-base`, `BAAI/BGE-VL-large`, or any other CLIP.

    A picture with a text is the sum of both features, before they get unit length. Texts end after 77 tokens.
    """

    kind: Literal["single"] = "single"
    architectures: ClassVar[frozenset[str]] = frozenset({"CLIPModel"})
    network: ClassVar[str] = "CLIPModel"
    processor_class: ClassVar[str] = "CLIPProcessor"

    def __init__(self, model_name_or_path: str | Path = "BAAI/BGE-VL-base", **settings: Any) -> None:
        """Load a checkpoint; `**settings` are those of `TransformersEmbedder`."""
        super().__init__(model_name_or_path, **settings)

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """One float32 unit vector a text that is itself a document, in order; the same as for a query."""
        return self.embed_queries(texts)

    def text_item(self, text: str) -> Inputs:
        """A text that stands for a page, for `launch`; the same as a query."""
        return self.query_item(text)

    def _set_up(self, model: Any) -> Any:
        self.dimension = int(model.config.projection_dim)
        self.max_tokens = min(self.max_tokens, int(model.config.text_config.max_position_embeddings))
        return model

    def _prepare_page(self, image: Image) -> Inputs:
        pixels = self._processor.image_processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return Inputs([], {"pixel_values": pixels}, pixels.numel() // PATCH_NUMBERS)

    def _prepare_query(self, text: str, image: Image | None) -> list[Inputs]:
        picture = None
        if image is not None:
            picture = self._picture(image)
            if not text.strip():
                return [picture]
        ids = self._processor.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        if picture is None:
            return [Inputs(list(ids), {}, 1 + len(ids))]
        return [Inputs(list(ids), picture.tensors, picture.cost + len(ids))]

    def _forward(self, model: Any, batch: list[Inputs]) -> list[Tensor]:
        """A batch has pictures throughout or nowhere; which of its items have a text is found out here."""
        # A picture's features and a text's are added up, each where there is one.
        features = torch.zeros(len(batch), self.dimension, device=model.device, dtype=model.dtype)
        if batch[0].tensors:
            pixels = torch.stack([item.tensors["pixel_values"] for item in batch])
            seen = model.vision_model(pixel_values=send(pixels, model.device).to(model.dtype))
            features = features + model.visual_projection(seen.pooler_output)
        with_text = [index for index, item in enumerate(batch) if item.ids]
        if with_text:
            filler = int(self._processor.tokenizer.pad_token_id)
            ids, mask = pad([batch[index].ids for index in with_text], filler, model.device)
            read = model.text_model(input_ids=ids, attention_mask=mask)
            features[with_text] += model.text_projection(read.pooler_output)
        return list(normalize(features.float(), dim=-1))
