"""Tiny Qwen3-VL and MiniCPM-V 4.6 and 4.7 with random weights, as whole checkpoints that write text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_models import CHAT_TEMPLATE, SPECIAL, _write_tokenizer

CONTEXT = 8192
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "pad_token_id": None,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_heads": 2}
# MiniCPM-V 4.x names the tokens of pictures and of their slices in its tokenizer.
MINICPM_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}


def build_qwen3_vl(folder: Path) -> Path:
    ids = _write_tokenizer(folder, CONTEXT)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6], "mrope_interleaved": True}
    config = transformers.Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(ids), "eos_token_id": ids["<|im_end|>"], "rope_parameters": rope},
        vision_config={
            **VISION,
            "depth": 2,
            "out_hidden_size": 64,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
        dtype="float32",
    )
    pictures = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}
    pictures["size"] = {"shortest_edge": 4 * 32 * 32, "longest_edge": 1280 * 32 * 32}
    settings = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen3VLProcessor"}
    _write(folder / "preprocessor_config.json", {**settings, **pictures})
    video = {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"}
    _write(folder / "video_preprocessor_config.json", {**video, **pictures})
    return _save(transformers.Qwen3VLForConditionalGeneration(config), ids, folder)


def build_minicpm_v(folder: Path, version: str) -> Path:
    """The version is "4_6" or "4_7"."""
    special = (*SPECIAL, *(mark for mark in MINICPM_MARKS.values() if mark not in SPECIAL))
    ids = _write_tokenizer(folder, CONTEXT, special)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    _write(folder / "tokenizer_config.json", {**tokenizer, "extra_special_tokens": MINICPM_MARKS})
    template = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image_pad|>")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    text = {
        **TEXT,
        "model_type": "qwen3_5_text",
        "vocab_size": len(ids),
        "eos_token_id": ids["<|im_end|>"],
        "rope_parameters": {**rope, "partial_rotary_factor": 0.25},
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    }
    marks: dict[str, Any] = {}
    if version == "4_7":
        marks = {"image_start_id": ids["<image>"], "image_end_id": ids["</image>"]}
        marks |= {"slice_start_id": ids["<slice>"], "slice_end_id": ids["</slice>"], "newline_id": ids["Ċ"]}
    config = getattr(transformers, f"MiniCPMV{version}Config")(
        text_config=text,
        vision_config={**VISION, "num_hidden_layers": 2, "image_size": 224, "patch_size": 14},
        insert_layer_id=0,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        dtype="float32",
        **marks,
    )
    pictures = {"patch_size": 14, "scale_resolution": 112, "max_slice_nums": 4, "use_image_id": True}
    kind = {"image_processor_type": "MiniCPMV4_6ImageProcessor", "processor_class": f"MiniCPMV{version}Processor"}
    _write(folder / "preprocessor_config.json", {**kind, **pictures})
    video = {"video_processor_type": "MiniCPMV4_6VideoProcessor", "processor_class": f"MiniCPMV{version}Processor"}
    _write(folder / "video_preprocessor_config.json", {**video, **pictures})
    return _save(getattr(transformers, f"MiniCPMV{version}ForConditionalGeneration")(config), ids, folder)


def _save(network: Any, ids: dict[str, int], folder: Path) -> Path:
    """Weights that are spread enough for one token to be clearly the most probable, and write visible ASCII."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.2)
        for token, row in ids.items():
            if token != "Ġ" and not (len(token) == 1 and token.isascii()):
                network.lm_head.weight[row] = 0
    network.generation_config.eos_token_id = ids["<|im_end|>"]
    network.generation_config.pad_token_id = ids["<|endoftext|>"]
    network.eval().save_pretrained(folder, safe_serialization=True)
    return folder


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
