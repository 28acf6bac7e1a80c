"""A checkpoint of transformers with its processor: loaded strictly, from safetensors, on the device it runs on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import CheckpointError, MissingExtraError
from visrag_integrations.generation.adapters import adapter_base, add_adapter
from visrag_integrations.generation.own_code import check_config
from visrag_integrations.generation.processors import load_processor

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from visrag_integrations.types import GenerationSettings


@dataclass(frozen=True)
class Checkpoint:
    """A network, its processor, and what the generator needs to know of them.

    Attributes:
        end_tokens: Ids that end an answer.
        context_length: What the network was trained for; None when it does not say.
    """

    name: str
    model: Any
    processor: Any
    tokenizer: Any
    end_tokens: frozenset[int]
    context_length: int | None

    def inputs(self, prompt: str, pictures: Sequence[Image]) -> Any:
        """The tensors of one prompt."""
        shown = {}
        if pictures:
            shown["images"] = [list(pictures)]
        return self.processor(text=[prompt], **shown, return_tensors="pt").to(self.model.device, self.model.dtype)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, without control tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def generate(self, inputs: Any, settings: GenerationSettings, after_token: Callable[..., Any]) -> None:
        """Write; `after_token` is called with each new token and says whether to stop."""
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        sampling: dict[str, Any] = {}
        if settings.temperature:
            # top_k=0: transformers may keep only the likeliest tokens by default, which no other engine does
            sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=settings.max_tokens,
            do_sample=bool(sampling),
            repetition_penalty=settings.repetition_penalty,
            eos_token_id=sorted(self.end_tokens),
            pad_token_id=min(self.end_tokens, default=0),
            **sampling,
        )
        # The seed is set in a copy of torch's random state: the caller's own draws go on as if nothing was written.
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices, enabled=settings.seed is not None):
            if settings.seed is not None:
                _seed(self.model.device, settings.seed)
            self.model.generate(
                **inputs, generation_config=config, stopping_criteria=StoppingCriteriaList([after_token])
            )


def _seed(device: torch.device, seed: int) -> None:
    """Set what this device draws from; `torch.manual_seed` would set every other device's too."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def load_checkpoint(name: str, *, device: str | None, dtype: str, trust_remote_code: bool) -> Checkpoint:
    """The checkpoint, ready to write.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        CheckpointError: It cannot be loaded, or its weights are not exactly the network's.
    """
    # A folder of a LoRA adapter is its base, with the adapter in its weights.
    try:
        import torch
        from transformers import AutoModelForImageTextToText
    except ImportError as err:
        raise MissingExtraError("transformers with torch", "torch") from err
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    base = adapter_base(name)
    if base is not None:
        loaded = load_checkpoint(base, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        add_adapter(loaded.model, name)
        return dataclasses.replace(loaded, name=name)
    if not trust_remote_code:
        _check_needs_no_code(name)
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as err:
        raise CheckpointError(f"{name!r} cannot be loaded with transformers: {err}") from err
    _check_keys(name, found)
    return describe_checkpoint(name, model.eval().to(device), load_processor(name))


def describe_checkpoint(name: str, model: Any, processor: Any) -> Checkpoint:
    """A network that is loaded already, with its processor."""
    tokenizer = getattr(processor, "tokenizer", processor)
    ends = model.generation_config.eos_token_id
    if not isinstance(ends, list):
        ends = [ends, tokenizer.eos_token_id]
    text_config = model.config.get_text_config()
    return Checkpoint(
        name=name,
        model=model,
        processor=processor,
        tokenizer=tokenizer,
        end_tokens=frozenset(int(token) for token in ends if token is not None),
        context_length=getattr(text_config, "max_position_embeddings", None),
    )


def _check_needs_no_code(name: str) -> None:
    """Refuse, before anything large is fetched, what only code of its own could load."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    try:
        config, _ = PretrainedConfig.get_config_dict(name)
    except (OSError, ValueError):
        return  # whoever loads it says what is wrong
    check_config(name, config, CONFIG_MAPPING)


def _check_keys(name: str, found: Any) -> None:
    """Refuse what transformers only logs: it goes on with random weights where some are missing."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, found.get(kind) or ()))
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise CheckpointError(
                f"{name!r} does not fit its config.json: {kind.replace('_', ' ')} {', '.join(keys[:5])}{more}. "
                "Download the checkpoint again."
            )
