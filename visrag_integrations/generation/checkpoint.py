"""A checkpoint of transformers with its processor: loaded strictly, from safetensors, on the device it runs on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import CheckpointError, MissingExtraError
from visrag_integrations.generation.budget import Grid

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.generation.prompting import Chat
    from visrag_integrations.types import GenerationSettings


@dataclass(frozen=True)
class Checkpoint:
    """A network, its processor, and what the generator needs to know of them.

    Attributes:
        end_tokens: Ids that end an answer.
        control_tokens: Texts that the tokenizer reads as control tokens.
        context_length: What the network was trained for; None when it does not say.
        grid: How pictures become tokens; None for models with a fixed number of tokens per picture or their own tiling.
    """

    name: str
    model: Any
    processor: Any
    tokenizer: Any
    end_tokens: frozenset[int]
    control_tokens: tuple[str, ...]
    context_length: int | None
    grid: Grid | None

    def prompt(self, chat: Chat) -> str:
        """The chat as the text the model was trained on, with one placeholder per picture."""
        templated = self.processor if getattr(self.processor, "chat_template", None) else self.tokenizer
        text: str = templated.apply_chat_template(chat.messages, tokenize=False, add_generation_prompt=True)
        return text

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def inputs(self, prompt: str, pictures: Sequence[Image]) -> Any:
        """The tensors of one prompt."""
        shown = {"images": [list(pictures)]} if pictures else {}
        return self.processor(text=[prompt], **shown, return_tensors="pt").to(self.model.device, self.model.dtype)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, without control tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def generate(self, inputs: Any, settings: GenerationSettings, after_token: Callable[..., Any]) -> None:
        """Write; `after_token` is called with each new token and says whether to stop."""
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        sampled = bool(settings.temperature)
        sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0} if sampled else {}
        config = GenerationConfig(
            max_new_tokens=settings.max_tokens,
            do_sample=sampled,
            repetition_penalty=settings.repetition_penalty,
            eos_token_id=sorted(self.end_tokens),
            pad_token_id=min(self.end_tokens, default=0),
            **sampling,
        )
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices, enabled=settings.seed is not None):
            if settings.seed is not None:
                torch.manual_seed(settings.seed)
            self.model.generate(
                **inputs, generation_config=config, stopping_criteria=StoppingCriteriaList([after_token])
            )


def load_checkpoint(name: str, *, device: str | None, dtype: str, trust_remote_code: bool) -> Checkpoint:
    """The checkpoint, ready to write.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        CheckpointError: It cannot be loaded, or its weights are not exactly the network's.
    """
    try:
        import torch
        from transformers import AutoModelForImageTextToText
    except ImportError as err:
        raise MissingExtraError("transformers with torch", "torch") from err
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, output_loading_info=True
        )
        processor = load_processor(name, model.config.model_type, trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as err:
        raise CheckpointError(f"{name!r} cannot be loaded with transformers: {err}") from err
    _check_keys(name, found)
    return _described(name, model.eval().to(chosen), processor)


def load_processor(name: str, model_type: str, trust_remote_code: bool = False) -> Any:
    """The processor; where torchvision is missing, without its part for videos."""
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
    except ImportError as err:
        if "torchvision" not in str(err).lower():
            raise
    return _processor_of_pictures(name, model_type)


def _processor_of_pictures(name: str, model_type: str) -> Any:
    """The model's own processor with Pillow's image processor and no video processor."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    own = getattr(transformers, PROCESSOR_MAPPING_NAMES[model_type])
    made = type(own.__name__, (own,), {"check_argument_for_proper_class": lambda *_: None})
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    return made(
        image_processor=transformers.AutoImageProcessor.from_pretrained(name),
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=tokenizer.chat_template,
    )


def _described(name: str, model: Any, processor: Any) -> Checkpoint:
    tokenizer = getattr(processor, "tokenizer", processor)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends, tokenizer.eos_token_id]
    text_config = model.config.get_text_config()
    return Checkpoint(
        name=name,
        model=model,
        processor=processor,
        tokenizer=tokenizer,
        end_tokens=frozenset(int(token) for token in ends if token is not None),
        control_tokens=tuple(sorted(tokenizer.all_special_tokens)),
        context_length=getattr(text_config, "max_position_embeddings", None),
        grid=grid_of(getattr(processor, "image_processor", None)),
    )


def grid_of(image_processor: Any) -> Grid | None:
    """How the processor cuts pictures, for the Qwen-VL family; None for others."""
    patch, merge = getattr(image_processor, "patch_size", None), getattr(image_processor, "merge_size", None)
    if not isinstance(patch, int) or not isinstance(merge, int):
        return None
    size = image_processor.size
    unit = patch * merge
    least, most = size["shortest_edge"] / unit**2, size["longest_edge"] / unit**2
    return Grid(unit, max(1, math.ceil(least)), max(1, math.floor(most)))


def _check_keys(name: str, found: Any) -> None:
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, found.get(kind) or ()))
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise CheckpointError(
                f"{name!r} does not fit its config.json: {kind.replace('_', ' ')} {', '.join(keys[:5])}{more}. "
                "Download the checkpoint again."
            )
