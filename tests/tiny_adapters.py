"""Tiny random Qwen-VL models as sentence-transformers reads them: a ColQwen2.5 adapter and its base, an embedding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_retrievers import QWEN_MARKS, byte_tokenizer

PAGE = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|><|endoftext|>"
# One message a text or picture; pictures are documents, texts are queries, as the published templates have it.
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    + PAGE.replace("\n", "\\n")
    + "{% else %}Query: {{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)

# Qwen's own form: the prompt is the system's message.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen25_network(**sizes: Any) -> Any:
    """A Qwen2.5-VL of two layers and a tower of two blocks, with random weights."""
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 270,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **sizes,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": text["hidden_size"],
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 14,
        "fullatt_block_indexes": [1],
    }
    marks = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    return transformers.Qwen2_5_VLModel(transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **marks))


def qwen_processor() -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = byte_tokenizer(QWEN_MARKS, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left")
    pictures = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, min_pixels=28 * 28, max_pixels=28 * 28 * 24)
    videos = transformers.Qwen2VLVideoProcessor(patch_size=14, merge_size=2)
    return transformers.Qwen2_5_VLProcessor(pictures, tokenizer, videos, chat_template=TEMPLATE)


def save_adapter(network: Any, base: str, folder: Path, *, rank: int = 4) -> None:
    """A random adapter of the language model, as PEFT saves it; `network` is changed."""
    import peft

    layers = "down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj"
    settings = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=rf".*language_model.*({layers}).*", init_lora_weights=False
    )
    added = peft.PeftModel(network, settings)
    added.peft_config["default"].base_model_name_or_path = base
    added.save_pretrained(folder)


def colqwen25(root: Path, base: str | None = None) -> tuple[Path, Path]:
    """(adapter, base) of a tiny ColQwen2.5: the projection lies in 1_Dense, as sentence-transformers has it."""
    import sentence_transformers
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Normalize

    base_folder, adapter, whole = root / "base", root / "adapter", root / "whole"
    with torch.random.fork_rng():
        torch.manual_seed(11)
        network = qwen25_network()
        network.save_pretrained(base_folder)
        qwen_processor().save_pretrained(base_folder)
        dense = Dense(32, 16, bias=True, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
        modules = [
            Transformer(str(base_folder)),
            dense,
            MultiVectorMask(),
            Normalize(module_input_name="token_embeddings"),
        ]
        sentence_transformers.MultiVectorEncoder(modules=modules, device="cpu").save(str(whole))
        # What was saved, with the adapter in place of the whole weights.
        for name in ("config.json", "model.safetensors"):
            (whole / name).unlink()
        whole.rename(adapter)
        save_adapter(network, base or str(base_folder), adapter)
    return adapter, base_folder


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def qwen3_vl_embedding(folder: Path) -> Path:
    """A tiny Qwen3-VL-Embedding in sentence-transformers' layout: prompts, the last token's state, unit length."""
    import sentence_transformers
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 270,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    marks = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    network, whole = folder / "network", folder / "whole"
    tokenizer = byte_tokenizer(QWEN_MARKS, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    pictures = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, min_pixels=32 * 32, max_pixels=32 * 32 * 24)
    videos = transformers.Qwen3VLVideoProcessor(patch_size=16, merge_size=2)
    with torch.random.fork_rng():
        torch.manual_seed(13)
        config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **marks)
        transformers.Qwen3VLModel(config).save_pretrained(network)
    transformers.Qwen3VLProcessor(pictures, tokenizer, videos, chat_template=CHAT).save_pretrained(network)
    transformer = Transformer(str(network))
    modules = [transformer, Pooling(32, pooling_mode="lasttoken"), Normalize()]
    prompts = {"query": "Retrieve pages.", "document": "Represent the input."}
    sentence_transformers.SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(whole))
    return whole


def query_model(folder: Path, dimension: int, *, seed: int = 17, kind: str = "single") -> Path:
    """A tiny text encoder with a projection of two layers to so many numbers, as NanoVDR is made."""
    import sentence_transformers
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    network, whole = folder / "network", folder / "whole"
    config = transformers.DistilBertConfig(vocab_size=270, dim=32, n_layers=2, n_heads=4, hidden_dim=48)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.DistilBertModel(config).save_pretrained(network)
        byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], pad_token="[PAD]").save_pretrained(network)
        if kind == "multi":
            plain: Any = {"activation_function": torch.nn.Identity(), "module_input_name": "token_embeddings"}
            modules = [Transformer(str(network)), Dense(32, dimension, **plain), MultiVectorMask()]
            modules.append(Normalize(module_input_name="token_embeddings"))
            sentence_transformers.MultiVectorEncoder(modules=modules, device="cpu").save(str(whole))
            return whole
        hidden = Dense(32, 48, activation_function=torch.nn.GELU())
        last = Dense(48, dimension, activation_function=torch.nn.Identity())
        modules = [Transformer(str(network)), Pooling(32, pooling_mode="mean"), hidden, last, Normalize()]
        sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(whole))
    return whole
