"""VisRAG-Ret: pages/s and queries/s by stage, against a plain page-by-page run of the same network in the same process.

    python benchmarks/visrag_ret.py                                    # a small random network, on a processor too
    python benchmarks/visrag_ret.py --size real --pages 128            # 3.2 B random weights made on the GPU, bfloat16
    python benchmarks/visrag_ret.py --checkpoint FOLDER                # any checkpoint

Pages are drawn A4 sheets at 200 dpi. Every figure is the median of the repeats; plain and batched runs take turns.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import table
import torch
from comparing import least_cosine
from PIL import Image, ImageDraw

from visrag_integrations.embedders.devices import DTYPES, choose_device, choose_dtype
from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
from visrag_integrations.embedders.minicpm_inputs import RESIZERS, Item, Preparer, exact_pixels
from visrag_integrations.embedders.minicpm_runner import Runner
from visrag_integrations.embedders.prefetch import prefetch
from visrag_integrations.embedders.slicing import Slicing, plan_slices
from visrag_integrations.embedders.visrag_ret import INSTRUCTION
from visrag_integrations.models.config import VisRAGRetConfig, parse_config
from visrag_integrations.models.minicpm import MiniCPMConfig
from visrag_integrations.models.siglip import SiglipConfig
from visrag_integrations.models.visrag_ret import PictureGroup, VisRAGRetModel
from visrag_integrations.models.weights import read_json

TINY = Path(__file__).parent.parent / "tests" / "data" / "visrag_ret_tiny" / "checkpoint"
SIZES = {
    "tiny": VisRAGRetConfig(MiniCPMConfig(256, 3, 4, 4, 512, 1000), SiglipConfig(72, 4, 4, 269)),
    "small": VisRAGRetConfig(MiniCPMConfig(512, 6, 8, 8, 1280, 1000), SiglipConfig(384, 7, 6, 1434)),
    "real": VisRAGRetConfig(MiniCPMConfig(), SiglipConfig()),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a folder; without one, random weights of --size")
    parser.add_argument("--size", choices=sorted(SIZES), help="real on a GPU, else small")
    parser.add_argument("--device")
    parser.add_argument("--dtype", choices=sorted(DTYPES))
    parser.add_argument("--pages", type=int, help="64 on a GPU, else 4")
    parser.add_argument("--queries", type=int, help="512 on a GPU, else 32")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--token-budget", type=int)
    parser.add_argument("--resize", choices=sorted(RESIZERS), default="exact")
    parser.add_argument("--workers", type=int, default=min(16, torch.get_num_threads()))
    parser.add_argument("--threads", type=int, help="of torch, on a processor")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def draw_page(number: int) -> Image.Image:
    """An A4 sheet at 200 dpi with lines of text and a chart."""
    page = Image.new("RGB", (1654, 2339), "white")
    draw = ImageDraw.Draw(page)
    for line in range(60):
        draw.text((120, 120 + 28 * line), f"{number}.{line} " + "revenue cost margin region quarter " * 5, "black")
    for bar in range(12):
        draw.rectangle((150 + 100 * bar, 2200 - 30 * ((bar * 7 + number) % 11), 220 + 100 * bar, 2200), "steelblue")
    return page


class Bench:
    """One network and everything that is timed on it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = choose_device(arguments.device)
        self.gpu = self.device.type == "cuda"
        self.dtype = choose_dtype(arguments.dtype, self.device)
        self.model = self.load()
        if arguments.compile:
            self.model.compile_parts()
        self.config = self.model.config
        self.runner = Runner(self.model, arguments.batch_size, arguments.token_budget)
        self.preparer = self.make_preparer(arguments.checkpoint or TINY)
        self.pool = ThreadPoolExecutor(arguments.workers)
        self.images = [draw_page(number) for number in range(8)]

    def load(self) -> VisRAGRetModel:
        folder, size = self.arguments.checkpoint, self.arguments.size or ("real" if self.gpu else "small")
        if folder is None:
            return VisRAGRetModel.random(SIZES[size], device=self.device, dtype=self.dtype)
        config = parse_config(read_json(folder / "config.json"))
        return VisRAGRetModel.from_folder(folder, config, device=self.device, dtype=self.dtype)

    def make_preparer(self, folder: Path) -> Preparer:
        config = self.config
        slicing = Slicing(config.max_slice_nums, config.scale_resolution, config.tower.patch_size, config.slice_mode)
        resize = RESIZERS[self.arguments.resize]
        return Preparer(LlamaTokenizer(folder), slicing, config.query_num, 2048, resize)

    def median(self, work: Callable[[], object]) -> float:
        """Seconds, after one run that does not count."""
        return self.medians(work)[0]

    def medians(self, *works: Callable[[], object]) -> list[float]:
        """Seconds each; the works take turns, so that a busy machine is as unkind to all."""
        for work in works:
            work()
        seconds: list[list[float]] = [[] for _ in works]
        for _ in range(self.arguments.repeats):
            for work, times in zip(works, seconds, strict=True):
                self.wait()
                start = time.perf_counter()
                work()
                self.wait()
                times.append(time.perf_counter() - start)
        return [statistics.median(times) for times in seconds]

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def batched(self, count: int) -> list[np.ndarray]:
        pages = (self.images[number % len(self.images)] for number in range(count))
        return self.runner.embed(prefetch(pages, self.preparer.picture_item, self.pool, 4 * self.arguments.workers))

    @torch.inference_mode()
    def plain(self, count: int) -> list[np.ndarray]:
        """The published way: one page after the other, one slice after the other."""
        embeddings = []
        for number in range(count):
            slices, item = self.plain_slices(self.images[number % len(self.images)])
            vectors = torch.cat([self.model.look([PictureGroup(part.to(self.device)[None])]) for part in slices])
            ids = torch.tensor([item.ids], device=self.device)
            targets = torch.cat([torch.arange(*span) for span in item.spans]).to(self.device)
            sources = torch.arange(len(targets), device=self.device)
            lengths = torch.tensor([len(item.ids)], device=self.device)
            embeddings.append(self.model(ids, lengths, vectors, (sources, targets))[0].cpu().numpy())
        return embeddings

    def plain_slices(self, image: Image.Image) -> tuple[list[torch.Tensor], Item]:
        item = Preparer(
            self.preparer.tokenizer, self.preparer.slicing, self.config.query_num, 2048, exact_pixels
        ).picture_item(image)
        parts = [item.pixels[0]]
        for line in np.split(item.pixels[1], item.grid[1]) if len(item.pixels) > 1 else []:
            parts += np.split(line, item.grid[0], axis=1)
        return [torch.from_numpy(part.copy()) for part in parts], item


def published_prepare(image: Image.Image, slicing: Slicing) -> list[torch.Tensor]:
    """Slices as float tensors, made the way the published code does it: two resizes, crops, one tensor each."""
    plan = plan_slices(*image.size, slicing)
    page = image.convert("RGB")
    parts = [page.copy().resize(plan.overview, Image.Resampling.BICUBIC)]
    if plan.refined and plan.grid and plan.slice_size:
        refined = page.resize(plan.refined, Image.Resampling.BICUBIC)
        (columns, rows), (wide, tall) = plan.grid, plan.slice_size
        boxes = [(x * wide, y * tall, (x + 1) * wide, (y + 1) * tall) for y in range(rows) for x in range(columns)]
        parts += [refined.crop(box) for box in boxes]
    arrays = [torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous() for part in parts]
    return [array.float().div(255).sub(0.5).div(0.5) for array in arrays]


def flops_of_page(config: VisRAGRetConfig, slices: list[int], tokens: int) -> dict[str, float]:
    """Multiply-adds, counted twice, of one page by stage; `slices` are patches of each slice."""
    tower, decoder, patches = config.tower, config.decoder, sum(slices)
    width, deep = tower.embed_dim, decoder.hidden_size
    squares = sum(length**2 for length in slices)
    block = 2 * patches * (4 * width**2 + 2 * width * tower.intermediate_size) + 4 * squares * width
    kv = decoder.num_key_value_heads * decoder.head_size
    layer = 2 * tokens * (2 * deep**2 + 2 * deep * kv + 3 * deep * decoder.intermediate_size) + 2 * tokens**2 * deep
    queries = len(slices) * config.query_num
    resampler = 2 * patches * (width * deep + 2 * deep**2) + 4 * config.query_num * patches * deep
    return {
        "tower": tower.blocks * block + 2 * patches * 3 * tower.patch_size**2 * width,
        "resampler": resampler + 2 * queries * 2 * deep**2,
        "decoder": decoder.num_hidden_layers * layer,
    }


def measured_peak(bench: Bench) -> float:
    """FLOP/s of a large matrix product of the same type on the same device."""
    side = 8192 if bench.gpu else 1536
    left = torch.randn(side, side, device=bench.device, dtype=bench.dtype)
    times = 10 if bench.gpu else 2

    def multiply() -> None:
        for _ in range(times):
            left @ left

    return times * 2 * side**3 / bench.median(multiply)


def time_prepare(bench: Bench) -> None:
    """Milliseconds a page on one core."""
    image, slicing = bench.images[0], bench.preparer.slicing
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ways: dict[str, Callable[[], object]] = {"published": lambda: published_prepare(image, slicing)}
    plan = plan_slices(*image.size, slicing)
    ways |= {name: (lambda resize=resize: resize(image.convert("RGB"), plan)) for name, resize in RESIZERS.items()}
    seconds = dict(zip(ways, bench.medians(*ways.values()), strict=True))
    torch.set_num_threads(threads)
    for name, value in seconds.items():
        ratio = seconds["published"] / value
        print(f"prepare    {name:10s} {1e3 * value:8.1f} ms a page and core   {ratio:5.2f} x published")


@torch.inference_mode()
def time_stages(bench: Bench, count: int, peak: float) -> dict[str, float]:
    """Tower, resampler and decoder by themselves, on one batch; FLOP of a page by stage."""
    model, config = bench.model, bench.config
    items = [bench.preparer.picture_item(bench.images[number % 8]) for number in range(min(count, 8))]
    patch = config.tower.patch_size
    grids, slices = [], []
    for item in items:
        for part, pixels in enumerate(item.pixels):
            columns, rows = item.grid if part else (1, 1)
            grids += [(pixels.shape[0] // rows // patch, pixels.shape[1] // columns // patch)] * (columns * rows)
    slices = [rows * columns for rows, columns in grids]
    order = sorted(range(len(slices)), key=lambda index: slices[index])
    grids, runs = [grids[index] for index in order], [(slices.count(length), length) for length in sorted(set(slices))]
    patches = torch.randn(sum(slices), 3 * patch**2, device=bench.device, dtype=bench.dtype)
    seen = model.vpm(patches, grids, runs)
    ids = torch.tensor([item.ids for item in items], device=bench.device)
    embedded = model.embed_tokens(ids)
    works = {
        "tower": lambda: model.vpm(patches, grids, runs),
        "resampler": lambda: model.resampler(seen, grids, runs),
        "decoder": lambda: model.llm(embedded),
    }
    flops = flops_of_page(config, slices[: len(slices) // len(items)], len(items[0].ids))
    for name, work in works.items():
        seconds = bench.median(work) / len(items)
        share = flops[name] / seconds / peak
        print(
            f"{name:10s} {1 / seconds:8.2f} pages/s   {flops[name] / 1e9:8.1f} GFLOP a page   {share:5.1%} of the peak"
        )
    return flops


def time_whole(bench: Bench, count: int, flops: float, peak: float) -> None:
    plain_count = max(1, count // 8) if bench.gpu else count
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
    batched, plain = bench.medians(lambda: bench.batched(count), lambda: bench.plain(plain_count))
    rate, plain_rate = count / batched, plain_count / plain
    print(f"whole      {rate:8.2f} pages/s   {rate * flops / peak:5.1%} of the peak   {rate / plain_rate:5.2f} x plain")
    print(f"plain      {plain_rate:8.2f} pages/s")
    table.keep("VisRAG-Ret: pages", rate, "pages/s", plain_rate)
    table.keep("VisRAG-Ret: share of the measured peak", 100 * rate * flops / peak, "%")
    cosine = least_cosine(bench.batched(2), bench.plain(2))
    print(f"           cosine of both runs' embeddings: {cosine:.6f}")
    table.keep("VisRAG-Ret: least cosine to page by page", cosine)


def time_queries(bench: Bench, count: int) -> None:
    texts = [INSTRUCTION + "what was the margin of region " + "north " * (number % 12) for number in range(count)]

    def prepare() -> list[Item]:
        return [bench.preparer.text_item(text) for text in texts]

    items = prepare()
    # On a GPU one alone takes as long as dozens together: all of them, one by one, would take most of the time.
    few = items[:: 8 if bench.gpu else 1]
    together, alone, prepared = bench.medians(
        lambda: bench.runner.embed_sorted(items), lambda: [bench.runner.embed([item]) for item in few], prepare
    )
    rate, alone_rate = count / together, len(few) / alone
    table.keep("VisRAG-Ret: queries", rate, "queries/s", alone_rate)
    print(f"queries    {rate:8.1f} queries/s   {rate / alone_rate:5.2f} x one by one")
    print(f"           {1e3 * prepared / count:8.3f} ms a query to tokenise, {1e3 / alone_rate:.1f} ms for one alone")


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    bench = Bench(arguments)
    name = (
        torch.cuda.get_device_name()
        if bench.gpu
        else f"{platform.processor() or 'cpu'}, {torch.get_num_threads()} threads"
    )
    weights = sum(weight.numel() for weight in bench.model.parameters())
    print(f"{name}; torch {torch.__version__}; {bench.dtype}; {weights / 1e6:.0f} M weights; resize={arguments.resize}")
    peak = measured_peak(bench)
    print(f"peak       {peak / 1e12:8.2f} TFLOP/s measured on a large matrix product")
    table.keep(f"peak of a large matrix product, {str(bench.dtype).removeprefix('torch.')}", peak / 1e12, "TFLOP/s")
    count = arguments.pages or (64 if bench.gpu else 4)
    time_prepare(bench)
    flops = time_stages(bench, count, peak)
    time_whole(bench, count, sum(flops.values()), peak)
    time_queries(bench, arguments.queries or (512 if bench.gpu else 32))
    if bench.gpu:
        peak_bytes, place = torch.cuda.max_memory_allocated(), "on the device"
    else:
        scale = 1 if sys.platform == "darwin" else 1024
        peak_bytes, place = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale, "in the process"
    print(f"memory     {peak_bytes / 2**30:8.2f} GiB at most {place}")
    table.keep(f"VisRAG-Ret: memory at most {place}, embedding", peak_bytes / 2**30, "GiB")


if __name__ == "__main__":
    main()
