"""Tiny random checkpoints of late-interaction models that vLLM's CPU build serves, and their vectors by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_rerankers import qwen3_vl_config
from tiny_retrievers import QWEN_MARKS, byte_tokenizer

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ['image', 'image_url'] %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)
PAGE = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"


# Each publisher's own names for the same tensors: (config's model_type, what is before the network's, the projection).
LAYOUTS = {
    "ColQwen3": ("colqwen3", "vlm.model.", "embedding_proj_layer.weight"),
    "OpsColQwen3Model": ("ops_colqwen3", "", "custom_text_proj.weight"),
    "Qwen3VLNemotronEmbedModel": ("qwen3_vl_nemotron_embed", "model.", ""),  # the last states are the vectors
}


def colqwen3(folder: Path, architecture: str = "ColQwen3") -> Path:
    """A Qwen3-VL in the layout of one publisher, with a projection to 16 numbers where that has one."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer(QWEN_MARKS, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    pictures = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, min_pixels=32 * 32, max_pixels=32 * 32 * 24)
    videos = transformers.Qwen3VLVideoProcessor(patch_size=16, merge_size=2)
    transformers.Qwen3VLProcessor(pictures, tokenizer, videos, chat_template=CHAT).save_pretrained(folder)
    model_type, before, projection = LAYOUTS[architecture]
    config = qwen3_vl_config()
    said = {**config.to_dict(), "architectures": [architecture], "model_type": model_type}
    with torch.random.fork_rng():
        torch.manual_seed(19)
        network = transformers.Qwen3VLModel(config)
        weights = {before + name: value.contiguous().clone() for name, value in network.state_dict().items()}
        if projection:
            weights[projection] = torch.randn(16, config.text_config.hidden_size) * 0.2
            said["embed_dim" if architecture == "ColQwen3" else "dims"] = 16
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(said))
    return folder


def colqwen3_by_hand(folder: Path, prompt: str, picture: Any = None) -> np.ndarray[Any, Any]:
    """The vectors of a prompt's tokens, by transformers: the last states, projected, of unit length."""
    said = json.loads((folder / "config.json").read_text())
    _, before, projection = LAYOUTS[said["architectures"][0]]
    weights = load_file(folder / "model.safetensors")
    projected = weights.pop(projection, None)
    network = transformers.Qwen3VLModel(qwen3_vl_config()).eval()
    network.load_state_dict({name.removeprefix(before): value for name, value in weights.items()})
    processor = transformers.Qwen3VLProcessor.from_pretrained(folder)
    pictures = None if picture is None else [picture]
    inputs = processor(text=[prompt], images=pictures, return_tensors="pt")
    with torch.inference_mode():
        states = network(**inputs).last_hidden_state[0]
    if projected is not None:
        states = states @ projected.T
    vectors: np.ndarray[Any, Any] = torch.nn.functional.normalize(states, dim=-1).numpy()
    return vectors
