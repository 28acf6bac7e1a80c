"""Tiny random rerankers as sentence-transformers reads them: one of text, one that sees pages as Qwen3-VL-Reranker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_retrievers import QWEN_MARKS, byte_tokenizer

# Each pair is one conversation: the instruction, the query and the document, pictures where a message has some.
PAIR = (
    "<|im_start|>system\nJudge the document.<|im_end|>\n<|im_start|>user\n"
    "{% for message in messages %}{% if message['role'] == 'query' %}Query: {% else %}Document: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}\n{% endfor %}"
    "<|im_end|>\n<|im_start|>assistant\n"
)


def text_reranker(folder: Path, *, labels: int = 1, length: int = 64, activation: str = "") -> Path:
    """A BERT of two layers with one output for a pair of texts, a byte a token."""
    marks = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = transformers.BertConfig(
            vocab_size=len(marks) + 256,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=length,
            num_labels=labels,
        )
        if activation:
            config.sentence_transformers = {"activation_fn": activation}
        network = transformers.BertForSequenceClassification(config)
        for weights in network.parameters():
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, 0, 0.3)  # so that other letters give clearly other scores
        network.save_pretrained(folder)
    tokenizer = byte_tokenizer(
        marks, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", unk_token="[UNK]"
    )
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.model_max_length = length
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return folder


def picture_reranker(folder: Path) -> Path:
    """A Qwen3-VL of two layers whose score is one token's logit less another's."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    network, whole = folder / "network", folder / "whole"
    tokenizer: Any = byte_tokenizer(QWEN_MARKS, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left")
    pictures = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, min_pixels=32 * 32, max_pixels=32 * 32 * 24)
    videos = transformers.Qwen3VLVideoProcessor(patch_size=16, merge_size=2)
    with torch.random.fork_rng():
        torch.manual_seed(17)
        transformers.Qwen3VLForConditionalGeneration(qwen3_vl_config()).save_pretrained(network)
    transformers.Qwen3VLProcessor(pictures, tokenizer, videos, chat_template=PAIR).save_pretrained(network)
    transformer = Transformer(str(network), transformer_task="any-to-any")
    modules = [transformer, LogitScore(true_token_id=90, false_token_id=80)]
    CrossEncoder(modules=modules, device="cpu").save(str(whole))
    return whole


def qwen3_vl_config(**sizes: Any) -> Any:
    """Two layers, a tower of two blocks; heads of 32 numbers, which vLLM's CPU build can attend with."""
    text = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 270,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **sizes,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "out_hidden_size": text["hidden_size"],
        "intermediate_size": 96,
        "num_heads": 2,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    marks = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    return transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **marks)
