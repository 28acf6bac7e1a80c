"""A reader to be trained: its network in float32, its processor, and conversations as the network takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from visrag_integrations.embedders.checkpoints import resolve_checkpoint
from visrag_integrations.embedders.pretrained import silent
from visrag_integrations.errors import CheckpointError, DatasetError, SettingError
from visrag_integrations.generation.budget import PictureGrid
from visrag_integrations.generation.chat import control_tokens, without_control
from visrag_integrations.generation.checkpoint import load_checkpoint
from visrag_integrations.generation.processors import load_processor
from visrag_integrations.images import PictureSource, open_picture, to_rgb
from visrag_integrations.models.weights import read_json
from visrag_integrations.training.bases import Base
from visrag_integrations.training.lazily import without_old_names
from visrag_integrations.training.reader_batches import NOT_LEARNED, EncodedExample
from visrag_integrations.training.reader_examples import PLACE, ExampleTurn, ReaderExample
from visrag_integrations.training.reader_recipe import Recipe
from visrag_integrations.training.recipe import LoraRecipe

if TYPE_CHECKING:
    from PIL.Image import Image

READER = "reader"
"""What stands for a base that reads pages, where embedders' systems are named."""
# Parts of names of weights, as transformers' vision-language networks call them.
TOWERS = frozenset({"visual", "vision_model", "vision_tower"})
MERGERS = frozenset({"merger", "deepstack_merger_list", "multi_modal_projector", "connector"})


def find_reader(base: str | Path) -> Base:
    """The checkpoint of that name or folder.

    Raises:
        CheckpointError: There is none.
        SettingError: It is an adapter, which is to be merged first.
    """
    folder = resolve_checkpoint(base)
    if (folder / "adapter_config.json").is_file():
        raise SettingError(f"{str(base)!r} is a LoRA adapter. Merge it first: visrag train merge {base} merged")
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} holds no config.json, so it is no checkpoint folder. Give the folder that does."
        )
    read_json(folder / "config.json")
    return Base(str(base), folder, READER)


class ReaderNetwork:
    """A vision-language network of the Qwen2-VL family, to be trained.

    Attributes:
        model: The network, or, with LoRA, PEFT's around it.
        processor: Its processor.
        base: What it started from.
    """

    def __init__(self, base: Base, model: nn.Module, processor: Any, recipe: Recipe) -> None:
        self.base, self.model, self.processor, self.recipe = base, model, processor, recipe
        self.tokenizer = processor.tokenizer
        grid = PictureGrid.of(getattr(processor, "image_processor", None))
        if grid is None:
            raise SettingError(
                f"{base.name!r} does not cut pictures as Qwen2-VL and its descendants do; only those are trained here "
                "(Qwen2.5-VL, EVisRAG)."
            )
        self.grid = grid
        self._control = control_tokens(self.tokenizer)

    # --- what is checked before anything is trained ---------------------------------------------------------------

    def check(self, example: ReaderExample, *, answered: bool) -> None:
        """Nothing, if the example fits.

        Args:
            example: The example.
            answered: Whether the right response is a part of what the network reads.

        Raises:
            DatasetError: It has too many pages or tokens, or a picture that cannot be opened.
        """
        recipe = self.recipe
        if len(example.pictures) > recipe.max_images:
            raise DatasetError(
                example.where, f"it has {len(example.pictures)} pages; at most {recipe.max_images} fit (max_images)."
            )
        count = self._count(self._template(self.messages(example), True))
        if answered:
            count += self._count(example.truth)
        for source in example.pictures:
            try:
                width, height = picture_size(source)
            except (OSError, ValueError) as err:
                raise DatasetError(example.where, f"a picture cannot be opened: {err}") from err
            count += self.grid.tokens(*self._sized(width, height))
        if count > recipe.max_tokens:
            raise DatasetError(
                example.where,
                f"it takes {count} tokens with its pictures; at most {recipe.max_tokens} fit (max_tokens).",
            )

    # --- conversations ----------------------------------------------------------------------------------------------

    def messages(self, example: ReaderExample, *, answered: bool = False) -> list[dict[str, Any]]:
        """The turns as a chat template takes them; pictures are places."""
        turns = list(example.turns)
        if answered:
            turns.append(ExampleTurn("assistant", example.truth))
        messages: list[dict[str, Any]] = []
        for turn in turns:
            content: list[dict[str, str]] = []
            for number, text in enumerate(turn.text.split(PLACE)):
                if number:
                    content.append({"type": "image"})
                if text:
                    content.append({"type": "text", "text": without_control(text, self._control)})
            messages.append({"role": turn.role, "content": content})
        return messages

    def open_pictures(self, example: ReaderExample) -> list[Image]:
        """The pictures, in the sizes that the recipe allows."""
        opened: list[Image] = []
        for source in example.pictures:
            try:
                picture = to_rgb(open_picture(source))
            except (OSError, ValueError) as err:
                raise DatasetError(example.where, f"a picture cannot be opened: {err}") from err
            size = self._sized(*picture.size)
            opened.append(picture if size == picture.size else picture.resize(size))
        return opened

    def encode(self, example: ReaderExample) -> EncodedExample:
        """The whole conversation with its right response; every turn of the assistant is learned."""
        tokens: list[Tensor] = []
        labels: list[Tensor] = []
        types: list[Tensor] = []
        shown: dict[str, list[Tensor]] = {}
        pictures = self.open_pictures(example)
        for text, count, learned in self._segments(example):
            own, pictures = pictures[:count], pictures[count:]
            # Each part by itself, so that no token reaches over the beginning of a response: when the network answers,
            # it is given the prompt's tokens and goes on behind them.
            extra = {"images": [own]} if own else {}
            encoded = self.processor(text=[text], **extra, return_tensors="pt")
            ids = encoded["input_ids"][0]
            tokens.append(ids)
            labels.append(ids if learned else torch.full_like(ids, NOT_LEARNED))
            types.append(encoded["mm_token_type_ids"][0] if "mm_token_type_ids" in encoded else torch.zeros_like(ids))
            if own:
                for name, value in encoded.items():
                    if name not in ("input_ids", "attention_mask", "mm_token_type_ids"):
                        shown.setdefault(name, []).append(value)
        joined = {name: torch.cat(values) for name, values in shown.items()}
        return EncodedExample(torch.cat(tokens), torch.cat(labels), joined, torch.cat(types))

    def _segments(self, example: ReaderExample) -> list[tuple[str, int, bool]]:
        """The text in parts: what is read, with so many pictures, and what is written, in turn.

        "<user>How many?<assistant>12<end>" -> ("<user>How many?<assistant>", 0, False), ("12<end>", 0, True)
        """
        messages = self.messages(example, answered=True)
        segments: list[tuple[str, int, bool]] = []
        done = ""
        waiting = 0  # pictures since the last response
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                waiting += sum(part["type"] == "image" for part in message["content"])
                continue
            head = self._template(messages[:number], True)
            whole = self._template(messages[: number + 1], False)
            if not (head.startswith(done) and whole.startswith(head)):
                raise CheckpointError(
                    f"The chat template of {self.base.name!r} writes earlier turns anew once a later one is there, "
                    "so that it cannot be told what was written by whom. Use a template that only adds."
                )
            segments.append((head[len(done) :], waiting, False))
            segments.append((whole[len(head) :], 0, True))
            done, waiting = whole, 0
        return segments

    def _count(self, text: str) -> int:
        # verbose: the tokenizer would warn of the very texts that are left out here.
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _template(self, messages: Sequence[Mapping[str, Any]], generate: bool) -> str:
        text: str = self.processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generate)
        return text

    def _sized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height between the recipe's two areas.

        As published: both sides times the root of how much the area is off, cut to whole pixels.
        """
        area = width * height
        wanted = min(max(area, self.recipe.min_pixels), self.recipe.max_pixels)
        if wanted == area:
            return width, height
        factor = math.sqrt(wanted / area)
        return max(1, int(width * factor)), max(1, int(height * factor))


def load_reader(
    base: Base, recipe: Recipe, lora: LoraRecipe | None, checkpoint: Path | None, device: str
) -> ReaderNetwork:
    """The base, or the weights of a run's checkpoint, in float32 and ready to change.

    Raises:
        CheckpointError: It cannot be loaded, or its weights are not exactly the network's.
    """
    # Float32 even where half precision computes: in bfloat16 a step of 1e-6 of a weight rounds to no step at all.
    folder = base.folder if checkpoint is None or lora is not None else checkpoint
    with silent():
        loaded = load_checkpoint(str(folder), device=device, dtype="float32", trust_remote_code=False)
    processor = load_processor(str(base.folder))
    reader = ReaderNetwork(base, loaded.model, processor, recipe)
    if lora is not None:
        reader.model = add_lora(loaded.model, lora)
    else:
        freeze(loaded.model, train_merger=recipe.train_merger)
    return reader


def freeze(model: nn.Module, *, train_merger: bool) -> None:
    """Let all weights change but the vision tower's, and maybe those that join it to the language model."""
    for name, weight in model.named_parameters():
        parts = set(name.split("."))
        if parts & MERGERS:
            weight.requires_grad_(train_merger)
        else:
            weight.requires_grad_(not parts & TOWERS)


def add_lora(model: nn.Module, lora: LoraRecipe) -> nn.Module:
    """The network with small matrices beside some of its language model's."""
    from peft import LoraConfig, get_peft_model

    ends = "|".join(lora.target_modules)
    towers = "|".join(sorted(TOWERS))
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=rf"(?!.*(?:{towers})).*\.(?:{ends})",
        task_type="CAUSAL_LM",
    )
    try:
        with without_old_names():
            wrapped: nn.Module = get_peft_model(model, config)
            return wrapped
    except ValueError as err:
        raise SettingError(f"LoRA cannot be added to {list(lora.target_modules)}: {err}") from err


def picture_size(source: PictureSource) -> tuple[int, int]:
    """Width and height, from the file's head alone where there is a file."""
    from PIL import Image as Pictures

    if isinstance(source, Path):
        with Pictures.open(source) as picture:
            return picture.size
    return open_picture(source).size
