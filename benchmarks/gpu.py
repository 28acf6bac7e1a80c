"""Every figure that needs a GPU, in under eight minutes on one H100 or H200, without downloads, as Markdown.

    python benchmarks/gpu.py > gpu.md
    python benchmarks/gpu.py --out gpu.md              # rows are printed as they come, and a kill leaves them in gpu.md
    python benchmarks/gpu.py --only training halving
    python benchmarks/gpu.py --seconds 120 --total 460 # a slow machine: more for one section, no more for all
    python benchmarks/gpu.py --quick                   # tiny sizes, on a processor too: only whether it runs

Weights are random and of the published sizes. Each section is a process of its own with a time limit of its own: one
that fails, or takes too long, is said and costs no other its figures. Exit code 1: a section failed.

- golden (`gpu_golden.py`): the tests' tiny networks in float32 and bfloat16 against numbers that are known to be right:
  whether anything is silently wrong on a GPU.
- encoder (`visrag_ret.py`): VisRAG-Ret in bfloat16, pages/s against page by page, the share of the peak that a large
  matrix product reaches on the same card in the same process, queries/s against one by one, memory.
- answers-transformers (`gpu_answers.py`): EVisRAG's size on transformers, questions a minute, 3 A4 pages each.
- training (`training.py speed`): a step of the retriever with GradCache and recomputing, seconds, memory.
- late-interaction (`gpu_late.py`): ColQwen2 and ColModernVBERT, pages/s and queries/s against one by one.
- evidence-training (`gpu_evidence.py`): readers and the agent, all stages, tiny.
- halving: a batch far beyond the memory that the process may take; the device's own error halves it, and the vectors
  must be those of usual batches.
- rerankers (`gpu_rerankers.py`): pairs/s of a text and of a page reranker.
- answers (`generation.py --size 7b`): EVisRAG's size, questions a minute, all at once against one by one; with vLLM.
  Where it is installed, answers-transformers is left out.
- reader-3b (`gpu_evidence.py --large`): RS-GRPO at 3B's size, two minutes by itself; only where `--only` names it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import logging
import platform
import subprocess
from pathlib import Path

import table
from sections import Report, Section, run_all

_GIB = 2**30


# The seconds together are less than eight minutes, and the most important figures come first. They are what an H200
# needed, and a little; on another card say `--seconds 120`, and `--total` still ends all of it in time.
SECTIONS = (
    Section("golden", ("gpu_golden.py",), ("gpu_golden.py", "--only", "VisRAG-Ret", "losses", "colqwen2"), 80),
    Section(
        "encoder",
        ("visrag_ret.py", "--size", "real", "--dtype", "bfloat16", "--pages", "64", "--repeats", "3"),
        ("visrag_ret.py", "--size", "tiny", "--device", "cpu", "--pages", "2", "--queries", "4", "--repeats", "1"),
        55,
    ),
    Section(
        "answers-transformers",
        ("gpu_answers.py", "--size", "7b", "--questions", "3", "--tokens", "64"),
        ("gpu_answers.py", "--size", "tiny", "--questions", "2", "--tokens", "6", "--pages", "1"),
        70,
    ),
    Section(
        "training",
        ("training.py", "speed", "--size", "real", "--batch", "32", "--micro", "4", "--runs", "1",
         "--only-checkpointing"),
        ("training.py", "speed", "--size", "tiny", "--device", "cpu", "--batch", "4", "--micro", "2", "--runs", "1",
         "--only-checkpointing"),
        45,
    ),
    Section("late-interaction", ("gpu_late.py",), ("gpu_late.py", "--quick", "--pages", "4", "--queries", "6"), 75),
    Section("evidence-training", ("gpu_evidence.py", "--tiny"), ("gpu_evidence.py", "--tiny", "--steps", "2"), 45,
            needs="trl"),
    Section("halving", ("gpu.py", "--halve", "real"), ("gpu.py", "--halve", "tiny"), 32),
    Section("rerankers", ("gpu_rerankers.py",), ("gpu_rerankers.py", "--quick", "--pairs", "8"), 50,
            needs="sentence_transformers"),
    Section(
        "answers",
        ("generation.py", "--size", "7b", "--questions", "32", "--tokens", "128", "--repeats", "1"),
        ("generation.py", "--questions", "2", "--tokens", "4", "--repeats", "1"),
        90,
        needs="vllm",
    ),
)  # fmt: skip
LONG = (
    Section("reader-3b", ("gpu_evidence.py", "--large"), ("gpu_evidence.py", "--large", "--quick"), 150, needs="trl"),
)
TOTAL_S = 475.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[section.name for section in SECTIONS + LONG])
    parser.add_argument("--quick", "--dry-run", action="store_true", help="tiny sizes, on a processor too")
    parser.add_argument("--seconds", type=float, help="for every section, in place of its own limit; quick: 600")
    parser.add_argument("--total", type=float, help=f"seconds for all; {TOTAL_S:g}, quick: no limit")
    parser.add_argument("--out", type=Path, help="a file for the Markdown, whole after every row")
    parser.add_argument("--halve", choices=("real", "tiny"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.halve:
        return halve(options.halve)
    head = heading()
    print(head, flush=True)
    wanted = sections_of(options.only)
    total = options.total
    if total is None and not options.quick:
        total = TOTAL_S
    report = Report(head, options.out)
    return run_all(wanted, quick=options.quick, seconds=options.seconds, total=total, report=report)


def sections_of(names: list[str] | None) -> list[Section]:
    """Those that are named; else all that together take less than eight minutes."""
    if names:
        return [section for section in SECTIONS + LONG if section.name in names]
    left_out = "answers" if importlib.util.find_spec("vllm") is None else "answers-transformers"
    return [section for section in SECTIONS if section.name != left_out]


def heading() -> str:
    """The card, its driver, and the versions."""
    import torch

    what = f"{platform.processor() or platform.machine()}, no GPU"
    if torch.cuda.is_available():
        what = f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / _GIB:.0f} GiB"
        what += f", driver {driver()}, CUDA {torch.version.cuda}"
    versions = [f"torch {torch.__version__}"]
    for package in ("transformers", "sentence_transformers", "trl", "vllm"):
        if importlib.util.find_spec(package) is not None:
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return f"### {what}\n\n{', '.join(versions)}; Python {platform.python_version()}; random weights.\n"


def driver() -> str:
    """Its version; "unknown" where it does not say."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:  # a container may have the driver without its program
        return "unknown"
    return asked.stdout.split("\n")[0].strip() or "unknown"


def halve(size: str) -> int:
    """A batch that does not fit is halved until it does, and gives the vectors of usual batches."""
    from comparing import least_cosine
    from visrag_ret import SIZES, TINY, draw_page

    from visrag_integrations.embedders.devices import choose_device, choose_dtype
    from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
    from visrag_integrations.embedders.minicpm_inputs import Preparer, exact_pixels
    from visrag_integrations.embedders.minicpm_runner import Runner
    from visrag_integrations.embedders.slicing import Slicing
    from visrag_integrations.models.visrag_ret import VisRAGRetModel

    logging.basicConfig(level=logging.WARNING)
    device = choose_device(None if size == "real" else "cpu")
    model = VisRAGRetModel.random(SIZES[size], device=device, dtype=choose_dtype(None, device))
    config = model.config
    slicing = Slicing(config.max_slice_nums, config.scale_resolution, config.tower.patch_size, config.slice_mode)
    preparer = Preparer(LlamaTokenizer(TINY), slicing, config.query_num, 2048, exact_pixels)
    items = [preparer.picture_item(draw_page(number)) for number in range(8)]
    if size == "real":
        items *= 16
    usual = Runner(model, None, None).embed(items)
    everything = Runner(model, None, 1 << 30)  # no limit but the memory's
    if device.type == "cuda":
        limit_memory(2 * _GIB)
    else:
        pretend_to_hold(everything, 3)
    halved = everything.embed(items)
    cosine = least_cosine(usual, halved)
    place = "on the device" if device.type == "cuda" else "pretended, there is no GPU"
    table.keep(f"halving ({place}): pages of the batch that was too large", len(items))
    table.keep("halving: pages of a batch that was held", everything.batch_size)
    table.keep("halving: least cosine to usual batches", cosine)
    if everything.batch_size >= len(items):
        print("The batch was held whole: nothing was halved, so that this shows nothing.")
        return 1
    if not cosine >= 0.999:  # bfloat16 in batches of other sizes: 0.9999 between page by page and batches
        print(f"The vectors are others: the least cosine is {cosine:.6f}.")
        return 1
    return 0


def limit_memory(above: int) -> None:
    """From now on the device gives this process so much above what it holds, then its own error."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((held + above) / total)


def pretend_to_hold(runner: object, most: int) -> None:
    """Without a GPU: more than so many pages at once fail as they would on one."""
    launch = runner.launch  # type: ignore[attr-defined]

    def launch_some(batch: list[object]) -> list[object]:
        if len(batch) > most:
            raise RuntimeError("CUDA out of memory (pretended)")
        return launch(batch)  # type: ignore[no-any-return]

    runner.launch = launch_some  # type: ignore[attr-defined]


if __name__ == "__main__":
    raise SystemExit(main())
