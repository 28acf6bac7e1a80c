"""What a page costs on a processor: ColModernVBERT in float32 and in the ways of `cpu-visual`, on random weights.

    python benchmarks/cpu_visual.py [--sizes 512,1024,2048] [--repeats 3] [--folder FOLDER]

The network has the size of the published one (252 million parameters) and random weights: times and memory are those of
the real one, cosines are not; what int8 does to released weights is not shown here.

Times are processor seconds on one thread, which other programs on the machine hardly change: on a machine that does
nothing else, divide by the cores. All ways run in turns on the same page; the ratio is of the medians.
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

os.environ["HF_HUB_OFFLINE"] = "1"

# An A4 page as the model cuts it: one tile; 2 x 2 and an overview; 4 x 3 and an overview.
TILES = {512: 1, 1024: 5, 2048: 13}
WAYS = ("float32", "bfloat16", "int8")


def random_network(folder: Path) -> None:
    """Writes a checkpoint with random weights in the published size, unless it is there."""
    import torch
    import transformers

    if (folder / "config.json").is_file():
        return
    text = transformers.ModernBertConfig(
        vocab_size=50408, hidden_size=768, intermediate_size=1152, num_hidden_layers=22
    )
    vision = transformers.SiglipVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=512
    )
    vlm = transformers.ModernVBertConfig(text_config=text, vision_config=vision, image_token_id=50407)
    torch.manual_seed(0)
    network = transformers.ColModernVBertForRetrieval(
        transformers.ColModernVBertConfig(vlm_config=vlm, embedding_dim=128)
    )
    network.save_pretrained(folder)


def network_of(folder: Path, way: str) -> Any:
    import torch
    import transformers

    from visrag_integrations.embedders.fast_cpu import make_fast

    network = transformers.ColModernVBertForRetrieval.from_pretrained(folder, dtype=torch.float32).eval()
    return make_fast(network, way)


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


def measure(folder: Path, size: int, repeats: int) -> None:
    """Prints one line a way."""
    networks = {way: network_of(folder, way) for way in WAYS}
    page = page_of(TILES[size])
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    vectors: dict[str, Any] = {}
    for _ in range(repeats):
        for way, network in networks.items():
            vectors[way], seconds = embed(network, page)
            times[way].append(seconds)
    for way in WAYS:
        cosines = (vectors[way] * vectors["float32"]).sum(-1)
        ratio = median(times["float32"]) / median(times[way])
        print(
            f"{size:>5} px  {way:<9} {median(times[way]):7.2f} s  {min(times[way]):.2f} to {max(times[way]):.2f}  "
            f"x{ratio:.2f}  cosine least {cosines.min():.5f} mean {cosines.mean():.5f}",
            flush=True,
        )


def memory(folder: Path, size: int, way: str) -> None:
    """Prints megabytes that stay, loaded and after a page."""
    network = network_of(folder, way)
    loaded = resident()
    embed(network, page_of(TILES[size]))
    print(json.dumps({"size": size, "way": way, "loaded": loaded, "after_a_page": resident()}), flush=True)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="512,1024,2048")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the random checkpoint is kept, for the next run")
    parser.add_argument("--memory", metavar="WAY", help="of this way, and nothing else")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        random_network(folder)
        for size in map(int, arguments.sizes.split(",")):
            if arguments.memory:
                memory(folder, size, arguments.memory)
                continue
            measure(folder, size, arguments.repeats)
            for way in WAYS:
                command = [sys.executable, __file__, "--sizes", str(size), "--folder", str(folder), "--memory", way]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
