"""What a page costs on a processor: ColModernVBERT in float32 and in the ways of `cpu-visual`, on random weights.

    python benchmarks/cpu_visual.py [--size 512 1024 2048] [--repeats 3] [--threads 1] [--ways float32 int8] [--quick]

The network has the size of the published one (252 million parameters) and random weights: times and memory are those of
the real one, cosines are not; what int8 does to released weights is not shown here.

Times are processor seconds, on one thread unless `--threads` says otherwise, which other programs on the machine
hardly change: on a machine that does nothing else, divide by the cores. All ways run in turns on the same page; the
ratio is of the medians. Seconds to load and memory are of a process of its own for each way.

`int8` is what `cpu-visual` takes; `int8-plain` is what it takes where oneDNN's int8 products are missing. Where ONNX
Runtime and OpenVINO are installed they compute the layers of the vision tower (nine tenths of the arithmetic); the text
tower stays in torch, in int8 beside their int8, else in float32. `--quick`: a tiny network, one tile, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import table

os.environ["HF_HUB_OFFLINE"] = "1"

# An A4 page as the model cuts it: one tile; 2 x 2 and an overview; 4 x 3 and an overview.
TILES = {512: 1, 1024: 5, 2048: 13}
WAYS = ("float32", "bfloat16", "int8", "int8-plain")


def random_network(folder: Path, quick: bool) -> None:
    """Writes a checkpoint with random weights in the published size, or a tiny one, unless it is there."""
    import torch
    import transformers

    if (folder / "config.json").is_file():
        return
    # A tiny one has the published number of patches, and a hundredth of the work for each.
    wide, text_layers, tower_layers = (96, 2, 2) if quick else (768, 22, 12)
    text = transformers.ModernBertConfig(
        vocab_size=50408, hidden_size=wide, intermediate_size=wide * 3 // 2, num_hidden_layers=text_layers,
        num_attention_heads=12,
    )  # fmt: skip
    vision = transformers.SiglipVisionConfig(
        hidden_size=wide, intermediate_size=wide * 4, num_hidden_layers=tower_layers, num_attention_heads=12,
        image_size=512,
    )  # fmt: skip
    vlm = transformers.ModernVBertConfig(text_config=text, vision_config=vision, image_token_id=50407)
    torch.manual_seed(0)
    network = transformers.ColModernVBertForRetrieval(
        transformers.ColModernVBertConfig(vlm_config=vlm, embedding_dim=128)
    )
    network.save_pretrained(folder)


def network_of(folder: Path, way: str) -> Any:
    import torch
    import transformers

    from visrag_integrations.embedders import int8_linear
    from visrag_integrations.embedders.fast_cpu import make_fast

    network = transformers.ColModernVBertForRetrieval.from_pretrained(folder, dtype=torch.float32).eval()
    if way == "int8-plain":
        found, int8_linear.has_fused_int8 = int8_linear.has_fused_int8, lambda: False
        made = make_fast(network, "int8")
        int8_linear.has_fused_int8 = found
        return made
    if way in WAYS:
        return make_fast(network, way)
    from cpu_visual_runtimes import replace_encoder

    replace_encoder(network, way)
    return make_fast(network, "int8" if way.endswith("int8") else "float32")


def page_of(tiles: int) -> dict[str, Any]:
    """A page's tokens and pixels: 64 places a tile, a few words around them."""
    import torch

    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(100, 50000, (1, tiles * 70 + 10), generator=generator)
    ids[0, 5 : 5 + tiles * 64] = 50407
    coarse = torch.rand(tiles, 3, 64, 64, generator=generator) * 2 - 1
    pixels = torch.nn.functional.interpolate(coarse, size=(512, 512))[None]
    mask = torch.ones(1, tiles, 512, 512, dtype=torch.bool)
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels, "pixel_attention_mask": mask,
    }  # fmt: skip


def embed(network: Any, page: dict[str, Any]) -> tuple[Any, float]:
    """The page's unit vectors, and the processor seconds they took."""
    import torch

    began = time.process_time()
    with torch.inference_mode():
        made = network(**{**page, "pixel_values": page["pixel_values"].to(network.dtype)}).embeddings.float()
    return torch.nn.functional.normalize(made, dim=-1), time.process_time() - began


def measure(folder: Path, size: int, ways: list[str], repeats: int) -> None:
    """Prints one line a way; a row of the common table has float32 as its raw path."""
    networks = {way: network_of(folder, way) for way in ways}
    page = page_of(TILES[size])
    times: dict[str, list[float]] = {way: [] for way in ways}
    vectors: dict[str, Any] = {}
    for _ in range(repeats):
        for way, network in networks.items():
            vectors[way], seconds = embed(network, page)
            times[way].append(seconds)
    for way in ways:
        cosines = (vectors[way] * vectors["float32"]).sum(-1)
        ratio = median(times["float32"]) / median(times[way])
        if way != "float32":
            table.keep(f"cpu-visual: {way}, {size} px", median(times[way]), "s", median(times["float32"]))
        print(
            f"{size:>5} px  {way:<19} {median(times[way]):7.3f} s  {min(times[way]):.3f} to {max(times[way]):.3f}  "
            f"x{ratio:.2f}  cosine least {cosines.min():.5f} mean {cosines.mean():.5f}",
            flush=True,
        )


def memory(folder: Path, size: int, way: str) -> None:
    """Prints the processor seconds of loading, and megabytes that stay, loaded and after a page."""
    began = time.process_time()
    network = network_of(folder, way)
    seconds = round(time.process_time() - began, 2)
    loaded = resident()
    embed(network, page_of(TILES[size]))
    found = {"size": size, "way": way, "load_seconds": seconds, "loaded_mb": loaded, "after_a_page_mb": resident()}
    print(json.dumps(found), flush=True)


def resident() -> int:
    """Megabytes in memory, the mapped files among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=list(TILES), choices=list(TILES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", help="float32 comes first in any case; all that are installed by default")
    parser.add_argument("--folder", help="where the random checkpoint is kept, for the next run")
    parser.add_argument("--memory", metavar="WAY", help="load and memory of this way, and nothing else")
    parser.add_argument("--no-memory", action="store_true", help="times and cosines alone")
    parser.add_argument("--quick", action="store_true", help="a tiny network, one tile, once")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.repeats = [512], 1

    import torch
    from cpu_visual_runtimes import installed

    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    asked = arguments.ways or [*WAYS, *installed()]
    ways = ["float32", *(way for way in asked if way != "float32")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        random_network(folder, arguments.quick)
        for size in arguments.size:
            if arguments.memory:
                memory(folder, size, arguments.memory)
                continue
            measure(folder, size, ways, arguments.repeats)
            for way in [] if arguments.no_memory else ways:
                command = [sys.executable, __file__, "--folder", str(folder), "--threads", str(arguments.threads)]
                subprocess.run([*command, "--size", str(size), "--memory", way], check=True)


if __name__ == "__main__":
    main()
