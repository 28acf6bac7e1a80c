"""Networks of published sizes with random weights, made where they are needed: nothing is read, written or fetched.

Their tokenizers have a token a byte, so that texts are longer than with real ones; pictures are cut as published.
VISRAG_BENCH_LAYERS=1 leaves one layer of each part, in the published width: whether it runs, without a GPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from visrag_integrations.embedders.devices import choose_device, choose_dtype  # noqa: E402

LAYERS = "VISRAG_BENCH_LAYERS"
PARTS = ("text_config", "vision_config")
# Of Qwen2.5-VL-7B-Instruct's and -3B-Instruct's config.json.
VISION_2_5: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
TEXT_7B: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_window_layers": 28,
}
TEXT_3B: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_window_layers": 36,
}
ROPE = {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]}
# Of Qwen2-VL-2B, which ColQwen2 is made of.
TEXT_2B: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_window_layers": 28,
}
VISION_2: dict[str, Any] = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "hidden_size": 1536}


def make(kind: Any, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The network with random weights, on the device from the start."""
    torch.manual_seed(0)
    if os.environ.get(LAYERS):
        cut_layers(config, int(os.environ[LAYERS]))
    config.dtype = dtype
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            network = kind(config)
    finally:
        torch.set_default_dtype(usual)
    # The weights alone: buffers (the angles of positions) stay in float32, as they do when a checkpoint is loaded.
    for weight in network.parameters():
        weight.data = weight.data.to(device=device, dtype=dtype)
    return network.to(device).eval().requires_grad_(False)


def cut_layers(config: Any, layers: int) -> None:
    """So many layers at most, in all parts of the network."""
    parts = [config, *(getattr(config, name, None) for name in PARTS)]
    if getattr(config, "vlm_config", None) is not None:
        cut_layers(config.vlm_config, layers)
    for part in parts:
        for name in ("num_hidden_layers", "depth"):
            if getattr(part, name, None) is not None:
                setattr(part, name, min(layers, getattr(part, name)))
        if getattr(part, "layer_types", None) is not None:
            part.layer_types = part.layer_types[:layers]
        for name in ("fullatt_block_indexes", "deepstack_visual_indexes"):
            if getattr(part, name, None) is not None:
                setattr(part, name, [layers - 1])


def where() -> tuple[torch.device, torch.dtype]:
    """The GPU with bfloat16, where there is one; else the processor with float32: only whether it runs."""
    device = choose_device(None)
    return device, choose_dtype(None, device)


def qwen2_5_vl(folder: Path, size: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A Qwen2.5-VL of "7b", "3b" or "tiny"; its processor and config.json are in the folder afterwards."""
    from tiny_models import build_qwen2_5_vl
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    build_qwen2_5_vl(folder, context_length=32768)
    config = AutoConfig.from_pretrained(folder)
    if size != "tiny":
        text = TEXT_7B if size == "7b" else TEXT_3B
        for name, value in text.items():
            setattr(config.text_config, name, value)
        config.text_config.rope_parameters = ROPE
        config.text_config.layer_types = ["full_attention"] * text["num_hidden_layers"]
        for name, value in VISION_2_5.items():
            setattr(config.vision_config, name, value)
        config.vision_config.out_hidden_size = text["hidden_size"]
    network = make(Qwen2_5_VLForConditionalGeneration, config, device, dtype)
    from transformers import AutoTokenizer

    # No answer ends early, and none has a picture's token in it: what is compared is equally long.
    marks = list(AutoTokenizer.from_pretrained(folder).get_added_vocab().values())
    network.lm_head.weight.data[marks] = 0
    network.generation_config.eos_token_id = config.text_config.eos_token_id
    network.generation_config.pad_token_id = 0
    return network


def embedder(system: str, folder: Path, quick: bool) -> Any:
    """An embedder as the library loads it, around a random network: "colqwen2" or "colmodernvbert"."""
    from tiny_retrievers import tiny

    from visrag_integrations import load_embedder

    device, dtype = where()
    shutil.copytree(tiny(system), folder)
    if quick:
        return load_embedder(folder, device=device, dtype=dtype)
    config = CONFIGS[system](folder)

    def random_network(class_name: str, _: Path, **settings: Any) -> Any:
        import transformers

        return make(getattr(transformers, class_name), config, settings["device"], settings["dtype"])

    with mock.patch("visrag_integrations.embedders.transformers_embedder.load_network", random_network):
        return load_embedder(folder, device=device, dtype=dtype)


def _colqwen2(folder: Path) -> Any:
    import transformers

    _change_pictures(folder, size={"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28})
    small = transformers.AutoConfig.from_pretrained(folder).vlm_config
    text = {**small.text_config.to_dict(), **TEXT_2B, "rope_parameters": ROPE}
    text["layer_types"] = ["full_attention"] * TEXT_2B["num_hidden_layers"]
    vision = {**small.vision_config.to_dict(), **VISION_2}
    marks = {}
    for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        marks[name] = getattr(small, name)
    vlm = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **marks)
    return transformers.ColQwen2Config(vlm_config=vlm, embedding_dim=128)


def _colmodernvbert(folder: Path) -> Any:
    """The network of `cpu-visual`; sizes as in `cpu_visual.py`."""
    import transformers

    _change_pictures(folder, size={"longest_edge": 2048}, max_image_size={"longest_edge": 512})
    _change(folder / "processor_config.json", image_seq_len=64)
    text = transformers.ModernBertConfig(
        vocab_size=50408, hidden_size=768, intermediate_size=1152, num_hidden_layers=22, num_attention_heads=12,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    vision = transformers.SiglipVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=512,
        patch_size=16,
    )  # fmt: skip
    vlm = transformers.ModernVBertConfig(
        text_config=text, vision_config=vision, image_token_id=5, pixel_shuffle_factor=4
    )
    return transformers.ColModernVBertConfig(vlm_config=vlm, embedding_dim=128)


CONFIGS: dict[str, Callable[[Path], Any]] = {"colqwen2": _colqwen2, "colmodernvbert": _colmodernvbert}


def _change_pictures(folder: Path, **values: Any) -> None:
    """Settings of the picture processor, in whichever file they are."""
    path = folder / "processor_config.json"
    content = json.loads(path.read_text())
    if "image_processor" in content:
        content["image_processor"].update(values)
        path.write_text(json.dumps(content))
    else:
        _change(folder / "preprocessor_config.json", **values)


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock, until the device is done."""
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


@contextlib.contextmanager
def peak(name: str) -> Iterator[None]:
    """A block whose highest memory on the device becomes a row."""
    import table

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        if torch.cuda.is_available():
            gibibytes = torch.cuda.max_memory_allocated() / 2**30
            table.keep(f"{name}: memory at most on the device", gibibytes, "GiB")
            print(f"{name}: {gibibytes:.1f} GiB at most on the device", flush=True)
