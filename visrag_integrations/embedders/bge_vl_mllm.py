"""BGE-VL on LLaVA-NeXT: pages and queries to one vector each. See https://huggingface.co/BAAI/BGE-VL-MLLM-S1."""

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

INSTRUCTION = "Find a document image that matches the given query:"
SIDE = 512  # pixels a side, as the published examples resize every picture
IMAGE_TOKEN = "<image>"


def query_prompt(task: str, text: str = "", *, with_image: bool = False) -> str:
    r"""What the network reads for a query, spaces as it was trained.

    >>> query_prompt("Find it:", "how many?", with_image=True)
    '[INST] \n <instruct> Find it: <query>  how many? \n <image> [/INST]'
    """
    head = "[INST] \n <instruct>  <query>"
    if task:
        head = f"[INST] \n <instruct> {task} <query> "
    return _prompt(head, text, with_image)


def candidate_prompt(text: str = "", *, with_image: bool = False) -> str:
    """What the network reads for a page or a text that is searched.

    >>> candidate_prompt(with_image=True)
    '[INST]  <image> [/INST]'
    """
    return _prompt("[INST] ", text, with_image)


def _prompt(head: str, text: str, with_image: bool) -> str:
    """The spaces around each part are those of the training prompts, doubled ones included."""
    prompt = head
    if text:
        prompt += f" {text} \n"
    if with_image:
        prompt += f" {IMAGE_TOKEN}"
    return f"{prompt} [/INST]"


class BGEVLMLLMEmbedder(TransformersEmbedder):
    """One unit vector a page or query, from `BAAI/BGE-VL-MLLM-S1` or `-S2`: the last token's hidden state.

    Pictures are resized to 512 x 512 first. `max_tokens` does not count those of a picture.

    Attributes:
        instruction: The task that a query states.
    """

    kind: Literal["single"] = "single"
    architectures: ClassVar[frozenset[str]] = frozenset({"LlavaNextForConditionalGeneration", "LLaVANextForEmbedding"})
    network: ClassVar[str] = "LlavaNextForConditionalGeneration"
    processor_class: ClassVar[str] = "LlavaNextProcessor"

    def __init__(
        self, model_name_or_path: str | Path = "BAAI/BGE-VL-MLLM-S1", *, instruction: str = INSTRUCTION, **settings: Any
    ) -> None:
        """Load a checkpoint.

        Args:
            model_name_or_path: A folder, or a name on the hub.
            instruction: The task that a query states; "" for none.
            **settings: See `TransformersEmbedder`.
        """
        self.instruction = instruction
        super().__init__(model_name_or_path, **settings)

    def embed_texts(self, texts: Iterable[str]) -> list[Embedding]:
        """One float32 unit vector a text that is itself a document, in order: no instruction comes before it."""
        self._runner.check_open()
        prompts = [candidate_prompt(self._plain(text)) for text in texts]
        return self._runner.embed_sorted([self._inputs(prompt, None) for prompt in prompts])

    def _set_up(self, model: Any) -> Any:
        config = model.config
        self.dimension = int(config.text_config.hidden_size)
        self._image_id = int(config.image_token_id)
        tower = config.vision_config  # the checkpoint's processor need not know what the network does
        self._processor.num_additional_image_tokens = int(tower.model_type == "clip_vision_model")  # its class token
        self._processor.patch_size = tower.patch_size
        self._processor.vision_feature_select_strategy = config.vision_feature_select_strategy
        return model.model  # without the head that writes text

    def _prepare_page(self, image: Image) -> Inputs:
        return self._inputs(candidate_prompt(with_image=True), image)

    def _prepare_query(self, text: str, image: Image | None) -> list[Inputs]:
        if not text.strip():
            text = ""
        return [self._inputs(query_prompt(self.instruction, text, with_image=image is not None), image)]

    def _inputs(self, prompt: str, image: Image | None) -> Inputs:
        if image is None:
            ids = self._processor.tokenizer(prompt)["input_ids"]
            return Inputs(self._shorten(ids), {}, min(len(ids), self.max_tokens))
        from PIL.Image import Resampling

        square = image.resize((SIDE, SIDE), Resampling.BICUBIC)
        made = self._processor(images=[square], text=[prompt], return_tensors="pt")
        tensors = {name: made[name][0] for name in ("pixel_values", "image_sizes")}
        ids = self._shorten(made["input_ids"][0].tolist())
        return Inputs(ids, tensors, len(ids) + tensors["pixel_values"].numel() // PATCH_NUMBERS)

    def _shorten(self, ids: list[int]) -> list[int]:
        """Ids without the end of a text that is too long; what the prompt has after the text stays."""
        of_picture = ids.count(self._image_id)
        excess = len(ids) - of_picture - self.max_tokens
        if excess <= 0:
            return ids
        # "[INST] ... a long text \n <image> [/INST]" becomes "[INST] ... a long \n <image> [/INST]".
        after, stop = " \n [/INST]", len(ids)
        if of_picture:
            after, stop = " \n ", ids.index(self._image_id)
        end = stop - len(self._processor.tokenizer(after, add_special_tokens=False)["input_ids"])
        return ids[: max(1, end - excess)] + ids[max(1, end) :]

    def _forward(self, model: Any, batch: list[Inputs]) -> list[Tensor]:
        ids, mask = pad([item.ids for item in batch], 0, model.device)  # (B, L) each
        extras: dict[str, Tensor] = {}
        if batch[0].tensors:
            pixels = torch.stack([item.tensors["pixel_values"] for item in batch])
            extras["pixel_values"] = send(pixels, model.device).to(model.dtype)
            extras["image_sizes"] = torch.stack([item.tensors["image_sizes"] for item in batch])
        states = model(input_ids=ids, attention_mask=mask, use_cache=False, **extras).last_hidden_state
        # Padding stands on the right, so that each sequence's last token has another place.
        last = torch.tensor([item.length - 1 for item in batch], device=states.device)
        vectors = states[torch.arange(len(batch), device=states.device), last]
        return list(normalize(vectors.float(), dim=-1))
