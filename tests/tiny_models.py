"""A tiny Qwen2.5-VL with random weights, as a whole checkpoint: network, tokenizer, chat template, picture settings."""

from __future__ import annotations

import atexit
import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"),
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_qwen2_5_vl(folder: Path, *, seed: int = 0, context_length: int = 8192, words: Sequence[str] = ()) -> Path:
    """Writes the checkpoint to the folder: two layers, the same weights for the same seed.

    A token is one byte, or one of the words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(folder, context_length, words=words)
    text = {
        "vocab_size": len(ids),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": context_length,
        "bos_token_id": None,
        "pad_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "rms_norm_eps": 1e-6,
        "max_window_layers": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 14,
        "fullatt_block_indexes": [1],
        "window_size": 112,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        dtype="float32",
    )
    torch.manual_seed(seed)
    network = Qwen2_5_VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.2)  # spread enough that one token is clearly the most probable
        for token, row in ids.items():
            if token != "Ġ" and not (len(token) == 1 and token.isascii()):
                network.lm_head.weight[row] = 0  # so that only spaces and visible ASCII are written
    network.generation_config.eos_token_id = ids["<|im_end|>"]
    network.generation_config.pad_token_id = ids["<|endoftext|>"]
    network.save_pretrained(folder, safe_serialization=True)
    return folder


@functools.cache
def shared_qwen2_5_vl() -> Path:
    """One checkpoint for all tests of a run that only read it; gone when the run ends."""
    folder = tempfile.TemporaryDirectory(prefix="visrag-tiny-")
    atexit.register(folder.cleanup)
    return build_qwen2_5_vl(Path(folder.name))


def _write_tokenizer(
    folder: Path, context_length: int, special: tuple[str, ...] = SPECIAL, words: Sequence[str] = ()
) -> dict[str, int]:
    """Tokenizer, chat template and picture settings; gives every token's id."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    pictures = {
        "min_pixels": 4 * 28 * 28,
        "max_pixels": 1280 * 28 * 28,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    _write_json(
        folder / "preprocessor_config.json",
        image_processor_type="Qwen2VLImageProcessor",
        processor_class="Qwen2_5_VLProcessor",
        **pictures,
    )
    return tokenizer.get_vocab()


def _write_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def build_idefics3(folder: Path) -> Path:
    """A tiny Idefics3 (what SmolVLM grew from): pictures are cut into tiles of 16 tokens, whatever their size."""

    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    ids = _write_tokenizer(folder, 8192, (*SPECIAL, *marks, *places))
    text = {"model_type": "llama", "vocab_size": len(ids), "hidden_size": 64, "intermediate_size": 96}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Idefics3Config(
        text_config={**text, "max_position_embeddings": 8192, "eos_token_id": ids["<|im_end|>"]},
        vision_config={**vision, "image_size": 112, "patch_size": 14},
        scale_factor=2,
        image_token_id=ids["<image>"],
        pad_token_id=0,
    )
    torch.manual_seed(0)
    network = Idefics3ForConditionalGeneration(config)
    network.generation_config.eos_token_id = ids["<|im_end|>"]
    network.save_pretrained(folder)
    template = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    pictures = {"size": {"longest_edge": 224}, "max_image_size": {"longest_edge": 112}, "do_image_splitting": True}
    _write_json(folder / "preprocessor_config.json", image_processor_type="Idefics3ImageProcessor", **pictures)
    _write_json(folder / "processor_config.json", processor_class="Idefics3Processor", image_seq_len=16)
    return folder
