"""Random checkpoints of a few thousand weights in the published layout, built in code: nothing is downloaded."""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from visrag_integrations import load_embedder

_ROOT = tempfile.TemporaryDirectory(prefix="tiny-retrievers-")
atexit.register(_ROOT.cleanup)
QWEN_MARKS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def byte_tokenizer(marks: Sequence[str], **settings: Any) -> Any:
    """A tokenizer with one token a byte after the special ones, whose ids are their places."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: number for number, token in enumerate([*marks, *alphabet])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if "bos_token" in settings:
        bos = settings["bos_token"]
        made.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, marks.index(bos))])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, additional_special_tokens=list(marks), **settings
    )


def _colqwen2(folder: Path) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = byte_tokenizer(QWEN_MARKS, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left")
    pictures = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, min_pixels=28 * 28, max_pixels=28 * 28 * 24)
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
    }
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    marks = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    vlm = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **marks)
    config = transformers.ColQwen2Config(vlm_config=vlm, embedding_dim=16)
    transformers.ColQwen2Processor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    transformers.ColQwen2ForRetrieval(config).save_pretrained(folder)


def _colpali(folder: Path) -> None:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    marks = ("<pad>", "<eos>", "<bos>", "<unk>", "<image>")
    tokenizer = byte_tokenizer(marks, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>")
    pictures = SiglipImageProcessorPil(size={"height": 56, "width": 56})
    pictures.image_seq_length = 16
    text = {
        "model_type": "gemma",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "vocab_size": 1500,
        "pad_token_id": 0,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 32,
    }
    vlm = transformers.PaliGemmaConfig(
        text_config=text, vision_config=vision, image_token_id=4, projection_dim=32, hidden_size=32
    )
    transformers.ColPaliProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    transformers.ColPaliForRetrieval(transformers.ColPaliConfig(vlm_config=vlm, embedding_dim=16)).save_pretrained(
        folder
    )


def _clip(folder: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    marks = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *marks]
    tokenizer = transformers.CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    tokenizer.model_max_length = 77
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(tokens), "bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    transformers.CLIPProcessor(pictures, tokenizer).save_pretrained(folder)
    transformers.CLIPModel(config).save_pretrained(folder)


def _llava(folder: Path) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    marks = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
    tokenizer = byte_tokenizer(
        marks, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", padding_side="left"
    )
    pinpoints = [[28, 56], [56, 28], [56, 56]]
    side = {"height": 28, "width": 28}
    pictures = LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints, size={"shortest_edge": 28}, crop_size=side)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text = transformers.MistralConfig(
        **sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=8, vocab_size=270, max_position_embeddings=4096
    )
    vision = transformers.CLIPVisionConfig(**sizes, num_attention_heads=2, image_size=28, patch_size=14)
    config = transformers.LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=4, image_grid_pinpoints=pinpoints, image_seq_length=4
    )
    transformers.LlavaNextProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)
    transformers.LlavaNextForConditionalGeneration(config).save_pretrained(folder)


def _colmodernvbert(folder: Path) -> None:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tiles = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
    marks = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "<fake_token_around_image>", "<image>", "<end_of_utterance>")
    marks = (*marks, "<global-img>", "<|begin_of_text|>", *tiles)
    tokenizer = byte_tokenizer(marks, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    text = transformers.ModernBertConfig(
        vocab_size=len(marks) + 260,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    )
    vision = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    vlm = transformers.ModernVBertConfig(
        text_config=text, vision_config=vision, image_token_id=5, pixel_shuffle_factor=2
    )
    transformers.ColModernVBertProcessor(pictures, tokenizer, image_seq_len=4).save_pretrained(folder)
    transformers.ColModernVBertForRetrieval(
        transformers.ColModernVBertConfig(vlm_config=vlm, embedding_dim=16)
    ).save_pretrained(folder)


def _dse_qwen2(folder: Path) -> None:
    """A Qwen2-VL that would write text too; that it embeds stands nowhere in such a checkpoint, so it is added."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    vlm = transformers.AutoConfig.from_pretrained(tiny("colqwen2")).vlm_config
    tokenizer = byte_tokenizer(QWEN_MARKS, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left")
    pictures = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2)
    tokenizer.save_pretrained(folder)
    pictures.save_pretrained(folder)
    network = transformers.Qwen2VLForConditionalGeneration(vlm)
    network.config.visrag_system = "dse-qwen2"
    network.save_pretrained(folder)


def _sentence_transformers(folder: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    sentence_transformers.SentenceTransformer(str(tiny("bge-vl-clip")), device="cpu").save(str(folder))


BUILDERS: dict[str, Callable[[Path], None]] = {
    "bge-vl-clip": _clip,
    "bge-vl-mllm": _llava,
    "colqwen2": _colqwen2,
    "colpali": _colpali,
    "colmodernvbert": _colmodernvbert,
    "dse-qwen2": _dse_qwen2,
    "sentence-transformers": _sentence_transformers,
}


@functools.cache
def tiny(system: str) -> Path:
    """The folder of a random checkpoint of that system, built once a run; copy it before you change it."""
    folder = Path(_ROOT.name) / system
    bars, level = transformers.logging.is_progress_bar_enabled(), transformers.logging.get_verbosity()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        BUILDERS[system](folder)
    transformers.logging.set_verbosity(level)
    if bars:
        transformers.logging.enable_progress_bar()
    return folder


@functools.cache
def tiny_embedder(system: str) -> Any:
    """The embedder of `tiny(system)`, one for the whole run."""
    return load_embedder(tiny(system), device="cpu")
