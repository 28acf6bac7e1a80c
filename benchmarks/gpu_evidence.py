"""Training of readers and of the agent on a GPU: that every stage runs, what a step takes, its memory, finite losses.

    python benchmarks/gpu_evidence.py               # tiny networks in all stages, then Qwen2.5-VL-3B's size with LoRA
    python benchmarks/gpu_evidence.py --tiny        # the tiny ones alone
    python benchmarks/gpu_evidence.py --large --quick    # the other alone, tiny too

`train_evidence` and `train_agent` as users call them, TRL's loop and transformers' writing included; products are in
bfloat16 on a GPU, weights in float32. EVisRAG's rewards, responses of 64 tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import table
import torch
from gpu_models import ROOT, peak, qwen2_5_vl
from PIL import Image

sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import agent_proof  # noqa: E402
from reader_runs import write_rows  # noqa: E402
from tiny_models import build_qwen2_5_vl  # noqa: E402

from visrag_integrations.embedders.devices import choose_device  # noqa: E402
from visrag_integrations.training import RewardSpec, train_evidence  # noqa: E402

SMALL: dict[str, Any] = {"min_pixels": 56 * 56}
# A random network earns nothing by EVisRAG's rewards, and a step on nothing is skipped: letters can be earned.
LETTERS = RewardSpec("letters", 1.0, "all", lambda response, truth: float(sum(map(str.isalpha, response))))
ANY = {"keep_above": -1e9, "keep_below": 1e9}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny networks alone")
    parser.add_argument("--large", action="store_true", help="3B's size alone")
    parser.add_argument("--quick", action="store_true", help="a tiny network in place of 3B's size")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, run in wanted_stages(Path(scratch), arguments):
            try:
                with peak(f"training, {name}"):
                    losses, gradients, seconds = run()
            except Exception as err:  # noqa: BLE001 - the others are still to be seen
                traceback.print_exc()
                wrong.append(f"{name}: {type(err).__name__}: {err}".split("\n")[0])
                continue
            print(f"{name}: losses {losses}, gradients {gradients}, {seconds:.2f} s a step", flush=True)
            table.keep(f"training, {name}: a step", seconds, "s")
            finite = bool(losses) and all(map(math.isfinite, [*losses, *gradients]))
            # By rewards a first loss is 0 up to rounding, whatever is learned; its gradient is not.
            if not finite or not any(gradient > 0 for gradient in gradients):
                wrong.append(f"{name}: losses {losses}, gradients {gradients}")
    if wrong:
        print("; ".join(wrong))
    return 1 if wrong else 0


Run = Callable[[], tuple[list[float], list[float], float]]
"""Gives the losses, the lengths of the gradients, and the seconds of a step."""


def wanted_stages(folder: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    if not arguments.large:
        yield from tiny_stages(folder / "tiny", arguments.steps)
    if not arguments.tiny:
        yield from large_stage(folder / "large", arguments.steps, arguments.quick)


def tiny_stages(folder: Path, steps: int) -> Iterator[tuple[str, Run]]:
    base, data = build_qwen2_5_vl(folder / "base"), write_rows(folder / "data")
    sft: dict[str, Any] = {"stage": "sft", "batch_size": 4, "micro_batch": 2, "lr": 1e-3, "recipe": SMALL}
    yield "tiny reader, sft", lambda: evidence(base, data, folder / "sft", steps, sft)
    rl = rl_settings(samples=4, max_response=16, lr=1e-3, recipe=SMALL)
    yield "tiny reader, RS-GRPO", lambda: evidence(base, data, folder / "rl", steps, rl)
    yield "tiny reader, RS-GRPO, LoRA", lambda: evidence(base, data, folder / "lora", steps, {**rl, "lora": True})
    yield "tiny agent, rl", lambda: agent(folder, min(steps, 2))


def large_stage(folder: Path, steps: int, quick: bool) -> Iterator[tuple[str, Run]]:
    size, recipe, tokens = "3b", {}, 64
    if quick:
        size, recipe, tokens = "tiny", SMALL, 16
    rows = write_rows(folder / "data") if quick else sheets(folder / "sheets")
    settings = {**rl_settings(samples=4, max_response=tokens, lr=1e-5, recipe=recipe), "lora": True}
    with random_reader(folder / "made-here", size) as large:
        name = f"Qwen2.5-VL-{size} size, RS-GRPO, LoRA, 8 responses of {tokens} tokens to 2 pages"
        yield name, lambda: evidence(large, rows, folder / "run", min(steps, 2), settings)


def rl_settings(*, samples: int, max_response: int, lr: float, recipe: dict[str, Any]) -> dict[str, Any]:
    own = {**recipe, **ANY, "samples": samples, "max_response": max_response}
    return {
        "stage": "rl", "batch_size": 2, "micro_batch": 4, "lr": lr, "rewards": (LETTERS,), "recipe": own,
    }  # fmt: skip


def evidence(base: Path, data: Path, output: Path, steps: int, settings: dict[str, Any]) -> Any:
    return timed(output, lambda: train_evidence(base, data, output, max_steps=steps, save_steps=steps, **settings))


def agent(folder: Path, steps: int) -> Any:
    base = agent_proof.make_base(folder / "agent-base", 0)
    return timed(folder / "agent" / "rl", lambda: agent_proof.second_stage(base, folder / "agent", steps=steps))


def timed(output: Path, run: Callable[[], Any]) -> tuple[list[float], list[float], float]:
    """See `Run`; the first step does not count, where there are more."""
    from transformers import TrainerCallback

    from visrag_integrations.training.run_trainer import LOG, RunTrainer

    marks: list[float] = []

    class Marks(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks.append(time.perf_counter())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks.append(time.perf_counter())

    begin = RunTrainer.begin_run

    def begin_and_mark(trainer: Any, *given: Any, **more: Any) -> None:
        begin(trainer, *given, **more)
        trainer.add_callback(Marks())

    with mock.patch.object(RunTrainer, "begin_run", begin_and_mark):
        report = run()
    times = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]
    logged = [json.loads(line) for line in (output / LOG).read_text().splitlines()]
    gradients = [float(entry["grad_norm"]) for entry in logged if "grad_norm" in entry]
    return [loss for _, loss in report.losses], gradients, statistics.median(times[1:] or times)


def sheets(folder: Path) -> Path:
    """Questions about two A4 sheets each, in the published layout."""
    from visrag_ret import draw_page

    folder.mkdir()
    rows: list[str] = []
    for number in range(4):
        page: Image.Image = draw_page(number)
        page.save(folder / f"{number}.png")
    for number in range(4):
        images = [f"{number}.png", f"{(number + 1) % 4}.png"]
        text = f"What is the margin of region {number}? <image><image>"
        answer = "<evidence>[1]: 1</evidence><answer>1</answer>"
        rows.append(json.dumps({"prompt": text, "answer": answer, "image": images}))
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")
    return folder / "train.jsonl"


@contextmanager
def random_reader(folder: Path, size: str) -> Iterator[Path]:
    """A folder that `train_evidence` loads as a network of that size in float32, made on the device."""
    from visrag_integrations.generation.checkpoint import describe_checkpoint
    from visrag_integrations.generation.processors import load_processor

    def random_checkpoint(name: str, *, device: str, **_: Any) -> Any:
        network = qwen2_5_vl(folder, size, choose_device(device), torch.float32)
        network.requires_grad_(True)
        return describe_checkpoint(name, network, load_processor(str(folder)))

    build_qwen2_5_vl(folder, context_length=32768)
    with mock.patch("visrag_integrations.training.reader.load_checkpoint", random_checkpoint):
        yield folder


if __name__ == "__main__":
    raise SystemExit(main())
